"""Two backends side by side: the faults that are applied to both, the results of their runs, and their table.

Nothing is measured here. An unknown value is None, not 0; a median is one of the known values.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from microq.bench.measure import QUEUE, REST
from microq.bench.result import SATURATED, Pace
from microq.chaos.faults.base import Fault
from microq.chaos.faults.servers import KillMember, PauseMember
from microq.chaos.matrix import ERROR, Row
from microq.errors import ExitCode


@dataclass(frozen=True, slots=True)
class Scene:
    """One fault in one of its forms: its key in the data, and its title."""

    key: str
    title: str
    fault: Fault
    quiet: bool


SCENES = (
    Scene("kill-quiet", "kill the owner, consumers off", KillMember("owner"), quiet=True),
    Scene("kill-live", "kill the owner under traffic", KillMember("owner"), quiet=False),
    Scene("pause-live", "pause the owner under traffic", PauseMember("owner"), quiet=False),
)


@dataclass(frozen=True, slots=True)
class Started:
    """One start of a whole system: its seconds, and the memory in bytes by kind and name right after it."""

    backend: str
    run: int
    seconds: float
    folder: str
    memory: Mapping[str, Mapping[str, int | None]]


@dataclass(frozen=True, slots=True)
class Paced:
    """The rates of a system in one run, and its memory in bytes afterwards; a ceiling has no backend."""

    backend: str
    run: int
    paces: tuple[Pace, ...]
    memory: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)

    def at(self, connections: int) -> list[Pace]:
        """Return what was measured over this number of connections."""
        return [pace for pace in self.paces if pace.connections == connections]


@dataclass(frozen=True, slots=True)
class Struck:
    """The result of one scene in one run; `silence_s` is the longest time after the fault without a stored message."""

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
    """All results so far, run by run."""

    backends: tuple[str, ...]
    connections: tuple[int, ...]
    started: list[Started] = field(default_factory=list)
    ceiling: list[Paced] = field(default_factory=list)
    paced: list[Paced] = field(default_factory=list)
    struck: list[Struck] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def saturated(found: Found) -> list[tuple[int, float]]:
    """Return the numbers of connections at which the load generator was saturated, with its largest share of a core."""
    shares = {
        connections: max((p.client_cpu for one in found.paced for p in one.at(connections)), default=0.0)
        for connections in found.connections
    }
    return [(connections, share) for connections, share in shares.items() if share > SATURATED]


def code(found: Found) -> ExitCode:
    """Return the exit code; a run that could not be made proves nothing."""
    return ExitCode.of_verdicts([*(each.row.verdict for each in found.struck), *(ERROR for _ in found.failures)])


FORMAT = 1
"""The version of the JSON format."""

COUNTED = ("lost", "unlogged", "unexpected", "duplicated", "recovered", "redelivered")
"""The counts of a run with a fault, in the order of the table."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: a measure of each backend, by name.

    `values` are medians over the runs, or sums of counts; rulings are texts. `spans` are minimum and maximum. The ratio
    is the second backend's value divided by the first one's; `comparable` says whether a ratio has a meaning.
    """

    group: str
    measure: str
    unit: str
    values: Mapping[str, float | str | None]
    spans: Mapping[str, tuple[float, float] | None]
    comparable: bool
    ratio: float | None


def lines(found: Found) -> list[Line]:
    """Return the lines of the table in order."""
    return [*_system_lines(found), *_pace_lines(found), *_scene_lines(found)]


def _line(group: str, measure: str, unit: str, known: Mapping[str, Iterable[float | None]]) -> Line:
    """Return a line of medians; known: backend -> one value for each run."""
    listed = {backend: [value for value in values if value is not None] for backend, values in known.items()}
    medians = {backend: median(values) if values else None for backend, values in listed.items()}
    spans = {backend: (min(values), max(values)) if values else None for backend, values in listed.items()}
    return Line(group, measure, unit, medians, spans, comparable=True, ratio=_ratio(list(medians.values())))


def _ratio(values: Sequence[float | None]) -> float | None:
    """Return the second value divided by the first; None if one of them is missing or 0."""
    if len(values) < 2:  # noqa: PLR2004 - a ratio has two sides
        return None
    first, second = values[:2]
    return second / first if first and second is not None else None


def _system_lines(found: Found) -> Iterator[Line]:
    def of(measure: Callable[[Any], float | None], singles: Sequence[Any]) -> dict[str, list[float | None]]:
        return {b: [measure(single) for single in singles if single.backend == b] for b in found.backends}

    yield _line("start-up", "every process ready", "s", of(lambda one: one.seconds, found.started))
    idle, used = found.started, found.paced
    memory = "memory"
    yield _line(memory, "servers of the queue, idle", "MiB", of(lambda one: _sum(one.memory, QUEUE), idle))
    yield _line(memory, "the largest of them", "MiB", of(lambda one: _largest(one.memory, QUEUE), idle))
    yield _line(memory, "everything else, idle", "MiB", of(lambda one: _sum(one.memory, REST), idle))
    yield _line(memory, "servers of the queue, loaded", "MiB", of(lambda one: _sum(one.memory, QUEUE), used))
    yield _line(memory, "everything else, loaded", "MiB", of(lambda one: _sum(one.memory, REST), used))


def _sum(memory: Mapping[str, Mapping[str, int | None]], kind: str) -> float | None:
    sizes = list(memory.get(kind, {}).values())
    known = [size for size in sizes if size is not None]
    return sum(known) / (1 << 20) if sizes and len(known) == len(sizes) else None


def _largest(memory: Mapping[str, Mapping[str, int | None]], kind: str) -> float | None:
    known = [size for size in memory.get(kind, {}).values() if size is not None]
    return max(known) / (1 << 20) if known else None


def _pace_lines(found: Found) -> Iterator[Line]:
    def each(measure: Callable[[Pace], float | None], connections: int) -> dict[str, list[float | None]]:
        return {b: [measure(p) for p in _paces(found.paced, b, connections)] for b in found.backends}

    measures: list[tuple[str, str, Callable[[Pace], float | None]]] = [
        ("acknowledged", "1/s", lambda pace: pace.acknowledged_per_s),
        ("stored, end to end", "1/s", lambda pace: pace.stored_per_s),
        ("half of the POSTs within", "ms", lambda pace: pace.p50_ms),
        ("99 % of the POSTs within", "ms", lambda pace: pace.p99_ms),
    ]
    for group, unit, measure in measures:
        for connections in found.connections:
            yield _line(group, over(connections), unit, each(measure, connections))
    for connections in found.connections:
        yield _share_line(found, connections)
    most = found.connections[-1]
    for kind, what in ((QUEUE, "servers of the queue"), (REST, "everything else")):
        group = "processor time per 1,000"
        yield _line(group, f"{what}, at {most}", "s", each(_cost(kind), most))


def over(connections: int) -> str:
    """Return a number of connections in words."""
    return f"{connections} connection{'' if connections == 1 else 's'}"


def _share_line(found: Found, connections: int) -> Line:
    """Return the rates in percent of the rate of a handler that does nothing in the same run."""
    most = {one.run: pace.acknowledged_per_s for one in found.ceiling for pace in one.at(connections)}
    shares: dict[str, list[float | None]] = {
        backend: [
            100 * pace.acknowledged_per_s / most[one.run] if most.get(one.run) else None
            for one in found.paced
            if one.backend == backend
            for pace in one.at(connections)
        ]
        for backend in found.backends
    }
    line = _line("of a do-nothing handler", over(connections), "%", shares)
    return dataclasses.replace(line, comparable=False, ratio=None)


def _cost(kind: str) -> Callable[[Pace], float | None]:
    def measure(pace: Pace) -> float | None:
        used = pace.cpu_s.get(kind)
        return None if used is None or not pace.acknowledged else 1000 * used / pace.acknowledged

    return measure


def _paces(listed: Sequence[Paced], backend: str, connections: int) -> list[Pace]:
    return [pace for one in listed if one.backend == backend for pace in one.at(connections)]


def _scene_lines(found: Found) -> Iterator[Line]:
    for scene in SCENES:
        played = {b: [s for s in found.struck if (s.backend, s.scene) == (b, scene.key)] for b in found.backends}
        if not any(played.values()):
            continue
        yield _other_line(scene.title, "verdict", {b: _rulings([s.row for s in mine]) for b, mine in played.items()})
        # A run that could not be made has no counts.
        made = {b: [one for one in mine if one.row.verdict != ERROR] for b, mine in played.items()}
        for name in ("acknowledged", *COUNTED):
            yield _other_line(scene.title, name, {b: _total([s.row for s in m], name) for b, m in made.items()})
        for what, time in _times(scene):
            yield _line(scene.title, what, "s", {b: [time(one) for one in mine] for b, mine in made.items()})


def _times(scene: Scene) -> Iterator[tuple[str, Callable[[Struck], float | None]]]:
    """Return the times of a scene, each with the function that finds it."""
    yield "without acknowledgement", lambda one: one.row.longest_gap_s
    yield "first acknowledgement", lambda one: one.row.first_acknowledgement_s
    if scene.quiet:
        yield "first delivery", lambda one: one.row.first_delivery_s
    else:  # a consumer shows what it has taken at once, also while the queue fails
        yield "without delivery", lambda one: one.silence_s


def _other_line(group: str, measure: str, values: Mapping[str, float | str | None]) -> Line:
    return Line(group, measure, "", values, dict.fromkeys(values), comparable=False, ratio=None)


def _rulings(rows: Sequence[Row]) -> str | None:
    counts = Counter(row.verdict for row in rows)
    return ", ".join(f"{count} {ruling}" for ruling, count in sorted(counts.items())) or None


def _total(rows: Sequence[Row], name: str) -> int | None:
    return sum(getattr(row, name) for row in rows) if rows else None


def to_json(found: Found, facts: Mapping[str, Any], *, complete: bool) -> dict[str, Any]:
    """Return everything as one object; `facts` say what was measured with, on which machine, and when."""
    table = [dataclasses.asdict(line) for line in lines(found)]
    return {"format": FORMAT, "complete": complete, **facts, "table": table, "runs": dataclasses.asdict(found)}
