"""The verdict of the checker: rulings, layers, and the lists of ids."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Ruling(StrEnum):
    """What a history proves."""

    PASS = "pass"  # noqa: S105 - a verdict, no secret
    FAIL = "fail"
    UNKNOWN = "unknown"


class Layer(StrEnum):
    """The layer in which a missing message was last seen, on its way from the facade to a consumer."""

    PENDING = "pending"
    """The facade still waits for it; the layer is unknown."""
    LOG = "log"
    """A logging-service shows it."""
    QUEUE = "queue"
    """It was acknowledged, so it was in the queue, and no consumer took it."""
    CONSUMER = "consumer"
    """A consumer took it."""
    DEAD = "dead"
    """It is a dead letter."""
    UNKNOWN = "unknown"
    """Unknown: the consumers do not log what they take."""


FOUND = {
    "lost": "acknowledged, and shown by no messages-service",
    "unlogged": "acknowledged or shown, and missing from the log",
    "unexpected": "shown or logged, but never sent, or refused",
    "duplicated": "shown more than once",
    "vanished": "held before the run, and missing after it",
    "unstable": "shown in one reading, and not in the last one",
    "disordered": "shown after a message that the same sender sent later",
    "differing": "shown or logged with another text than was sent",
    "premature": "shown before it was sent",
    "misplaced": "shown by another messages-service than the cluster says has it",
    "hidden": "shown or logged by the services, and not by the facade",
    "invented": "shown by the facade, and by no service",
    "dead_yet_shown": "given up, but shown",
    "unsettled": "indeterminate, logged, and never delivered",
    "recovered": "indeterminate, and arrived",
    "redelivered": "put into the queue again, from the log",
    "dead": "given up: dead letters",
    "foreign": "sent by another client during the run; not judged",
}
"""List of ids in a verdict -> its meaning. All views show the lists in this order."""

ALWAYS = ("lost", "unlogged", "unexpected", "duplicated", "recovered", "redelivered", "dead")
"""The lists that are shown even if they are empty."""


def named(found: str) -> str:
    """Return the name of a list of ids, for people."""
    return found.replace("_", " ")


Copies = dict[str, list[int]]
"""Member -> [items it owns, items it backs up]."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An injected fault; `owner`: it hit the queue's primary owner; `seen`: its effect was observed."""

    fault: str
    target: str
    owner: bool
    seen: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """The ruling on a history, with its counts and ids. Times are in seconds."""

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
    vanished: tuple[str, ...]
    unstable: tuple[str, ...]
    disordered: tuple[str, ...]
    differing: tuple[str, ...]
    premature: tuple[str, ...]
    misplaced: tuple[str, ...]
    hidden: tuple[str, ...]
    invented: tuple[str, ...]
    dead_yet_shown: tuple[str, ...]
    unsettled: tuple[str, ...]
    recovered: tuple[str, ...]
    redelivered: tuple[str, ...]
    dead: tuple[str, ...]
    foreign: tuple[str, ...]
    layers: dict[str, Layer]
    """Lost, unlogged or unsettled id -> the layer in which it was last seen."""
    by_consumer: dict[str, int]
    by_logger: dict[str, int]
    copies_before: Copies
    copies_after: Copies
    faults: tuple[Fault, ...]
    first_acknowledgement_s: float | None
    """Counted from the confirmation of the fault, as `first_delivery_s`."""
    first_delivery_s: float | None
    longest_gap_s: float | None
    """The longest time after the fault in which a sender waited without an acknowledgement."""
    acknowledgement_p50_s: float | None
    acknowledgement_p99_s: float | None
    availability: float | None
    """The share of the seconds with a waiting sender in which an acknowledgement came."""
    bounds: dict[str, float]
    """The bounds of the run, by the names in `history.BOUNDS`."""
    duration_s: float
    quiet: bool
    """Whether the consumers were off during the fault."""
    seed: int | None

    def found(self) -> dict[str, tuple[str, ...]]:
        """Return the lists of ids that are shown, by name: those in `ALWAYS`, and those that are not empty."""
        lists: dict[str, tuple[str, ...]] = {name: getattr(self, name) for name in FOUND}
        return {name: ids for name, ids in lists.items() if ids or name in ALWAYS}

    def to_json(self, history: str) -> dict[str, Any]:
        """Return the verdict as the JSON of `--json`, with the path of its history."""
        return {**asdict(self), "history": history}
