"""Latencies counted in buckets, and the metrics of a service or of the whole system in Prometheus's formats."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from microq.fleet import UP, ProcessState, Role, Snapshot

if TYPE_CHECKING:
    from prometheus_client import Metric

BOUNDS = tuple(0.00025 * 2 ** (step / 2) for step in range(34))
"""Upper bounds of the buckets in seconds, from 0.25 ms to 23 s, each 1.41 times the one before."""


CELLS = len(BOUNDS) + 2
"""The number of numbers in a `Latencies`."""


class Latencies:
    """A histogram of durations: a count for each of `BOUNDS`, one for all longer durations, and the sum.

    The numbers are kept in `cells`, which may be memory that processes share; the last one is the sum in nanoseconds.
    """

    def __init__(self, cells: list[int] | memoryview | None = None) -> None:
        self._cells = [0] * CELLS if cells is None else cells

    @property
    def counts(self) -> list[int]:
        """The count of each bucket."""
        return list(self._cells[:-1])

    @property
    def sum(self) -> float:
        """The sum of all durations in seconds."""
        return self._cells[-1] / 1e9

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self._cells[bisect_left(BOUNDS, seconds)] += 1
        self._cells[-1] += round(seconds * 1e9)


def between(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Return the counts between two readings; those of the later one if the process was restarted in between."""
    if len(before) != len(after) or any(late < early for early, late in zip(before, after, strict=True)):
        return list(after)
    return [late - early for early, late in zip(before, after, strict=True)]


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Return the quantile in seconds, interpolated within its bucket; None if nothing was counted.

    Durations beyond the last bound count as the last bound.
    """
    rank = share * sum(counts)
    if not rank:
        return None
    place, reached = next((place, reached) for place, reached in enumerate(accumulate(counts)) if reached >= rank)
    if place == len(BOUNDS):
        return BOUNDS[-1]
    lower = BOUNDS[place - 1] if place else 0.0
    return lower + (BOUNDS[place] - lower) * (rank - (reached - counts[place])) / counts[place]


# -- in Prometheus's formats ------------------------------------------------------------------------------------------

_OPENMETRICS = "application/openmetrics-text"


def exposition(
    families: Callable[[], Iterable[Metric]], accept: str, *, of_this_process: bool = False
) -> tuple[bytes, str]:
    """Return metrics and their content type in the format that an Accept header asks for.

    `of_this_process` adds what the kernel reports about this process: memory, processor time, open files.
    """
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector

    class Source(Collector):
        def collect(self) -> Iterable[Metric]:
            return families()

    registry = CollectorRegistry()
    registry.register(Source())
    if of_this_process:
        ProcessCollector(registry=registry)
    # Only the format is passed on: the library fails if the version in the header is not a number.
    encode, content_type = choose_encoder(f"{_OPENMETRICS}; version=1.0.0" if _OPENMETRICS in accept else "")
    return encode(registry), content_type


Value = float | bool | None
Row = tuple[str, str, Callable[[Any], Value]]
"""A metric's name, what it means, and its value for one thing; a name that ends in `_total` is a counter's."""

_PROCESS: tuple[Row, ...] = (
    ("process_up", "Whether the process exists, paused or not.", lambda p: p.state in UP),
    ("process_ready", "Whether the process is ready to work.", lambda p: p.state is ProcessState.READY),
    ("process_restarts_total", "Number of restarts.", lambda p: p.restarts),
    ("process_start_time_seconds", "Start time, in seconds since the epoch.", lambda p: p.started_at),
    ("process_resident_memory_bytes", "Resident memory.", lambda p: p.rss),
    ("process_cpu_seconds_total", "Processor time that it used.", lambda p: p.cpu_s),
    ("process_messages_held", "Messages that it shows, or entries that it stored.", lambda p: p.held),
)

_SERVER: tuple[Row, ...] = (
    ("queue_items", "Items of the queue that the server owns.", lambda s: s.items),
    ("queue_backup_items", "Copies of other servers' items that it holds.", lambda s: s.backups),
    ("cluster_members_seen", "Servers of its cluster that it sees, itself included.", lambda s: s.members_seen),
)

_MEMBER: tuple[Row, ...] = (
    ("queue_oldest_item_seconds", "Age of the oldest item that the member owns.", lambda m: m.oldest),
    ("queue_offers_total", "Offers of a single message that it carried out; a batch counts none.", lambda m: m.offers),
    ("queue_polls_total", "Polls for a single message that it carried out; a batch counts none.", lambda m: m.polls),
    ("queue_rejected_offers_total", "Offers of a single message that it rejected.", lambda m: m.rejected),
    ("queue_empty_polls_total", "Polls for a single message that found nothing.", lambda m: m.empty_polls),
    ("log_entries", "Entries of the log that it owns.", lambda m: m.log_entries),
    ("log_backup_entries", "Copies of other members' entries of the log that it holds.", lambda m: m.log_backups),
    ("member_partitions", "Partitions of the cluster that it owns.", lambda m: m.partitions),
    ("member_heap_used_bytes", "Heap of its JVM that is in use.", lambda m: m.heap_used),
    ("member_heap_max_bytes", "Maximum heap of its JVM.", lambda m: m.heap_max),
    ("member_gc_collections_total", "Runs of its garbage collector.", lambda m: m.gc_count),
    ("member_gc_seconds_total", "Total time of its garbage collector.", lambda m: m.gc_seconds),
    ("member_clients", "Clients that are connected to it.", lambda m: m.clients),
)

_QUEUE: tuple[Row, ...] = (
    ("queue_messages", "Messages that wait in the queue.", lambda q: q.size),
    ("queue_max_messages", "Messages that the queue may hold.", lambda q: q.max_size),
    ("queue_backup_count", "Copies beside the primary that are configured.", lambda q: q.backup_count),
    ("messages_pending", "Accepted messages that are not known to be stored.", lambda q: q.pending),
    ("messages_redelivered", "Messages that were put into the queue again.", lambda q: q.redelivered),
    ("messages_dead", "Dead letters.", lambda q: q.dead),
)

_PARTITION: tuple[Row, ...] = (
    ("partition_replicas", "Configured copies of the partition.", lambda p: p.replicas),
    ("partition_in_sync_replicas", "In-sync copies of the partition.", lambda p: len(p.in_sync) or None),
    ("partition_messages", "Messages that wait in the partition.", lambda p: p.waiting),
)


def of_system(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """Return the metrics of a whole system, as `exposition` does; what is unknown is absent, never 0."""
    return exposition(lambda: _of_system(snapshot), accept)


def _of_system(view: Snapshot) -> Iterator[Metric]:
    yield from _rows(_PROCESS, {"process": "name", "role": "role"}, view.processes)
    yield from _rows(_SERVER, {"process": "name"}, view.servers)
    yield from _rows(_MEMBER, {"process": "name"}, view.members)
    yield from _rows(_QUEUE, {"queue": "name"}, (view.queue,) if view.queue else ())
    yield from _rows(_PARTITION, {"partition": "number"}, view.partitions)
    if view.owners:
        meaning = "Whether the server holds the primary of the queue, or of a partition of it."
        names = {process.name for process in view.having(Role.QUEUE)} | view.owners
        rows = [((name,), name in view.owners) for name in sorted(names)]
        yield from family("queue_owner", meaning, ["process"], rows)
    lags = [((str(p.number), p.consumer), p.waiting) for p in view.partitions if p.consumer]
    yield from family("consumer_lag", "Messages that the consumer has not confirmed.", ["partition", "process"], lags)
    if view.members or view.brokers:
        yield from single("cluster_safe", "Whether every copy that is configured is in place.", view.safe)
        meaning = "Backups of each primary, at most the configured number."
        yield from single("copies", meaning, view.copies)
    meaning = "Time of the snapshot, in seconds since the epoch."
    yield from single("snapshot_time_seconds", meaning, view.taken_at)


def _rows(rows: Sequence[Row], labels: dict[str, str], things: Sequence[Any]) -> Iterator[Metric]:
    """Yield a metric for each row; `labels` says which attribute of a thing each label has."""
    named = [(tuple(str(getattr(thing, attribute)) for attribute in labels.values()), thing) for thing in things]
    for name, meaning, value in rows:
        yield from family(name, meaning, list(labels), [(words, value(thing)) for words, thing in named])


def family(
    name: str, meaning: str, labels: Sequence[str], samples: Sequence[tuple[tuple[str, ...], Value]]
) -> Iterator[Metric]:
    """Yield a metric with a sample for each combination of labels, unless nothing is known of it.

    A name that ends in `_total` is a counter's.
    """
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    metric = kind(f"microq_{name}", meaning, labels=labels)
    for words, value in samples:
        if value is not None:
            metric.add_metric(words, float(value))
    if metric.samples:
        yield metric


_LABELS = [f"{bound:.3g}" for bound in BOUNDS]
"""The bounds of the buckets as text; the last bucket has no bound."""


def histogram(name: str, meaning: str, latencies: Latencies) -> Metric:
    """Return a metric of durations."""
    from prometheus_client.core import HistogramMetricFamily

    buckets = list(zip([*_LABELS, "+Inf"], accumulate(latencies.counts), strict=True))
    return HistogramMetricFamily(f"microq_{name}", meaning, buckets=buckets, sum_value=latencies.sum)


def single(name: str, meaning: str, value: Value) -> Iterator[Metric]:
    """Yield a metric that has no labels, unless its value is unknown."""
    yield from family(name, meaning, [], [((), value)])
