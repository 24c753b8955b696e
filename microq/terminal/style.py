"""Colours, signs, fitting tables, and formats of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from microq.caveats import UNKNOWN
from microq.fleet import ProcessState
from microq.hints import moved

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_red", "bright_cyan", "bright_magenta", "bright_green")

STATE_STYLE = {
    ProcessState.STARTING: "yellow",
    ProcessState.READY: "green",
    ProcessState.PAUSED: "yellow",
    ProcessState.STOPPING: "yellow",
    ProcessState.STOPPED: "dim",
    ProcessState.EXITED: "red",
}
SIGN = {
    ProcessState.STARTING: "…",
    ProcessState.READY: "●",
    ProcessState.PAUSED: "‖",
    ProcessState.STOPPING: "…",
    ProcessState.STOPPED: "○",
    ProcessState.EXITED: "✗",
}
"""A shape for each state, for people who do not see colours."""

NOTHING = "–"

_ANY_WIDTH = 1 << 14


SHRUNK = 9
"""The minimum width of a text that may be cut."""


class Fitting(Table):
    """A table that is never too wide: it leaves out whole columns from the right, but never the first one.

    Cells are not cut: a number that is cut is another number.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the columns that fit."""
        shown = copy(self)
        while len(shown.columns) > 1 and _width(shown, console, options) > options.max_width:
            shown.columns = shown.columns[:-1]
        yield from Table.__rich_console__(shown, console, options)


def _width(table: Table, console: Console, options: ConsoleOptions) -> int:
    """Return the minimum width of a table."""
    _, right, _, left = table.padding
    whole = options.update(width=_ANY_WIDTH)
    widths = []
    for column in table.columns:
        widest = max(console.measure(cell, options=whole).maximum for cell in (column.header, *column.cells))
        widths.append(widest if column.no_wrap else min(widest, SHRUNK))
    return sum(widths) + (right + left) * (len(widths) - 1)


def table(*columns: str, numbers: Sequence[str] = (), shrinks: str = "") -> Table:
    """Return an empty table; in a narrow terminal the column `shrinks` is cut before others are left out."""
    table = Fitting(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column in numbers
        table.add_column(column, justify="right" if right else "left", no_wrap=column != shrinks, overflow="ellipsis")
    return table


def state_text(state: ProcessState, detail: str = "") -> Text:
    """Return a state with its sign and colour."""
    return Text(f"{SIGN[state]} {state}{f' {detail}' if detail else ''}", style=STATE_STYLE[state])


def number(count: int | None) -> str:
    """Return a count as text, or that it is unknown."""
    return UNKNOWN if count is None else f"{count:,}"


def mebibytes(count: int | None) -> str:
    """Return a number of bytes in MiB."""
    return NOTHING if count is None else f"{count / (1 << 20):.0f}M"


def nearest(path: str) -> str:
    """Return a path relative to the current folder, if it is below it and the user's shell is there too."""
    here = Path.cwd()
    if moved():
        return path
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def duration(seconds: float | None) -> str:
    """Return seconds in a form for people: 4.1 s, 3m07s, 2h15m."""
    if seconds is None:
        return NOTHING
    if seconds < 59.95:  # noqa: PLR2004 - what rounds to less than a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
