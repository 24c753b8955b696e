"""A snapshot of the whole system for Prometheus; what is unknown is absent, never 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from microq import prometheus
from microq.fleet import UP, ProcessState, Snapshot

Value = float | bool | None
Row = tuple[str, str, Callable[[Any], Value]]
"""A metric's name, what it means, and its value for one thing; a name that ends in `_total` is a counter's."""

_PROCESS: tuple[Row, ...] = (
    ("process_up", "Whether the process exists, paused or not.", lambda p: p.state in UP),
    ("process_ready", "Whether the process is ready to work.", lambda p: p.state is ProcessState.READY),
    ("process_restarts_total", "How often it was started again.", lambda p: p.restarts),
    ("process_start_time_seconds", "When it was started, in seconds since the epoch.", lambda p: p.started_at),
    ("process_resident_memory_bytes", "Memory that it has.", lambda p: p.rss),
    ("process_cpu_seconds_total", "Time of a processor that it used.", lambda p: p.cpu_s),
    ("process_messages_held", "Messages that it shows, or entries that it stored.", lambda p: p.held),
)

_SERVER: tuple[Row, ...] = (
    ("queue_items", "Items of the queue that the server owns.", lambda s: s.items),
    ("queue_backup_items", "Copies of other servers' items that it holds.", lambda s: s.backups),
    ("cluster_members_seen", "Servers of its cluster that it sees, itself included.", lambda s: s.members_seen),
)

_MEMBER: tuple[Row, ...] = (
    ("queue_oldest_item_seconds", "Age of the oldest item that the member owns.", lambda m: m.oldest),
    ("queue_offers_total", "Offers to the queue that it carried out.", lambda m: m.offers),
    ("queue_polls_total", "Polls of the queue that it carried out.", lambda m: m.polls),
    ("queue_rejected_offers_total", "Offers that it rejected.", lambda m: m.rejected),
    ("queue_empty_polls_total", "Polls that found nothing.", lambda m: m.empty_polls),
    ("log_entries", "Entries of the log that it owns.", lambda m: m.log_entries),
    ("log_backup_entries", "Copies of other members' entries of the log that it holds.", lambda m: m.log_backups),
    ("member_partitions", "Partitions of the cluster that it owns.", lambda m: m.partitions),
    ("member_heap_used_bytes", "Heap of its Java that is in use.", lambda m: m.heap_used),
    ("member_heap_max_bytes", "Heap that its Java may use.", lambda m: m.heap_max),
    ("member_gc_collections_total", "Runs of its garbage collector.", lambda m: m.gc_count),
    ("member_gc_seconds_total", "Time that its garbage collector ran.", lambda m: m.gc_seconds),
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
    ("partition_replicas", "Copies of the partition that there should be.", lambda p: p.replicas),
    ("partition_in_sync_replicas", "Copies of it that have everything.", lambda p: len(p.in_sync) or None),
    ("partition_messages", "Messages that wait in it.", lambda p: p.waiting),
)


def exposition(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """Return the system as Prometheus reads it, and the content type, in the format that an Accept header asks for."""
    return prometheus.exposition(lambda: _families(snapshot), accept)


def _families(view: Snapshot) -> Iterator[Metric]:
    yield from _rows(_PROCESS, {"process": "name", "role": "role"}, view.processes)
    yield from _rows(_SERVER, {"process": "name"}, view.servers)
    yield from _rows(_MEMBER, {"process": "name"}, view.members)
    yield from _rows(_QUEUE, {"queue": "name"}, (view.queue,) if view.queue else ())
    yield from _rows(_PARTITION, {"partition": "number"}, view.partitions)
    if view.owners:
        told = "Whether the server holds the primary of the queue, or of a partition of it."
        names = {process.name for process in view.having(view.queue_role)} | view.owners
        rows = [((name,), name in view.owners) for name in sorted(names)]
        yield from _family("queue_owner", told, ["process"], rows)
    lags = [((str(p.number), p.consumer), p.waiting) for p in view.partitions if p.consumer]
    yield from _family("consumer_lag", "Messages that a consumer lags behind.", ["partition", "process"], lags)
    if view.members or view.brokers:
        yield from _family("cluster_safe", "Whether every copy is in place.", [], [((), view.safe)])
    told = "When this was seen, in seconds since the epoch."
    yield from _family("snapshot_time_seconds", told, [], [((), view.taken_at)])


def _rows(rows: Sequence[Row], labels: dict[str, str], things: Sequence[Any]) -> Iterator[Metric]:
    """Yield a metric for each row; `labels` says which attribute of a thing each label has."""
    named = [(tuple(str(getattr(thing, attribute)) for attribute in labels.values()), thing) for thing in things]
    for name, told, value in rows:
        yield from _family(name, told, list(labels), [(words, value(thing)) for words, thing in named])


def _family(
    name: str, told: str, labels: Sequence[str], samples: Sequence[tuple[tuple[str, ...], Value]]
) -> Iterator[Metric]:
    """Yield the metric, unless nothing is known of it."""
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    family = kind(f"microq_{name}", told, labels=labels)
    for words, value in samples:
        if value is not None:
            family.add_metric(words, float(value))
    if family.samples:
        yield family
