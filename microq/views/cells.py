"""What the terminal's pictures are made of: colours, signs, tables, and numbers as people say them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from microq.fleet import ProcessState

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
"""A shape for each state, for those who see no colours."""

UNKNOWN = "n/a"
NOTHING = "–"


def table(*columns: str, numbers: Sequence[str] = (), shrinks: str = "") -> Table:
    """Return an empty table; in a narrow terminal the column `shrinks` is cut before the others are."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column in numbers
        table.add_column(column, justify="right" if right else "left", no_wrap=column != shrinks, overflow="ellipsis")
    return table


def state_text(state: ProcessState, detail: str = "") -> Text:
    """Return a state with its sign and colour."""
    return Text(f"{SIGN[state]} {state}{f' {detail}' if detail else ''}", style=STATE_STYLE[state])


def mebibytes(count: int | None) -> str:
    """Return a number of bytes in MiB."""
    return NOTHING if count is None else f"{count / (1 << 20):.0f}M"


def nearest(path: str) -> str:
    """Return a path as it is called from the current folder, if it lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def duration(seconds: float | None) -> str:
    """Return seconds as people say them: 4.1 s, 3m07s, 2h15m."""
    if seconds is None:
        return NOTHING
    if seconds < 59.95:  # noqa: PLR2004 - what rounds to less than a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
