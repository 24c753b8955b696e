"""What is to be reached, and whether it was: a figure that is not known is neither."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from microq.bench.pace import Pace
from microq.bench.result import Held, Level, Result, middle

MANY, SOME, ONE = 128, 32, 1
"""The numbers of connections that the targets are about."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bound for one figure, at least or at most, in a unit; `find` looks the figure up."""

    part: str
    what: str
    unit: str
    bound: float
    at_least: bool
    find: Callable[[Result], float | None]


@dataclass(frozen=True, slots=True)
class Judged:
    """A target and what was measured; `reached` is None where nothing was."""

    part: str
    what: str
    unit: str
    bound: float
    at_least: bool
    measured: float | None
    reached: bool | None


def judge(result: Result, targets: tuple[Target, ...]) -> list[Judged]:
    """Hold what was measured against each target."""
    found = []
    for target in targets:
        measured = target.find(result)
        reached = None
        if measured is not None:
            reached = measured >= target.bound if target.at_least else measured <= target.bound
        found.append(
            Judged(target.part, target.what, target.unit, target.bound, target.at_least, measured, reached)
        )
    return found


def _of_level(connections: int, measure: Callable[[Level], float | None]) -> Callable[[Result], float | None]:
    return lambda result: middle([measure(level) for level in result.levels(connections)])


def _of_pace(connections: int, measure: Callable[[Pace], float | None]) -> Callable[[Result], float | None]:
    return _of_level(connections, lambda level: measure(level.pace))


def fall(result: Result) -> float | None:
    """Return by which share the rate fell from the fewest messages held to the most, each against its own ceiling."""
    if len(result.held) < 2:  # noqa: PLR2004 - from one to another
        return None
    least, most = (at(result.held, key=lambda one: one.messages).level.ratio for at in (min, max))
    return None if not least or most is None else 1 - most / least


def _largest(measure: Callable[[Held], float | None]) -> Callable[[Result], float | None]:
    return lambda result: measure(max(result.held, key=lambda one: one.messages)) if result.held else None


TARGETS = (
    Target("rates", f"{MANY} connections, of a do-nothing handler", "", 0.40, True, _of_level(MANY, lambda x: x.ratio)),
    Target("rates", f"{SOME} connections, of a do-nothing handler", "", 0.22, True, _of_level(SOME, lambda x: x.ratio)),
    Target("rates", f"{SOME} connections, p99", "ms", 20, False, _of_pace(SOME, lambda x: x.p99_ms)),
    Target("rates", f"{ONE} connection, p50", "ms", 1.5, False, _of_pace(ONE, lambda x: x.p50_ms)),
    Target("batch", "batch API, acknowledged", "1/s", 25_000, True, lambda r: r.batch and r.batch.acknowledged_per_s),
    Target("batch", "batch API, stored of acknowledged", "%", 80, True, lambda r: _percent(r.batch and r.batch.stored_share)),
    Target("lag", "stored behind accepted, p99", "ms", 100, False, lambda r: r.lag and r.lag.p99_ms),
    Target("held", "fall of the rate, most messages held", "%", 10, False, lambda r: _percent(fall(r))),
    Target("held", "a POST's p99 while everything is read", "x", 2, False, _largest(lambda one: one.slower)),
    Target("start", "up -d, warm", "s", 2.5, False, lambda r: r.start and middle(r.start.warm_s)),
    Target("start", "--help", "s", 0.2, False, lambda r: r.start and middle(r.start.help_s)),
    Target("idle", "idle, of one core", "%", 4, False, lambda r: _percent(r.idle and r.idle.share)),
)
"""In the order in which they are shown."""


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
