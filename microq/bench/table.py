"""The figures of a benchmark: the targets that they are compared with, and tables of text for all views."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from microq.backends import BACKENDS, MAP_STORE
from microq.bench.experiments import HELD_CONNECTIONS
from microq.bench.measure import CLIENT, by_role, role_of
from microq.bench.result import Held, Level, Lines, Pace, Result, Seen, middle
from microq.fleet import Role

MANY, SOME, ONE = 128, 32, 1
"""The numbers of connections for which there are targets."""


LEAST, MOST = "≥", "≤"
"""The kind of a bound: a figure should reach it, or should not exceed it."""


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
    """A target and the measured value; `reached` is None if it was not measured."""

    part: str
    what: str
    sign: str
    bound: float
    unit: str
    measured: float | None
    reached: bool | None


def judge(result: Result, targets: tuple[Target, ...]) -> list[Judged]:
    """Compare the measured values with the targets."""
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
    """Return the share of the rate lost between the fewest and the most held messages; relative to ceilings."""
    if len(result.held) < 2:  # noqa: PLR2004 - from one to another
        return None
    least, most = (at(result.held, key=lambda one: one.messages).level.ratio for at in (min, max))
    return None if not least or most is None else 1 - most / least


def slower(result: Result) -> float | None:
    """Return how many times longer a single POST takes while everything is read, with the most messages held."""
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


UNKNOWN = "n/a"

SIGNS = {True: "✓", False: "✗", None: "–"}


@dataclass(frozen=True, slots=True)
class Section:
    """One table: its title, the heads of its columns, and its rows; all but the first column are numbers."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sections(result: Result) -> Iterator[Section]:
    """Yield the tables, in the order in which people read them, without those of parts that were not measured."""
    if result.rates:
        yield _processors(result, result.connections)
    failed = {each.part for each in result.omitted}
    if judged := [each for each in judge(result, TARGETS) if each.reached is not None or each.part in failed]:
        yield _targets(judged)
    if result.rates:
        yield from _rates(result)
    if result.batch:
        yield _batch(result, result.batch)
    if result.lag:
        yield _lag(result)
    if result.held:
        yield _held(result.held)
    if result.start or result.idle:
        yield _start(result)
    if result.cost:
        safe, bare = number(result.cost.safe_per_s), number(result.cost.bare_per_s)
        row = ("messages/s", safe, bare, f"{result.cost.share:.0%}")
        yield Section("What crash safety costs", ("", "with it", "without", "cost"), (row,))


def number(value: float | None, digits: int | None = None) -> str:
    """Return a number with its significant digits only; an unknown one as a word."""
    if value is None:
        return UNKNOWN
    if digits is None:
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2  # noqa: PLR2004 - three digits at least
    return f"{value:,.{digits}f}"


def _mib(size: float | None) -> str:
    return UNKNOWN if size is None else f"{size / (1 << 20):,.0f}"


def _targets(judged: Sequence[Judged]) -> Section:
    rows = []
    for each in judged:
        unit = f" {each.unit}" if each.unit else ""
        bound = f"{each.sign} {each.bound:,g}{unit}" if each.bound >= 1 else f"{each.sign} {each.bound:.2f}{unit}"
        measured = number(each.measured) + (unit if each.measured is not None else "")
        rows.append((f"{SIGNS[each.reached]} {each.what}", measured, bound))
    return Section("Targets", ("", "measured", "target"), tuple(rows))


def _rates(result: Result) -> Iterator[Section]:
    counts = result.connections
    heads = ("connections", *map(str, counts))

    def row(what: str, measure: Callable[[Level], float | None], digits: int | None = None) -> tuple[str, ...]:
        return (what, *(number(middle([measure(each) for each in result.levels(c)]), digits) for c in counts))

    rows = (
        row("POST/s accepted", lambda x: x.pace.acknowledged_per_s, 0),
        row("stored end to end, 1/s", lambda x: x.pace.stored_per_s, 0),
        row("p50, ms", lambda x: x.pace.p50_ms),
        row("p99, ms", lambda x: x.pace.p99_ms),
        row("p99.9, ms", lambda x: x.pace.p999_ms),
        row("failed", lambda x: x.pace.failed, 0),
        row("do-nothing handler, POST/s", lambda x: x.ceiling_per_s, 0),
        row("ratio to it", lambda x: x.ratio, 2),
        row("load generator, of a core", lambda x: x.pace.client_cpu, 2),
        row("the same, asking the do-nothing one", lambda x: x.ceiling_client_cpu, 2),
        row("others on this machine, cores", lambda x: x.others_cores, 2),
    )
    yield Section("POST /facade, one message each", heads, rows)
    yield _peaks(result)


def _processors(result: Result, counts: Sequence[int]) -> Section:
    """Return the processor seconds for each 1,000 messages, summed by role and then for each process."""

    def spent(name: str, group: Callable[[Mapping[str, float | None]], Mapping[str, float | None]]) -> tuple[str, ...]:
        cells = []
        for c in counts:
            paces = [each.pace for each in result.levels(c)]
            known = [(group(pace.cpu_s).get(name), pace.acknowledged) for pace in paces]
            cells.append(number(middle([1000 * s / n if s is not None and n else None for s, n in known])))
        return (name, *cells)

    named = list(result.rates[0].levels[0].pace.cpu_s)
    rows = [("all", *(number(_spent(result.levels(c))) for c in counts))]
    for role in sorted({role_of(name) for name in named}, key=_place):
        mine = [name for name in named if role_of(name) == role]
        rows.append(spent(role, by_role))
        rows += [("  " + name, *spent(name, lambda used: used)[1:]) for name in mine if len(mine) > 1]
    if result.cores:
        most = [1000 * result.cores / total if (total := _spent(result.levels(c))) else None for c in counts]
        rows.append((f"so {result.cores} cores allow at most, 1/s", *(number(each, 0) for each in most)))
    return Section("Processor seconds for 1,000 messages", ("", *map(str, counts)), tuple(rows))


def _place(role: str) -> int:
    """Return the position of a role in the journey of a message."""
    journey = (CLIENT, Role.FACADE, Role.LOGGING, MAP_STORE, *BACKENDS, Role.MESSAGES)
    return journey.index(role) if role in journey else len(journey)


def _spent(levels: Sequence[Level]) -> float | None:
    return middle([level.cpu_s_per_1000 for level in levels])


def _peaks(result: Result) -> Section:
    names = list(result.rates[0].peak_bytes)
    rows = [(name, _mib(middle([one.peak_bytes.get(name) for one in result.rates]))) for name in names]
    return Section("Peak memory meanwhile", ("", "MiB"), tuple(rows))


def _batch(result: Result, batch: Lines) -> Section:
    bare = result.bare
    appended = bare.add_all_per_s if bare else None
    rows = (
        ("acknowledged, 1/s", number(batch.acknowledged_per_s)),
        ("stored end to end, 1/s", number(batch.stored_per_s)),
        ("failed", str(batch.failed)),
        ("bare client, add_all of 256, items/s", number(appended)),
        ("ratio to it", number(batch.acknowledged_per_s / appended if appended else None, 3)),
        ("bare client, put_if_absent, 256 in flight, 1/s", number(bare.put_if_absent_per_s if bare else None)),
        ("ratio to it", number(batch.acknowledged_per_s / bare.put_if_absent_per_s if bare else None)),
        ("sender, of a core", number(batch.client_cpu)),
        ("facade before, MiB", _mib(batch.facade_before_bytes)),
        ("facade at its peak, MiB", _mib(batch.facade_peak_bytes)),
        ("facade afterwards, MiB", _mib(batch.facade_after_bytes)),
    )
    return Section(f"POST /facade/batch, {batch.lines:,} lines", ("", ""), rows)


def _lag(result: Result) -> Section:
    lag = result.lag
    if lag is None:
        return Section("", (), ())
    rows = (
        ("asked for, 1/s", number(lag.asked_per_s)),
        ("sent, 1/s", number(lag.sent_per_s)),
        ("the latest of them late by, ms", number(lag.late_ms)),
        ("half of them stored after, ms", number(lag.p50_ms)),
        ("99 % stored after, ms", number(lag.p99_ms)),
        ("the last, ms", number(lag.worst_ms)),
        ("acknowledged and stored nowhere", str(lag.missing)),
    )
    return Section("Stored behind accepted, at a fixed rate", ("", ""), rows)


def _held(held: Sequence[Held]) -> Section:
    def row(what: str, measure: Callable[[Held], float | None], digits: int | None = None) -> tuple[str, ...]:
        return (what, *(number(measure(one), digits) for one in held))

    rows = [
        row(f"POST/s over {HELD_CONNECTIONS} connections", lambda x: x.level.pace.acknowledged_per_s, 0),
        row("do-nothing handler, POST/s", lambda x: x.level.ceiling_per_s, 0),
        row("ratio to it", lambda x: x.level.ratio, 2),
        row("p99, ms", lambda x: x.level.pace.p99_ms),
        row("processor seconds for 1,000", lambda x: x.level.cpu_s_per_1000),
        row("others on this machine, cores", lambda x: x.level.others_cores, 2),
        row("a lone POST, p99, ms", lambda x: x.idle_p99_ms),
        row("the same while all is read, p99, ms", lambda x: x.reading_p99_ms),
        row("its slowest, ms", lambda x: x.reading_worst_ms),
    ]
    for what in dict.fromkeys(seen.what for one in held for seen in one.reads):
        rows.append((f"{what}, s", *(number(_seen(one, what, lambda seen: seen.seconds), 3) for one in held)))
        rows.append(("  MB", *(number(_seen(one, what, lambda seen: seen.bytes / 1e6)) for one in held)))
    rows.append(row("filled through the batch API, 1/s", lambda x: x.fill_per_s, 0))
    rows.append(("messages-services, MiB", *(_mib(one.consumers_bytes) for one in held)))
    rows.append(("all processes, MiB", *(_mib(one.system_bytes) for one in held)))
    return Section("With so many messages held", ("", *(f"{one.messages:,}" for one in held)), tuple(rows))


def _seen(one: Held, what: str, figure: Callable[[Seen], float]) -> float | None:
    return next((figure(seen) for seen in one.reads if seen.what == what), None)


def _start(result: Result) -> Section:
    rows = []
    if start := result.start:
        rows = [
            ("up -d, cold, s", number(middle(start.cold_s))),
            ("up -d, warm, s", number(middle(start.warm_s))),
            ("--help, s", number(middle(start.help_s))),
        ]
    if idle := result.idle:
        share = idle.share
        rows.append(("idle, % of one core", number(None if share is None else 100 * share)))
        rows += [
            (f"  {role}", number(None if used is None else 100 * used / idle.seconds))
            for role, used in by_role(idle.cpu_s).items()
        ]
        sizes = by_role(idle.bytes)
        known = list(sizes.values())
        rows.append(("memory idle, MiB", _mib(None if None in known else sum(each or 0 for each in known))))
        rows += [(f"  {role}", _mib(size)) for role, size in sizes.items()]
    return Section("Start and rest", ("", ""), tuple(rows))
