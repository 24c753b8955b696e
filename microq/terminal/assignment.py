"""The assignment: its steps with their evidence, and the result."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from microq.chaos.assignment import Assignment, Excerpt, Step
from microq.chaos.verdict import Ruling
from microq.log import escaped
from microq.terminal.style import nearest, table
from microq.terminal.verdict import STYLE

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
        parts.append(Text(f"    {escaped(one.came)}"))
    else:
        if one.expected:
            parts.append(Text(f"    expected: {escaped(one.expected)}"))
        parts.append(Text(f"    came:     {escaped(one.came)}", style=STYLE[one.ruling]))
    parts += [Text(f"    note: {escaped(note)}", style="yellow") for note in one.notes]
    parts += [part for excerpt in one.evidence for part in _excerpt(excerpt)]
    return Group(*parts)


def _excerpt(part: Excerpt) -> Iterator[RenderableType]:
    yield Text(f"    {escaped(part.title)}", style="dim bold")
    if part.head:
        rows = table(*part.head)
        for column in rows.columns:
            column.no_wrap, column.overflow = False, "fold"
        for row in part.rows:
            rows.add_row(*map(escaped, row))
        yield Padding(rows, (0, 0, 0, 6), expand=False)
        return
    for row in part.rows[:LINES]:
        yield Text(f"      {escaped(' '.join(row))}", style="dim", no_wrap=True, overflow="ellipsis")
    if (more := len(part.rows) - LINES + part.left_out) > 0:
        yield Text(f"      … {more} more", style="dim")


def result(found: Assignment, report: str | None) -> RenderableType:
    """Return the result of all steps, and the path of the report, if there is one."""
    line = Text.assemble(
        (f"{found.verdict.upper()}  ", STYLE[found.verdict]), f"{found.held} of {len(found.steps)} steps hold"
    )
    return Group(line, *([Text(f"Report {escaped(nearest(report))}")] if report else []))
