"""What is to be reached, and whether it was: a figure that is not known is neither."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from microq.bench.pace import Pace
from microq.bench.result import Level, Lines, Result, middle

MANY, SOME, ONE = 128, 32, 1
"""The numbers of connections that the targets are about."""


LEAST, MOST = "≥", "≤"
"""What a bound is: a figure is to reach it, or not to exceed it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bound for one figure, in a unit; `find` looks the figure up."""

    part: str
    what: str
    sign: str
    bound: float
    unit: str
    find: Callable[[Result], float | None]


@dataclass(frozen=True, slots=True)
class Judged:
    """A target and what was measured; `reached` is None where nothing was."""

    part: str
    what: str
    sign: str
    bound: float
    unit: str
    measured: float | None
    reached: bool | None


def judge(result: Result, targets: tuple[Target, ...]) -> list[Judged]:
    """Hold what was measured against each target."""
    found = []
    for target in targets:
        measured = target.find(result)
        reached = None
        if measured is not None:
            reached = measured >= target.bound if target.sign == LEAST else measured <= target.bound
        found.append(Judged(target.part, target.what, target.sign, target.bound, target.unit, measured, reached))
    return found


def _of_level(connections: int, measure: Callable[[Level], float | None]) -> Callable[[Result], float | None]:
    return lambda result: middle([measure(level) for level in result.levels(connections)])


def _of_pace(connections: int, measure: Callable[[Pace], float | None]) -> Callable[[Result], float | None]:
    return _of_level(connections, lambda level: measure(level.pace))


def _of_batch(measure: Callable[[Lines], float | None]) -> Callable[[Result], float | None]:
    return lambda result: measure(result.batch) if result.batch else None


def fall(result: Result) -> float | None:
    """Return by which share the rate fell from the fewest messages held to the most, each against its own ceiling."""
    if len(result.held) < 2:  # noqa: PLR2004 - from one to another
        return None
    least, most = (at(result.held, key=lambda one: one.messages).level.ratio for at in (min, max))
    return None if not least or most is None else 1 - most / least


def slower(result: Result) -> float | None:
    """Return how many times longer a lone POST takes while everything is read, with the most messages held."""
    return max(result.held, key=lambda one: one.messages).slower if result.held else None


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _ratio(level: Level) -> float | None:
    return level.ratio


TARGETS = (
    Target("rates", f"{MANY} connections, of a do-nothing handler", LEAST, 0.40, "", _of_level(MANY, _ratio)),
    Target("rates", f"{SOME} connections, of a do-nothing handler", LEAST, 0.22, "", _of_level(SOME, _ratio)),
    Target("rates", f"{SOME} connections, p99", MOST, 20, "ms", _of_pace(SOME, lambda pace: pace.p99_ms)),
    Target("rates", f"{ONE} connection, p50", MOST, 1.5, "ms", _of_pace(ONE, lambda pace: pace.p50_ms)),
    Target("batch", "batch, acknowledged", LEAST, 25_000, "1/s", _of_batch(lambda lines: lines.acknowledged_per_s)),
    Target("batch", "batch, stored of it", LEAST, 80, "%", _of_batch(lambda lines: _percent(lines.stored_share))),
    Target("lag", "stored behind accepted, p99", MOST, 100, "ms", lambda r: r.lag.p99_ms if r.lag else None),
    Target("held", "fall of the rate, most messages held", MOST, 10, "%", lambda r: _percent(fall(r))),
    Target("held", "a lone POST's p99 while all is read, of idle", MOST, 200, "%", lambda r: _percent(slower(r))),
    Target("start", "up -d, warm", MOST, 2.5, "s", lambda r: middle(r.start.warm_s) if r.start else None),
    Target("start", "--help", MOST, 0.2, "s", lambda r: middle(r.start.help_s) if r.start else None),
    Target("idle", "idle, of one core", MOST, 4, "%", lambda r: _percent(r.idle.share if r.idle else None)),
)
"""In the order in which they are shown."""
