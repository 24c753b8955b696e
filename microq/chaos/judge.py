"""The judge: a pure function of a history. After Jepsen's total-queue checker, and stricter: duplicates fail.

It imports nothing of Hazelcast, Kafka or the network, and is proved with histories that must fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from microq.chaos import timing
from microq.chaos.history import Entry, Kind
from microq.errors import UsageError
from microq.fleet import Role
from microq.message import Outcome


class Ruling(StrEnum):
    """What a history proves."""

    PASS = "pass"  # noqa: S105 - a verdict, no secret
    FAIL = "fail"
    UNKNOWN = "unknown"


Copies = dict[str, list[int]]
"""Member -> [items it owns, items it backs up]."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that was injected; `owner` says whether it hit the queue's primary owner, `seen` that it happened."""

    fault: str
    target: str
    owner: bool
    seen: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a history proves, and the counts and ids it rests on. Times are in seconds."""

    scenario: str
    queue: str
    verdict: Ruling
    reasons: tuple[str, ...]
    cues: tuple[str, ...]
    attempted: int
    acknowledged: int
    rejected: int
    indeterminate: int
    stored: int
    logged: int
    lost: tuple[str, ...]
    unlogged: tuple[str, ...]
    unexpected: tuple[str, ...]
    duplicated: tuple[str, ...]
    recovered: tuple[str, ...]
    by_consumer: dict[str, int]
    by_logger: dict[str, int]
    copies_before: Copies
    copies_after: Copies
    faults: tuple[Fault, ...]
    first_acknowledgement_s: float | None
    first_delivery_s: float | None
    longest_gap_s: float | None
    duration_s: float

    def to_json(self, history: str) -> dict[str, Any]:
        """Return the verdict as `--json` prints it, with the path of its history."""
        return {**asdict(self), "history": history}


class _Record:
    """A history sorted by what its events are about."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.begin = self._first("begin")
        self.earlier = {i for entry in self.of("earlier") for i in entry.facts["ids"]}
        self.sent = [entry.facts["id"] for entry in self.of("send")]
        self.outcomes = {entry.facts["id"]: Outcome(entry.facts["outcome"]) for entry in self.of("outcome")}
        self.shown = [entry for entry in self.of("shown") if entry.facts["id"] not in self.earlier]
        self.logged = [entry for entry in self.of("logged") if entry.facts["id"] not in self.earlier]
        struck = {entry.facts["target"] for entry in self.of("struck")}
        self.faults = [
            Fault(entry.facts["fault"], entry.facts["target"], entry.facts["owner"], entry.facts["target"] in struck)
            for entry in self.of("fault")
        ]

    def of(self, kind: Kind) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]

    def _first(self, kind: Kind) -> Entry:
        found = self.of(kind)
        if not found:
            raise UsageError(f"this history has no event {kind!r}; it is not whole")
        return found[0]

    def copies(self, when: str) -> Copies:
        found = [entry for entry in self.of("copies") if entry.facts["when"] == when]
        members = found[-1].facts["members"] if found else {}
        return {name: [owned, backups] for name, (owned, backups) in members.items()}

    def having(self, outcome: Outcome) -> set[str]:
        # A send that has no outcome was cut short: nobody knows.
        return {i for i in self.sent if self.outcomes.get(i, Outcome.INDETERMINATE) is outcome}


def judge(entries: Sequence[Entry]) -> Verdict:
    """Return what a history proves. Raises `UsageError` if it is no whole history."""
    try:
        return _judge(_Record(entries))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"an event of this history lacks a fact: {error}") from error


def _judge(record: _Record) -> Verdict:
    acknowledged, rejected, indeterminate = (
        record.having(o) for o in (Outcome.ACKNOWLEDGED, Outcome.REJECTED, Outcome.INDETERMINATE)
    )
    attempted = set(record.sent)
    times_shown = Counter(entry.facts["id"] for entry in record.shown)
    stored = set(times_shown)
    logged = _logged_everywhere(record)
    lost = acknowledged - stored
    unlogged = acknowledged - logged
    # A message that was answered with a rejection must be nowhere.
    unexpected = (stored - attempted) | (stored & rejected)
    duplicated = {i for i, times in times_shown.items() if times > 1}
    failures = _failures(
        lost=lost,
        unlogged=unlogged,
        unexpected=unexpected,
        duplicated=duplicated,
        hidden_by_the_facade=_hidden(record, stored),
    )
    doubts = _doubts(record, acknowledged)
    ruling = Ruling.UNKNOWN if doubts else Ruling.FAIL if failures else Ruling.PASS
    in_order = _orderer(record.sent)
    return Verdict(
        scenario=record.begin.facts["scenario"],
        queue=record.begin.facts["queue"],
        verdict=ruling,
        reasons=(*doubts, *failures),
        cues=tuple(_cues(record)),
        attempted=len(attempted),
        acknowledged=len(acknowledged),
        rejected=len(rejected),
        indeterminate=len(indeterminate),
        stored=len(stored),
        logged=len(logged),
        lost=in_order(lost),
        unlogged=in_order(unlogged),
        unexpected=in_order(unexpected),
        duplicated=in_order(duplicated),
        recovered=in_order(indeterminate & stored),
        by_consumer=_counted(entry.facts["instance"] for entry in record.shown),
        by_logger=_counted({entry.facts["id"]: entry.facts["by"] for entry in record.logged}.values()),
        copies_before=record.copies("before"),
        copies_after=record.copies("after"),
        faults=tuple(record.faults),
        first_acknowledgement_s=timing.first_acknowledgement(record.entries),
        first_delivery_s=timing.first_delivery(record.entries, record.earlier),
        longest_gap_s=timing.longest_gap(record.entries),
        duration_s=round(record.entries[-1].mono - record.entries[0].mono, 3),
    )


def _logged_everywhere(record: _Record) -> set[str]:
    """Return the ids that every logging-service showed: they read one map, so each must show all of it."""
    shown: dict[str, set[str]] = {
        entry.facts["instance"]: set() for entry in record.of("read") if entry.facts["role"] == Role.LOGGING
    }
    for entry in record.logged:
        shown.setdefault(entry.facts["instance"], set()).add(entry.facts["id"])
    return set.intersection(*shown.values()) if shown else set()


def _failures(**found: set[str]) -> list[str]:
    return [f"{len(ids)} {name.replace('_', ' ')}" for name, ids in found.items() if ids]


def _hidden(record: _Record, stored: set[str]) -> set[str]:
    """Return what a messages-service shows and the facade did not, although it reached all of them."""
    combined = [set(entry.facts["messages"]) for entry in record.of("combined") if entry.facts["met"]]
    return stored - combined[-1] if combined else set()


def _doubts(record: _Record, acknowledged: set[str]) -> list[str]:
    doubts = []
    if not acknowledged:
        doubts.append("nothing was acknowledged")
    if not any(entry.facts["complete"] for entry in record.of("drained")):
        reasons = [entry.facts["reason"] for entry in record.of("drained")]
        doubts.append(f"the drain was cut short ({reasons[-1] if reasons else 'it did not begin'})")
    missed = [fault.target for fault in record.faults if not fault.seen]
    if not record.faults:
        doubts.append("no fault was injected")
    elif missed:
        doubts.append(f"the fault was not seen to happen on {', '.join(missed)}")
    absent = [entry.facts["instance"] for entry in record.of("absent")]
    if absent:
        doubts.append(f"{', '.join(absent)} could not be read")
    return doubts


def _cues(record: _Record) -> Iterable[str]:
    """Say what the verdict does not prove."""
    if record.faults and not any(fault.owner for fault in record.faults):
        yield (
            "the killed member was not the queue's primary owner, so this run says nothing about the queue's copies; "
            "--target owner kills it"
        )
    before = record.copies("before")
    if before and not sum(owned for owned, _ in before.values()):
        yield "the queue was empty at the kill"
    if record.begin.facts["backup_count"] == 0:
        yield "backup-count is 0: the queue has no copies to survive with"


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _orderer(sent: Sequence[str]) -> Callable[[set[str]], tuple[str, ...]]:
    place = {i: number for number, i in enumerate(sent)}
    return lambda ids: tuple(sorted(ids, key=lambda i: (place.get(i, len(place)), i)))
