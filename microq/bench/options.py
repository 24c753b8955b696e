"""The options of `bench` and `compare`: parts, durations, repetitions, connections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

MOST_PER_S = 10_000
"""The highest rate of messages per second for which a part prepares its system."""


class Part(StrEnum):
    """A part of a benchmark."""

    START = "start"
    IDLE = "idle"
    RATES = "rates"
    LAG = "lag"
    BATCH = "batch"
    HELD = "held"
    COST = "cost"


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What a benchmark measures. `seconds`, `warm`, `bare` and `idle` are durations in seconds.

    Each rate is measured for `seconds` after `warm` seconds of use, in `rounds` rounds; the bare client for `bare`; a
    system at rest for `idle`. `starts` is the number of cold and of warm starts, `lines` the length of the batch, and
    `held` the numbers of messages that the consumers hold in turn.
    """

    parts: tuple[Part, ...] = tuple(Part)
    connections: tuple[int, ...] = (1, 8, 32, 128)
    seconds: float = 5.0
    rounds: int = 3
    warm: float = 2.0
    bare: float = 2.0
    idle: float = 10.0
    starts: int = 2
    lines: int = 100_000
    held: tuple[int, ...] = (1_000, 100_000, 1_000_000)

    @property
    def most_messages(self) -> dict[Part, int]:
        """The largest number of messages that each part sends to one system, on a fast machine."""
        levels, cost = len(self.connections), 2 * self.rounds
        seconds = {
            Part.RATES: self.warm + levels * self.seconds,
            Part.LAG: self.warm + 2 * self.seconds,
            Part.COST: cost * (self.warm + self.seconds),
        }
        rated = {part: math.ceil(MOST_PER_S * each) for part, each in seconds.items()}
        return {**rated, Part.BATCH: self.lines + self.lines // 20}

    @property
    def cost_connections(self) -> int:
        """The number of connections, closest to 32, over which the cost of crash safety is measured."""
        return min(self.connections, key=lambda count: abs(count - 32))


QUICK_BENCH = BenchOptions(
    seconds=2.0, rounds=1, warm=1.0, bare=1.0, idle=4.0, starts=1, lines=20_000, held=(1_000, 20_000)
)


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What a comparison measures: `runs` of each backend.

    Each rate is measured for `seconds` after `warm` seconds of use. A fault under traffic has `messages` acknowledged
    messages around it, a fault with the consumers off `quiet_messages`.
    """

    runs: int = 3
    seconds: float = 5.0
    warm: float = 1.5
    messages: int = 5000
    quiet_messages: int = 100
    connections: tuple[int, ...] = (1, 32, 128)
    seed: int = 0


QUICK_COMPARE = CompareOptions(runs=1, seconds=1.0, warm=0.5, messages=500)
