"""A benchmark, and the comparison of two queues."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from microq.backends import described
from microq.bench.comparison import COUNTED, Found, Line, lines, saturated
from microq.bench.profile import Spent
from microq.bench.result import SATURATED, Result
from microq.bench.table import SIGNS, Section, sections
from microq.caveats import UNKNOWN
from microq.log import escaped
from microq.terminal.style import nearest

KEPT = 0.9
"""The share of the requested rate from which on the rate counts as kept."""

STYLES = {SIGNS[True]: "green", SIGNS[False]: "red"}


def benchmark(result: Result, folder: str) -> RenderableType:
    """Return all tables, the notes to read them, and the path of the files."""
    parts: list[RenderableType] = []
    for section in sections(result):
        parts += [_table(section), Text("")]
    parts += [Text(note) for note in notes(result)]
    parts += [Text(each, style="yellow") for each in omissions(result)]
    parts.append(Text(f"Everything {nearest(folder)}: bench.json, bench.md", style="dim"))
    return Group(*parts)


def _apart() -> Table:
    """Return an empty table, its columns two blanks apart."""
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")


def _table(section: Section) -> Table:
    table = _apart()
    table.add_column(section.title if not section.heads[0] else f"{section.title}; {section.heads[0]}")
    for head in section.heads[1:]:
        table.add_column(head, justify="right", no_wrap=True)
    for first, *others in section.rows:
        table.add_row(Text(first, style=STYLES.get(first[:1], "")), *others)
    return table


def notes(result: Result) -> Iterator[str]:
    """Yield the notes to read the figures."""
    if result.rates:
        rounds = len(result.rates)
        medians = f"Medians of {rounds} rounds, of the ratios too" if rounds > 1 else "One round"
        yield f"{medians}, each on a fresh system, consumers on."
        yield "The same load generator measured the do-nothing handler just before and just after each rate."
    for connections in result.connections:
        most = max(level.pace.client_cpu for level in result.levels(connections))
        if most > SATURATED:
            yield f"Generator saturated at {connections} connections ({most:.0%} of a core): more may be possible."
    if result.lag:
        if result.lag.sent_per_s < result.lag.asked_per_s * KEPT:
            rates = f"of {result.lag.asked_per_s:,.0f}/s only {result.lag.sent_per_s:,.0f}/s"
            yield f"The fixed rate was not kept, {rates} were answered: the lag is that of an overload."
        yield "A message counts as stored when its consumer begins to write its claim; it is shown one write later."
    if result.bare:
        yield "The bare client's queue has one backup, Hazelcast's default; it is destroyed afterwards."
    for part, settings in result.settings.items():
        yield f"Each system of `{part}` has --set {', '.join(settings)}, so that it can hold the messages."


def omissions(result: Result) -> Iterator[str]:
    """Yield the parts that were not measured."""
    for each in result.omitted:
        yield f"{each.part}: {'could not be measured' if each.failed else 'left out'}: {each.why}"


def markdown(result: Result, facts: Mapping[str, Any]) -> str:
    """Return the tables in Markdown, with the date, the machine, and the command to repeat it."""
    machine = facts["machine"]
    lines = [
        (
            f"Measured {machine['date']}: {machine['system']}, {machine['cores']} cores, "
            f"{machine['memory_bytes'] / (1 << 30):.0f} GiB of memory, Python {facts['versions']['python']}, "
            f"Java {facts['versions']['java']}. Repeat it with `{facts['repeat']}`."
        ),
        "",
    ]
    for section in sections(result):
        lines += [
            "| " + " | ".join((section.heads[0] or section.title, *section.heads[1:])) + " |",
            "|---" + "|--:" * (len(section.heads) - 1) + "|",
            *("| " + " | ".join(row) + " |" for row in section.rows),
            "",
        ]
    lines += [*(f"- {note}" for note in notes(result)), *(f"- {each}" for each in omissions(result))]
    return "\n".join(lines) + "\n"


def profiled(name: str, spent: Sequence[Spent], file: str) -> RenderableType:
    """Return the profile of a process: functions by their own time."""
    table = _apart()
    table.add_column("OWN TIME", justify="right", no_wrap=True)
    table.add_column(f"FUNCTION OF {name}", overflow="fold")
    table.add_column("FILE", style="dim", overflow="fold")
    for each in spent:
        table.add_row(f"{each.share:.1%}", Text(each.function), Text(each.where))
    return Group(table, Text(""), Text(f"Flame graph: open {nearest(file)} in https://www.speedscope.app", style="dim"))


# -- two queues side by side -------------------------------------------------------------------------------------------

FORMATS = {"s": "{:.2f}", "ms": "{:.1f}", "MiB": "{:,.0f}", "1/s": "{:,.0f}", "%": "{:.0f}", "": "{:,}"}

KAFKA_NOTE = "with Kafka the log and the store stay in Hazelcast, which is in `everything else`"


def comparison(found: Found, file: str, report: str | None = None) -> RenderableType:
    """Return the whole table, the notes to read it, and the paths of the files."""
    several = repeated(found)
    parts: list[RenderableType] = [_comparison_table(found, several=several), Text("")]
    parts += [Text(note) for note in comparison_notes(found, several=several)]
    parts += [
        Text(
            f"{one.backend}, run {one.row.run}, {one.row.fault}: {one.row.verdict}: {escaped(reason)}   "
            f"{one.row.history}",
            "yellow",
        )
        for one in found.struck
        for reason in one.row.reasons
    ]
    parts += [
        Text(f"{one.backend}, run {one.run}, {one.what}: could not be made: {one.error}", style="yellow")
        for one in found.failures
    ]
    if report is not None:
        parts.append(Text(f"Report {nearest(report)}"))
    parts.append(Text(f"Everything {file}", style="dim"))
    return Group(*parts)


def repeated(found: Found) -> bool:
    """Return whether each backend has several runs, so that values have a minimum and a maximum."""
    return max((one.run for one in found.started), default=0) > 1


def _comparison_table(found: Found, *, several: bool) -> Table:
    table = _apart()
    table.add_column("")
    ratio = len(found.backends) > 1
    for title in [*map(str.upper, found.backends), *(["RATIO"] if ratio else [])]:
        table.add_column(title, justify="right", no_wrap=True)
    for group, mine in groupby(folded(lines(found)), lambda line: line.group):
        listed = list(mine)
        # A unit is shown once.
        units = {line.unit for line in listed}
        unit = units.pop() if len(units) == 1 else ""
        table.add_row(Text(f"{group}, {unit}" if unit else group, style="bold"))
        for line in listed:
            what = line.measure if line.unit in {"", unit} else f"{line.measure}, {line.unit}"
            cells = [cell(line, backend, several=several) for backend in found.backends]
            table.add_row(Text(f"  {what}"), *cells, *([quotient(line)] if ratio else []))
    return table


def quotient(line: Line) -> str:
    """Return the ratio of a line as text; empty if it has no meaning."""
    if not line.comparable:
        return ""
    return UNKNOWN if line.ratio is None else f"{line.ratio:.2f}"


def cell(line: Line, backend: str, *, several: bool) -> Text:
    """Return the value of one backend, with minimum and maximum if there are several; or that it is unknown."""
    value = line.values.get(backend)
    if value is None:
        return Text(UNKNOWN, style="yellow")
    if isinstance(value, str):
        return Text(value, style="" if value.endswith("pass") and "," not in value else "bold red")
    text = Text(FORMATS[line.unit].format(value))
    span = line.spans.get(backend)
    if several and span:
        low, high = (FORMATS[line.unit].format(end) for end in span)
        text.append(f"  {low}–{high}" if low != high else "", style="dim")
    return text


def folded(listed: Iterable[Line]) -> Iterator[Line]:
    """Join the counts of a group that are 0 everywhere into one line."""
    waiting: list[Line] = []
    for line in listed:
        if line.measure in COUNTED and all(value == 0 for value in line.values.values()):
            waiting.append(line)
            continue
        if line.measure not in COUNTED:
            yield from _one(waiting)
            waiting = []
        yield line
    yield from _one(waiting)


def _one(zeros: Sequence[Line]) -> Iterator[Line]:
    if zeros:
        first = zeros[0]
        names = ", ".join(line.measure for line in zeros)
        yield Line(first.group, names, "", first.values, first.spans, comparable=False, ratio=None)


def comparison_notes(found: Found, *, several: bool) -> Iterator[str]:
    """Yield the notes to read the table."""
    if len(found.backends) > 1:
        yield f"RATIO: {found.backends[1]} divided by {found.backends[0]}."
        yield "Without acknowledgement, without delivery: the longest time in which none came, in a run with a fault."
    if several:
        yield "Medians of the runs, their lowest and highest; counts are sums."
    rates = {c: [p.acknowledged_per_s for one in found.ceiling for p in one.at(c)] for c in found.connections}
    if most := [f"{median(known):,.0f}/s over {connections}" for connections, known in rates.items() if known]:
        yield f"A do-nothing handler answers {', '.join(most)} connections here, to the same load generator."
    for connections, share in saturated(found):
        yield f"The load generator used {share:.0%} of a core at {connections} connections: more may be possible there."
    if not all(described(name).keeps_maps for name in found.backends):
        yield f"Memory: {KAFKA_NOTE}."
