"""The terminal's pictures: each function takes data and returns a rich renderable."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from microq.cues import cues
from microq.fleet import Event, ProcessState, ProcessView, Role, Snapshot
from microq.views.cells import NOTHING, duration, mebibytes, state_text, table
from microq.views.queue import brokers_table, cue_lines, letters_line, members_table, queue_line


def starting(states: dict[str, tuple[ProcessState, str]], began: float) -> RenderableType:
    """Return the table that is shown while processes start or stop: name -> state and detail."""
    rows = table("PROCESS", "STATE")
    for name, (state, detail) in states.items():
        rows.add_row(name, state_text(state, detail))
    return Group(rows, Text(f"{time.monotonic() - began:.1f} s", style="dim"))


def status(view: Snapshot) -> RenderableType:
    """Return everything about a system: its processes, its members, its queue."""
    rows = table(
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
        rows.add_row(*_process_row(view, process))
    parts: list[RenderableType] = [rows]
    if view.having(Role.HAZELCAST):
        parts += [Text(""), members_table(view)]
    if view.having(Role.KAFKA):
        parts += [Text(""), brokers_table(view)]
    parts.append(Text(""))
    if view.safe:
        parts.append(Text("cluster safe: every copy is in place", style="green"))
    if view.queue:
        parts += [Text(queue_line(view.queue)), letters_line(view.queue)]
    parts += cue_lines(cues(view, {}))
    parts.append(Text(f"run folder {view.folder}", style="dim"))
    return Group(*parts)


def _process_row(view: Snapshot, process: ProcessView) -> list[RenderableType]:
    uptime = view.taken_at - process.started_at if process.started_at else None
    detail = f"({process.exit_status})" if process.state is ProcessState.EXITED else ""
    star = "★ " if process.name in view.owners else ""
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
