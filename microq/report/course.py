"""The course of a run, from its history alone: the way of each message, the hits, the longest wait.

All times are seconds since the first fault, or since the beginning of a run without a fault.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from microq.chaos.checker import longest_wait
from microq.chaos.evidence import Evidence
from microq.chaos.history import Entry
from microq.errors import UsageError
from microq.message import Outcome

OVER = "the fault is over"
"""The step that ends a fault under traffic; with the consumers off, the last step ends it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One send: its outcome, the time `at` of the outcome, and its duration in seconds."""

    at: float
    seconds: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Way:
    """The way of one message, the `number`-th that was sent; None: it did not happen."""

    number: int
    id: str
    sent: float
    attempts: int
    acknowledged: float | None
    stored: float | None
    by: str
    """The instance that stored it."""
    shown: int
    """The number of times that all consumers showed it."""

    @property
    def smooth(self) -> bool:
        """Whether it was sent once and stored once."""
        return self.attempts == 1 and self.acknowledged is not None and self.shown == 1


@dataclass(frozen=True, slots=True)
class Mark:
    """A hit of the fault, or a step that was observed after it."""

    number: int
    at: float
    what: str
    hit: bool


@dataclass(frozen=True, slots=True)
class Course:
    """The whole course; `band` is from the first hit to the end of the fault, `gap` is the longest wait."""

    ways: tuple[Way, ...]
    attempts: tuple[Attempt, ...]
    marks: tuple[Mark, ...]
    band: tuple[float, float] | None
    gap: tuple[float, float] | None
    struck_at: float | None
    """The wall time of the first fault, in seconds since the epoch."""
    end: float


def course(entries: Sequence[Entry]) -> Course:
    """Return the course of a run. Raises `UsageError` if a time in it is not finite."""
    if not all(map(math.isfinite, _times(entries))):
        raise UsageError("this history has a time that is not a number")
    record = Evidence(entries)
    fault = next(iter(record.of("fault")), None)
    zero = fault or record.begin
    marks = _marks(entries, zero)
    wait = longest_wait(entries)
    ways = tuple(_ways(record, zero))
    last = max([0.0, *(t for way in ways for t in (way.sent, way.acknowledged, way.stored) if t is not None)])
    return Course(
        ways,
        tuple(_attempts(entries, zero)),
        marks,
        _band(marks),
        (wait[0] - zero.mono, wait[1] - zero.mono) if wait else None,
        fault.wall if fault else None,
        max(last, *(mark.at for mark in marks)) if marks else last,
    )


def _times(entries: Sequence[Entry]) -> Iterator[float]:
    for entry in entries:
        yield from (entry.wall, entry.mono)
        if entry.kind == "shown" and "at" in entry.facts:
            yield entry.facts["at"]


def _marks(entries: Sequence[Entry], zero: Entry) -> tuple[Mark, ...]:
    seen: list[Mark] = []
    for entry in entries:
        if entry.kind == "fault":
            what = f"{entry.facts['fault']} hits {entry.facts['target']}"
        elif entry.kind == "step":
            what = entry.facts["what"]
        else:
            continue
        seen.append(Mark(len(seen) + 1, entry.mono - zero.mono, what, entry.kind == "fault"))
    return tuple(seen)


def _band(marks: Sequence[Mark]) -> tuple[float, float] | None:
    hits = [mark.at for mark in marks if mark.hit]
    if not hits:
        return None
    over = [mark.at for mark in marks if mark.what == OVER] or [mark.at for mark in marks]
    return hits[0], max(over)


def _ways(record: Evidence, zero: Entry) -> Iterator[Way]:
    sends: dict[str, list[float]] = defaultdict(list)
    acknowledged: dict[str, float] = {}
    for entry in record.of("send"):
        sends[entry.facts["id"]].append(entry.mono - zero.mono)
    for entry in record.of("outcome"):
        if entry.facts["outcome"] == Outcome.ACKNOWLEDGED:
            acknowledged.setdefault(entry.facts["id"], entry.mono - zero.mono)
    # Consumers note wall time, which all processes of a machine share.
    # External ones do not tell it: the reading is when it was seen.
    shown: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for entry in record.shown:
        shown[entry.facts["id"]].append((entry.facts.get("at", entry.wall) - zero.wall, entry.facts["instance"]))
    for number, (message, times) in enumerate(sends.items(), 1):
        stored, by = min(shown[message]) if message in shown else (None, "")
        got = len(shown[message]) if message in shown else 0
        yield Way(number, message, times[0], len(times), acknowledged.get(message), stored, by, got)


def _attempts(entries: Sequence[Entry], zero: Entry) -> Iterator[Attempt]:
    begun: dict[str, float] = {}
    for entry in entries:
        if entry.kind == "send":
            begun[entry.facts["id"]] = entry.mono
        elif entry.kind == "outcome" and (since := begun.pop(entry.facts["id"], None)) is not None:
            yield Attempt(entry.mono - zero.mono, entry.mono - since, Outcome(entry.facts["outcome"]))
