"""The times that a history tells: pure functions, in seconds."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise

from microq.chaos.history import Entry
from microq.message import Outcome


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest of some values that at least this share of them does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def first_acknowledgement(entries: Sequence[Entry]) -> float | None:
    """Return the time from the fault to the first acknowledgement of a message sent after it."""
    fault = _fault(entries)
    if fault is None:
        return None
    late = {entry.facts["id"] for entry in entries if entry.kind == "send" and entry.mono >= fault.mono}
    times = [
        entry.mono
        for entry in entries
        if entry.kind == "outcome" and entry.facts["id"] in late and entry.facts["outcome"] == Outcome.ACKNOWLEDGED
    ]
    return round(min(times) - fault.mono, 3) if times else None


def first_delivery(entries: Sequence[Entry], earlier: Collection[str]) -> float | None:
    """Return the time from the fault to the first storing after it; the processes share the wall clock."""
    fault = _fault(entries)
    if fault is None:
        return None
    times = [
        entry.facts["at"]
        for entry in entries
        if entry.kind == "shown" and entry.facts["id"] not in earlier and entry.facts["at"] >= fault.wall
    ]
    return round(min(times) - fault.wall, 3) if times else None


def longest_silence(entries: Sequence[Entry], earlier: Collection[str]) -> float | None:
    """Return the longest time from the fault on in which nothing was stored, until the last storing."""
    fault = _fault(entries)
    if fault is None:
        return None
    times = sorted(
        entry.facts["at"]
        for entry in entries
        if entry.kind == "shown" and entry.facts["id"] not in earlier and entry.facts["at"] >= fault.wall
    )
    return round(max(later - before for before, later in pairwise([fault.wall, *times])), 3) if times else None


def _fault(entries: Sequence[Entry]) -> Entry | None:
    return next((entry for entry in entries if entry.kind == "fault"), None)


def longest_gap(entries: Sequence[Entry]) -> float | None:
    """Return the longest time in which somebody waited for an acknowledgement and none came."""
    wait = longest_wait(entries)
    return round(wait[1] - wait[0], 3) if wait else None


def longest_wait(entries: Sequence[Entry]) -> tuple[float, float] | None:
    """Return from when to when, in monotonic time, the longest such wait was."""
    waits = []
    waiting: set[str] = set()
    since: float | None = None
    for entry in entries:
        if entry.kind == "send":
            waiting.add(entry.facts["id"])
            since = entry.mono if since is None else since
        elif entry.kind == "outcome":
            waiting.discard(entry.facts["id"])
            if entry.facts["outcome"] == Outcome.ACKNOWLEDGED and since is not None:
                waits.append((since, entry.mono))
                since = entry.mono if waiting else None
    return max(waits, key=lambda wait: wait[1] - wait[0], default=None)
