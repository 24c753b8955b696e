"""The points of the charts: rates, depth, latencies and memory at one moment, from one look after another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from microq.fleet import FLOW, ProcessView, Role, Snapshot
from microq.latency import between, quantile

Point = dict[str, Any]
"""One moment of the charts as the page gets it; None is unknown."""

MOST = 1800
"""Points of a whole run that the page gets."""


class Pace:
    """Makes points of looks, in their order. A process that does not answer has no rate until it does."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, ProcessView]] = {}

    def point(self, now: Snapshot) -> Point:
        """Return what the charts show at this look; rates are per second since the process was heard before."""
        rates, cpu = {}, {}
        spent: list[int] = []
        for each in now.processes:
            at, early = self._heard.get(each.name, (now.taken_at, each))
            seconds = now.taken_at - at
            if seconds > 0 and each.pid is not None and early.pid == each.pid:
                cpu[each.name] = round(max(0.0, (each.cpu_s or 0.0) - (early.cpu_s or 0.0)) / seconds, 3)
            if not _answers(each):
                continue
            if seconds > 0 and each.role in FLOW:
                count = FLOW[each.role]
                # What a new process counts began at zero.
                since = early.counters.get(count, 0) if early.pid == each.pid else 0
                rates[each.name] = round((each.counters.get(count, 0) - since) / seconds, 2)
                if each.role is Role.FACADE:
                    spent = between(early.latency if early.pid == each.pid else (), each.latency)
            self._heard[each.name] = (now.taken_at, each)
        queue = now.queue
        return {
            "at": now.taken_at,
            "accepted": _sum(rates, now, Role.FACADE),
            "delivered": _sum(rates, now, Role.MESSAGES),
            "depth": queue.size if queue else None,
            "pending": queue.pending if queue else None,
            "redelivered": queue.redelivered if queue else None,
            "dead": queue.dead if queue else None,
            "p50": quantile(spent, 0.5),
            "p99": quantile(spent, 0.99),
            "memory": {each.name: each.rss for each in now.processes if each.rss is not None},
            "cpu": cpu,
            "rates": rates,
        }


def _answers(process: ProcessView) -> bool:
    """Whether the counters are known: servers have none, and the facade has its latencies before the first message."""
    if process.role not in FLOW:
        return process.pid is not None
    return bool(process.latency) if process.role is Role.FACADE else process.held is not None


def _sum(rates: dict[str, float], now: Snapshot, role: Role) -> float | None:
    found = [rates[each.name] for each in now.having(role) if each.name in rates]
    return round(sum(found), 2) if found else None


def thinned(points: Iterable[Point], most: int = MOST) -> list[Point]:
    """Return so many of the points of a run at most: the newest half of those whole, the older ones at intervals."""
    listed = list(points)
    if len(listed) <= most:
        return listed
    recent, older = listed[-(most // 2) :], listed[: -(most // 2)]
    step = -(-len(older) // (most - most // 2))
    return [*older[::step], *recent]
