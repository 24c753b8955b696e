"""The results of a benchmark, part by part; a value that was not measured is None or empty, never a number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from microq.bench.load import Bare
from microq.errors import ExitCode

SATURATED = 0.9
"""The share of a core from which the load generator is the bottleneck, so the result is its own speed."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The result of sending over `connections` for `seconds`. Rates are messages per second; None is unknown.

    `stored_per_s` counts until a messages-service holds the last of them. Latencies are those of a POST that was
    acknowledged, in milliseconds. `cpu_s` is the processor time by group of processes until then, in seconds.
    `client_cpu` is the share of one core that the load generator used.
    """

    connections: int
    seconds: float
    acknowledged: int
    failed: int
    acknowledged_per_s: float
    stored_per_s: float | None
    p50_ms: float | None
    p99_ms: float | None
    client_cpu: float
    cpu_s: Mapping[str, float | None]
    p999_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """The rate over a number of connections, and that of a handler that does nothing, just before and after it.

    `client_cpu` of the pace, and `ceiling_client_cpu`, are shares of one core; `others_cores` is the number of
    cores that other programs used meanwhile.
    """

    pace: Pace
    ceiling_per_s: float
    ceiling_client_cpu: float
    others_cores: float | None = None

    @property
    def cpu_s_per_1000(self) -> float | None:
        """Processor seconds that all processes, the load generator too, used for 1,000 acknowledged messages."""
        used = list(self.pace.cpu_s.values())
        if None in used or not self.pace.acknowledged:
            return None
        return 1000 * sum(each or 0.0 for each in used) / self.pace.acknowledged

    @property
    def ratio(self) -> float | None:
        """The rate as a share of the ceiling."""
        return self.pace.acknowledged_per_s / self.ceiling_per_s if self.ceiling_per_s else None

    @property
    def saturated(self) -> bool:
        """Whether the load generator was the bottleneck, so the system may be faster."""
        return self.pace.client_cpu > SATURATED


@dataclass(frozen=True, slots=True)
class Rates:
    """One round over all numbers of connections, and the peak memory of each process in it."""

    levels: tuple[Level, ...]
    peak_bytes: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Lines:
    """A batch of many lines: rates per second, processor time by process, and the memory of the facade around it."""

    lines: int
    acknowledged: int
    failed: int
    acknowledged_per_s: float
    stored_per_s: float | None
    client_cpu: float
    cpu_s: Mapping[str, float | None]
    facade_before_bytes: int | None
    facade_peak_bytes: int | None
    facade_after_bytes: int | None

    @property
    def stored_share(self) -> float | None:
        """The rate of storing as a share of that of acknowledging."""
        return self.stored_per_s / self.acknowledged_per_s if self.stored_per_s and self.acknowledged_per_s else None


@dataclass(frozen=True, slots=True)
class Lag:
    """The milliseconds from the acknowledgement of a message to its storing, at a fixed rate.

    `late_ms` is how late the latest message was sent; `missing` were acknowledged and are stored nowhere.
    """

    asked_per_s: float
    sent_per_s: float
    late_ms: float
    client_cpu: float
    messages: int
    missing: int
    p50_ms: float | None
    p99_ms: float | None
    worst_ms: float | None


@dataclass(frozen=True, slots=True)
class Seen:
    """One read of everything, or of a part: how long, how much, and how many texts it had."""

    what: str
    seconds: float
    first_s: float
    bytes: int
    texts: int


@dataclass(frozen=True, slots=True)
class Held:
    """The measurements with `messages` held: the rate, the reads, and a single POST while everything is read."""

    messages: int
    fill_per_s: float | None
    level: Level
    reads: tuple[Seen, ...]
    idle_p99_ms: float | None
    reading_p99_ms: float | None
    reading_worst_ms: float | None
    consumers_bytes: float | None
    system_bytes: float | None

    @property
    def slower(self) -> float | None:
        """The p99 of a single POST while everything is read, as a multiple of its p99 otherwise."""
        return self.reading_p99_ms / self.idle_p99_ms if self.reading_p99_ms and self.idle_p99_ms else None


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds until a command is done; `up -d` is done when every process is ready."""

    help_s: tuple[float, ...]
    cold_s: tuple[float, ...]
    warm_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Idle:
    """The usage of every process of an idle system: processor time in `seconds`, and memory in bytes."""

    seconds: float
    cpu_s: Mapping[str, float | None]
    bytes: Mapping[str, int | None]

    @property
    def share(self) -> float | None:
        """The share of one core that all of them use together."""
        used = list(self.cpu_s.values())
        return None if None in used else sum(each or 0.0 for each in used) / self.seconds


@dataclass(frozen=True, slots=True)
class Cost:
    """The median rates over all rounds, in messages per second, and the share that crash safety costs."""

    safe_per_s: float
    bare_per_s: float
    share: float


@dataclass(frozen=True, slots=True)
class Omission:
    """A part that was not measured, and why: the measurement `failed`, or it was left out."""

    part: str
    why: str
    failed: bool


@dataclass(slots=True)
class Result:
    """All results so far, and the number of cores of the machine."""

    cores: int = 0
    start: Start | None = None
    idle: Idle | None = None
    rates: list[Rates] = field(default_factory=list)
    bare: Bare | None = None
    batch: Lines | None = None
    lag: Lag | None = None
    held: list[Held] = field(default_factory=list)
    settings: dict[str, list[str]] = field(default_factory=dict)
    """Part -> the settings, in the form of `--set`, that its systems need for the messages that they are sent."""
    cost: Cost | None = None
    omitted: list[Omission] = field(default_factory=list)

    @property
    def connections(self) -> list[int]:
        """The numbers of connections over which rates were measured."""
        return sorted({level.pace.connections for one in self.rates for level in one.levels})

    def levels(self, connections: int) -> list[Level]:
        """Return the measurements of all rounds over this number of connections."""
        return [level for one in self.rates for level in one.levels if level.pace.connections == connections]

    @property
    def highest(self) -> float | None:
        """The highest rate that was acknowledged, in messages per second."""
        rates = [median(level.pace.acknowledged_per_s for level in self.levels(c)) for c in self.connections]
        return max(rates, default=None)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object, with the ratios that are computed from it."""
        cpu = {str(c): middle([level.cpu_s_per_1000 for level in self.levels(c)]) for c in self.connections}
        whole = {"cpu_s_per_1000": cpu, **dataclasses.asdict(self)}
        for one, shown in zip(self.rates, whole["rates"], strict=True):
            shown["levels"] = [_level_json(level) for level in one.levels]
        for size, shown in zip(self.held, whole["held"], strict=True):
            shown |= {"level": _level_json(size.level), "reading_p99_ratio": size.slower}
        if self.batch:
            whole["batch"] |= {"stored_share": self.batch.stored_share}
        if self.idle:
            whole["idle"] |= {"share_of_core": self.idle.share}
        return whole

    @property
    def code(self) -> ExitCode:
        """The exit code: FAILED if a measurement failed."""
        return ExitCode.FAILED if any(each.failed for each in self.omitted) else ExitCode.FINE


def _level_json(level: Level) -> dict[str, Any]:
    figures = {"cpu_s_per_1000": level.cpu_s_per_1000, "ratio": level.ratio, "saturated": level.saturated}
    return {**dataclasses.asdict(level), **figures}


def middle(values: Sequence[float | None]) -> float | None:
    """Return the median of the known values; None if there is none."""
    known = [value for value in values if value is not None]
    return median(known) if known else None
