"""Metrics in Prometheus's formats, whoever's they are; whoever imports this waits 30 ms for its client library."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

_OPENMETRICS = "application/openmetrics-text"


def exposition(
    families: Callable[[], Iterable[Metric]], accept: str, *, of_this_process: bool = False
) -> tuple[bytes, str]:
    """Return metrics and their content type in the format that an Accept header asks for.

    Those `of_this_process` are what the kernel says of it: memory, time of a processor, open files.
    """
    registry = CollectorRegistry()
    registry.register(_Source(families))
    if of_this_process:
        ProcessCollector(registry=registry)
    # Of the header only the format counts: the library fails on a version that is no number.
    encode, content_type = choose_encoder(f"{_OPENMETRICS}; version=1.0.0" if _OPENMETRICS in accept else "")
    return encode(registry), content_type


class _Source(Collector):
    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return each metric as it is now."""
        return self._families()
