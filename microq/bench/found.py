"""What the single runs of a comparison showed, and what they say about themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from microq.bench.pace import Pace
from microq.chaos.matrix import Row, exit_code

SATURATED = 0.9
"""From which share of a core on the load generator itself is what was measured."""


@dataclass(frozen=True, slots=True)
class Started:
    """One start of a whole system: how long it took in seconds, and memory in bytes by kind and name right after it."""

    backend: str
    run: int
    seconds: float
    folder: str
    memory: Mapping[str, Mapping[str, int | None]]


@dataclass(frozen=True, slots=True)
class Paced:
    """How fast a system was in one run, and its memory in bytes after all of it; a ceiling has no backend."""

    backend: str
    run: int
    paces: tuple[Pace, ...]
    memory: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)

    def at(self, connections: int) -> list[Pace]:
        """Return what was measured over so many connections."""
        return [pace for pace in self.paces if pace.connections == connections]


@dataclass(frozen=True, slots=True)
class Struck:
    """What came of one scene in one run; `silence_s` is the longest time after the fault with nothing stored."""

    backend: str
    scene: str
    row: Row
    silence_s: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that could not be made, and why."""

    backend: str
    run: int
    what: str
    error: str


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that was found so far, run by run."""

    backends: tuple[str, ...]
    connections: tuple[int, ...]
    started: list[Started] = field(default_factory=list)
    ceiling: list[Paced] = field(default_factory=list)
    paced: list[Paced] = field(default_factory=list)
    struck: list[Struck] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def saturated(found: Found) -> list[tuple[int, float]]:
    """Return at how many connections the load generator was saturated, and its largest share of a core there."""
    shares = {
        connections: max((p.client_cpu for one in found.paced for p in one.at(connections)), default=0.0)
        for connections in found.connections
    }
    return [(connections, share) for connections, share in shares.items() if share > SATURATED]


def code(found: Found) -> int:
    """Return the exit code: 1 if a verdict failed, else 3 if one is unknown or a run could not be made, else 0."""
    worst = exit_code([each.row for each in found.struck])
    return worst if worst or not found.failures else 3
