"""The state for the page: a snapshot with computed values, the points of the charts, and the events."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable
from typing import Any

from microq.caveats import safety
from microq.figures import Figures
from microq.fleet import FLOW, Event, ProcessView, Role, Snapshot, Topic
from microq.metrics import between, quantile


class Memory:
    """Remembers the last figures of each server, and completes snapshots with them."""

    def __init__(self) -> None:
        self.last: dict[str, Figures] = {}

    def complete(self, snapshot: Snapshot) -> dict[str, Any]:
        """Add a snapshot; return it as a JSON object, with computed values, caveats and the last figures."""
        self.last |= {each.name: each for each in snapshot.figures}
        return {
            **snapshot.to_json(),
            "partitioned": snapshot.partitioned,
            "apart": snapshot.map_role is Role.MAPS,
            "words": dataclasses.asdict(snapshot.words),
            "owner": snapshot.owner,
            "owners": sorted(snapshot.owners),
            "safety": safety(snapshot)[1],
            "last": {name: dataclasses.asdict(figures) for name, figures in self.last.items()},
        }


Point = dict[str, Any]
"""One moment of the charts for the page; None: unknown."""

MOST = 1800
"""The largest number of points of a whole run for the page."""


class Pace:
    """Makes points from snapshots, in order. A process that does not answer has no rate until it does."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, ProcessView]] = {}

    def point(self, now: Snapshot) -> Point:
        """Return the point of a snapshot; rates are per second since the last answer of the process."""
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
                # The counters of a new process began at 0.
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
    """Return whether the counters are known: servers have none; the facade has latencies before the first message."""
    if process.role not in FLOW:
        return process.pid is not None
    return bool(process.latency) if process.role is Role.FACADE else process.held is not None


def _sum(rates: dict[str, float], now: Snapshot, role: Role) -> float | None:
    found = [rates[each.name] for each in now.having(role) if each.name in rates]
    return round(sum(found), 2) if found else None


def thinned(points: Iterable[Point], most: int = MOST) -> list[Point]:
    """Return at most `most` points of a run: the newest half of them complete, the older ones thinned."""
    listed = list(points)
    if len(listed) <= most:
        return listed
    recent, older = listed[-(most // 2) :], listed[: -(most // 2)]
    step = -(-len(older) // (most - most // 2))
    return [*older[::step], *recent]


NEWEST = 500
"""The number of events that the page gets when it opens."""

ENDS = frozenset({"verdict", "failed"})
"""Kinds of event that end a scenario."""


class Story:
    """The newest events, and those of one scenario."""

    def __init__(self) -> None:
        self.events: deque[dict[str, Any]] = deque(maxlen=NEWEST)
        self._scenario: list[dict[str, Any]] = []

    def hear(self, event: Event) -> dict[str, Any]:
        """Add an event, and return it as a JSON object."""
        body = event.to_json()
        self.events.append(body)
        if event.topic is Topic.SCENARIO:
            if not self._scenario or self._scenario[0]["name"] != event.name:
                self._scenario = []
            self._scenario.append(body)
        return body

    @property
    def running(self) -> bool:
        """Whether a scenario runs."""
        return bool(self._scenario) and self._scenario[-1]["kind"] not in ENDS

    def scenario(self) -> dict[str, Any] | None:
        """Return the running or last scenario for the page."""
        if not self._scenario:
            return None
        return {"name": self._scenario[0]["name"], "running": self.running, "events": self._scenario}
