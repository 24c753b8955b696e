"""Two queues side by side, for the terminal: a line for each measure, and their ratio."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from statistics import median

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from microq.bench.comparison import COUNTED, Line, lines
from microq.bench.found import Found, saturated
from microq.views.cells import UNKNOWN, nearest

FORMATS = {"s": "{:.2f}", "ms": "{:.1f}", "MiB": "{:,.0f}", "1/s": "{:,.0f}", "%": "{:.0f}", "": "{:,}"}

KAFKA_NOTE = "with Kafka the log and the store stay in Hazelcast, which is in `everything else`"


def comparison(found: Found, file: str, report: str | None = None) -> RenderableType:
    """Return the whole table, what must be known to read it, and where more is."""
    several = repeated(found)
    parts: list[RenderableType] = [_table(found, several=several), Text("")]
    parts += [Text(note) for note in notes(found, several=several)]
    parts += [
        Text(
            f"{one.backend}, run {one.row.run}, {one.row.fault}: {one.row.verdict}: {reason}   {one.row.history}",
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
    """Return whether there are several runs of each, so that a value has a lowest and a highest."""
    return max((one.run for one in found.started), default=0) > 1


def _table(found: Found, *, several: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("")
    ratio = len(found.backends) > 1
    for title in [*map(str.upper, found.backends), *(["RATIO"] if ratio else [])]:
        table.add_column(title, justify="right", no_wrap=True)
    for group, mine in groupby(folded(lines(found)), lambda line: line.group):
        listed = list(mine)
        # One unit is told once.
        units = {line.unit for line in listed}
        unit = units.pop() if len(units) == 1 else ""
        table.add_row(Text(f"{group}, {unit}" if unit else group, style="bold"))
        for line in listed:
            what = line.measure if line.unit in {"", unit} else f"{line.measure}, {line.unit}"
            cells = [cell(line, backend, several=several) for backend in found.backends]
            table.add_row(Text(f"  {what}"), *cells, *([quotient(line)] if ratio else []))
    return table


def quotient(line: Line) -> str:
    """Return the ratio of a line in words; nothing where it would mean nothing."""
    if not line.comparable:
        return ""
    return UNKNOWN if line.ratio is None else f"{line.ratio:.2f}"


def cell(line: Line, backend: str, *, several: bool) -> Text:
    """Return the value of one backend, with its lowest and highest if there are several; what is unknown says so."""
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
    """Put those counts of a group into one line that are 0 everywhere: there is nothing more to say of them."""
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


def notes(found: Found, *, several: bool) -> Iterator[str]:
    """Yield what must be known to read the table."""
    if len(found.backends) > 1:
        yield f"RATIO: {found.backends[1]} by {found.backends[0]}. Without acknowledgement, or delivery: for how long."
    if several:
        yield "Medians of the runs, their lowest and highest; counts are sums."
    rates = {c: [p.acknowledged_per_s for one in found.ceiling for p in one.at(c)] for c in found.connections}
    if most := [f"{median(known):,.0f}/s over {connections}" for connections, known in rates.items() if known]:
        yield f"A do-nothing handler answers {', '.join(most)} connections here, to the same load generator."
    for connections, share in saturated(found):
        yield f"The load generator used {share:.0%} of a core at {connections} connections: more may be possible there."
    if "kafka" in found.backends:
        yield f"Memory: {KAFKA_NOTE}."
