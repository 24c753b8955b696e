"""The assignment: its steps with their evidence, the result, and the results of many projects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from microq.chaos.assignment import Assignment, Excerpt, Step
from microq.chaos.verdict import Ruling
from microq.log import escaped
from microq.terminal.style import NOTHING, nearest, table
from microq.terminal.verdict import STYLE, STYLES
from microq.workflows.grade import Grade

SIGN = {Ruling.PASS: "✓", Ruling.FAIL: "✗", Ruling.UNKNOWN: "?"}

LINES = 10
"""How many lines of an excerpt are shown; the report has more."""


def step(one: Step) -> RenderableType:
    """Return a step that has ended. Its texts come from programs of unknown origin: they are escaped."""
    took = f"   ({one.seconds:.1f} s)" if one.seconds else ""
    parts: list[RenderableType] = [
        Text.assemble((f"{SIGN[one.ruling]} {one.number:d} ", STYLE[one.ruling]), (one.number.title, "bold"), took)
    ]
    if one.ruling is Ruling.PASS:
        parts.append(_indented(4, one.came))
    else:
        parts += [_indented(4, f"expected: {one.expected}")] if one.expected else []
        parts.append(_indented(4, f"came:     {one.came}", STYLE[one.ruling]))
    parts += [_indented(4, f"note: {note}", "yellow") for note in one.notes]
    parts += [part for excerpt in one.evidence for part in _excerpt(excerpt)]
    return Group(*parts)


def _indented(columns: int, text: str, style: str = "") -> RenderableType:
    return Padding(Text(escaped(text), style=style, overflow="fold"), (0, 0, 0, columns), expand=False)


def _excerpt(part: Excerpt) -> Iterator[RenderableType]:
    yield _indented(4, part.title, "dim bold")
    if part.head:
        rows = table(*part.head)
        for column in rows.columns:
            column.no_wrap, column.overflow = False, "fold"
        for row in part.rows:
            rows.add_row(*map(escaped, row))
        yield Padding(rows, (0, 0, 0, 6), expand=False)
        return
    for row in part.rows[:LINES]:
        yield _indented(6, " ".join(row), "dim")
    if (more := len(part.rows) - LINES + part.left_out) > 0:
        yield _indented(6, f"… {more} more", "dim")


def result(found: Assignment, report: str | None) -> RenderableType:
    """Return the result of all steps, and the path of the report, if there is one."""
    line = Text.assemble(
        (f"{found.verdict.upper()}  ", STYLE[found.verdict]), f"{found.held} of {len(found.steps)} steps hold"
    )
    return Group(line, *([Text(f"Report {escaped(nearest(report))}")] if report else []))


def grades(found: Sequence[Grade]) -> RenderableType:
    """Return a line for each project, and the paths of the reports.

    A project without programs of its own is said to have none: then microq's own services were judged.
    """
    columns = ("PROJECT", "VERDICT", "STEPS", "SECONDS", "QUEUE", "PROGRAMS", "WHY")
    rows = table(*columns, numbers=("SECONDS",), shrinks="WHY")
    rows.columns[-1].overflow = "fold"
    for one in found:
        rows.add_row(
            escaped(one.project),
            Text(one.verdict.upper(), style=STYLES[one.verdict]),
            f"{one.held}/{one.steps}" if one.steps else NOTHING,
            f"{one.seconds:.0f}",
            escaped(one.queue) or NOTHING,
            ", ".join(one.programs) or NOTHING,
            Text(escaped(one.why)),
        )
    notes = [
        Text(f"{escaped(one.project)} has no programs of its own: microq's services were judged.", style="yellow")
        for one in found
        if not one.programs and one.steps
    ]
    reports = [Text(f"Report {escaped(nearest(one.report))}", style="dim") for one in found if one.report]
    return Group(rows, *notes, *reports)
