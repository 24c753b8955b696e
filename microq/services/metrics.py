"""What a service tells Prometheus; imported at the first scrape, for the client costs 30 ms and some memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from microq import prometheus
from microq.latency import BOUNDS, Latencies
from microq.services.health import COUNTERS, Health

_LABELS = [f"{bound:.3g}" for bound in BOUNDS]
"""The bounds as people write them; the last bucket is all the rest."""


def exposition(health: Health, accept: str) -> tuple[bytes, str]:
    """Return the metrics of a service, and their content type, in the format that an Accept header asks for."""
    # Of several workers the one that answers says what all of them count; what the kernel says of it is its own alone.
    return prometheus.exposition(lambda: _families(health), accept, of_this_process=health.workers == 1)


def _families(health: Health) -> Iterator[Metric]:
    ready, held, counters = health.ready(), health.held(), health.counters
    yield GaugeMetricFamily("microq_ready", "Whether the service can do its work now.", value=int(ready))
    if held is not None:
        told = "Messages that a messages-service shows, or entries that a logging-service wrote since its start."
        yield GaugeMetricFamily("microq_messages_held", told, value=held)
    if (full := health.full()) is not None:
        told = "Whether the messages-service holds as many messages as it may, and receives none."
        yield GaugeMetricFamily("microq_full", told, value=int(full))
    for name, told in COUNTERS[health.role].items():
        yield CounterMetricFamily(f"microq_{name}", told, value=counters[name])
    if latency := health.latency:
        yield _histogram(latency)


def _histogram(latency: Latencies) -> Metric:
    counts = list(accumulate(latency.counts))
    buckets = list(zip([*_LABELS, "+Inf"], counts, strict=True))
    told = "Seconds from a message's arrival at the facade to its acknowledgement."
    return HistogramMetricFamily("microq_acknowledge_seconds", told, buckets=buckets, sum_value=latency.sum)
