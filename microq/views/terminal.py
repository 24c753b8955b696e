"""The terminal's pictures: each function takes data and returns a rich renderable."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from microq.figures import MemberFigures, QueueView
from microq.fleet import Event, ProcessState, ProcessView, Role, Snapshot

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


def _table(*columns: str, numbers: Sequence[str] = (), shrinks: str = "") -> Table:
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


def duration(seconds: float | None) -> str:
    """Return seconds as people say them: 4.1 s, 3m07s, 2h15m."""
    if seconds is None:
        return NOTHING
    if seconds < 59.95:  # noqa: PLR2004 - what rounds to less than a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def starting(states: dict[str, tuple[ProcessState, str]], began: float) -> RenderableType:
    """Return the table that is shown while processes start or stop: name -> state and detail."""
    table = _table("PROCESS", "STATE")
    for name, (state, detail) in states.items():
        table.add_row(name, state_text(state, detail))
    return Group(table, Text(f"{time.monotonic() - began:.1f} s", style="dim"))


def status(view: Snapshot) -> RenderableType:
    """Return everything about a system: its processes, its members, its queue."""
    table = _table(
        "PROCESS",
        "STATE",
        "PID",
        "ADDRESS",
        "UP",
        "MEMORY",
        "RESTARTS",
        "HELD",
        numbers=("PID", "UP", "MEMORY", "RESTARTS", "HELD"),
        shrinks="ADDRESS",
    )
    for process in view.processes:
        table.add_row(*_process_row(view, process))
    parts: list[RenderableType] = [table]
    if view.managed:
        parts += [Text(""), _members_table(view)]
        parts += [Text(""), Text(_safety(view), style="green" if view.safe else "yellow")]
    if view.queue:
        parts += [Text(_queue_line(view.queue)), _letters_line(view.queue)]
    parts.append(Text(f"run folder {view.folder}", style="dim"))
    return Group(*parts)


def _process_row(view: Snapshot, process: ProcessView) -> list[RenderableType]:
    uptime = view.taken_at - process.started_at if process.started_at else None
    detail = f"({process.exit_status})" if process.state is ProcessState.EXITED else ""
    star = "★ " if view.queue and view.queue.owner == process.name else ""
    return [
        f"{star}{process.name}",
        state_text(process.state, detail),
        str(process.pid or NOTHING),
        process.address,
        duration(uptime),
        mebibytes(process.rss),
        str(process.restarts),
        NOTHING if process.held is None else f"{process.held:,}",
    ]


def _members_table(view: Snapshot) -> RenderableType:
    table = _table(
        "MEMBER",
        "ITEMS",
        "BACKUPS",
        "LOG OWNED",
        "LOG BACKUPS",
        "PARTITIONS",
        "HEAP",
        numbers=("ITEMS", "BACKUPS", "LOG OWNED", "LOG BACKUPS", "PARTITIONS", "HEAP"),
    )
    for process in view.having(Role.HAZELCAST):
        figures = _figures(view, process.name)
        if figures is None:
            table.add_row(_starred(view, process.name), *([UNKNOWN] * 6), style="dim")
            continue
        table.add_row(
            _starred(view, process.name),
            f"{figures.items:,}",
            f"{figures.backups:,}",
            f"{figures.log_entries:,}",
            f"{figures.log_backups:,}",
            str(figures.partitions),
            f"{figures.heap_used >> 20}/{mebibytes(figures.heap_max)}",
        )
    return table


def _figures(view: Snapshot, name: str) -> MemberFigures | None:
    return next((figures for figures in view.members if figures.name == name), None)


def _starred(view: Snapshot, name: str) -> str:
    return f"★ {name}" if view.queue and view.queue.owner == name else f"  {name}"


def _safety(view: Snapshot) -> str:
    if not view.members:
        return "cluster: no member answers"
    return "cluster safe: every copy is in place" if view.safe else "cluster not safe: copies are being made"


def _queue_line(queue: QueueView) -> str:
    size = UNKNOWN if queue.size is None else f"{queue.size:,}"
    copies = f"{queue.backup_count} backup{'s' if queue.backup_count != 1 else ''}"
    return f"{queue.name}   {copies}   {size} of {queue.max_size:,} items"


def _letters_line(queue: QueueView) -> Text:
    """Return the counts of what the queue did not deliver at once."""
    pending, redelivered, dead = (
        UNKNOWN if count is None else f"{count:,}" for count in (queue.pending, queue.redelivered, queue.dead)
    )
    line = f"{pending} pending   {redelivered} redelivered   {dead} dead"
    return Text(f"{line}   (`microq dead list` shows why)", style="yellow") if queue.dead else Text(line)


def queue(view: Snapshot) -> RenderableType:
    """Return the queue's copies, member by member, the primary owner starred."""
    table = _table(
        "MEMBER",
        "STATE",
        "ITEMS",
        "BACKUPS",
        "OLDEST",
        "OFFERS",
        "POLLS",
        "REJECTED",
        numbers=("ITEMS", "BACKUPS", "OLDEST", "OFFERS", "POLLS", "REJECTED"),
    )
    for process in view.having(Role.HAZELCAST):
        figures = _figures(view, process.name)
        row: list[RenderableType] = [_starred(view, process.name), state_text(process.state)]
        if figures is None:
            table.add_row(*row, *([UNKNOWN] * 6), style="dim")
            continue
        numbers = (figures.offers, figures.polls, figures.rejected)
        table.add_row(
            *row,
            f"{figures.items:,}",
            f"{figures.backups:,}",
            duration(figures.oldest),
            *(f"{number:,}" for number in numbers),
        )
    taken = max((figures.taken_at for figures in view.members), default=None)
    age = f"collected {view.taken_at - taken:.1f} s ago" if taken else "no member answers"
    head = _queue_line(view.queue) if view.queue else "the facade does not answer: owner and size are unknown"
    letters = [_letters_line(view.queue)] if view.queue else []
    if not view.managed:
        where = "the members run elsewhere; where the copies are cannot be seen from here"
        return Group(Text(f"{head}   {where}"), *letters)
    parts: list[RenderableType] = [Text(f"{head}   {age}"), *letters, table]
    if view.queue and not view.queue.backup_count:
        parts.append(Text("backup-count is 0: what a killed member owned is lost", style="yellow"))
    return Group(*parts)


def event(happened: Event) -> Text:
    """Return an event as a line."""
    state = ProcessState(happened.kind)
    return Text.assemble(f"{happened.name:<16} ", state_text(state, happened.detail))


def findings_table(rows: Sequence[Sequence[str]]) -> RenderableType:
    """Return what `microq doctor` found: what, state, detail, remedy."""
    signs = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "missing": ("✗", "red")}
    lines: list[RenderableType] = []
    for what, state, detail, remedy in rows:
        sign, style = signs[state]
        lines.append(Text.assemble((f"{sign} ", style), (what, "bold"), f": {detail}"))
        if remedy:
            lines.append(Text(f"    {remedy}"))
    return Group(*lines)
