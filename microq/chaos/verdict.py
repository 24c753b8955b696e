"""What a history proves: the words of the judge."""

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
    """Where a missing message was seen last, on its way from the facade to a consumer."""

    PENDING = "pending"
    """The facade says that it is on its way, and nobody knows how far it came."""
    LOG = "log"
    """Some logging-services show it."""
    QUEUE = "queue"
    """It was acknowledged, so it was in the queue, and no consumer says that it took it."""
    CONSUMER = "consumer"
    """A consumer took it."""
    DEAD = "dead"
    """It is a dead letter."""
    UNKNOWN = "unknown"
    """No consumer writes down what it takes."""


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
    redelivered: tuple[str, ...]
    dead: tuple[str, ...]
    layers: dict[str, Layer]
    """Id that is lost or unlogged -> where it was seen last."""
    by_consumer: dict[str, int]
    by_logger: dict[str, int]
    copies_before: Copies
    copies_after: Copies
    faults: tuple[Fault, ...]
    first_acknowledgement_s: float | None
    first_delivery_s: float | None
    longest_gap_s: float | None
    duration_s: float
    quiet: bool
    """Whether the consumers were off while the fault struck."""
    seed: int | None

    def to_json(self, history: str) -> dict[str, Any]:
        """Return the verdict as `--json` prints it, with the path of its history."""
        return {**asdict(self), "history": history}
