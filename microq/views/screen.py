"""The screen of `microq status --watch`: one look at a system, made to fit; and the same as a line."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from microq.figures import QueueView
from microq.fleet import FLOW, ProcessState, ProcessView, Role
from microq.views.cells import NOTHING, UNKNOWN, duration, mebibytes, state_text, table
from microq.views.events import event_line
from microq.views.queue import cue_lines
from microq.views.servers import servers_tables
from microq.views.sight import Sight

WIDE = 155
"""Columns from which on servers and services stand side by side."""

BAR = 12
"""Columns of the bar that shows how full the queue is."""

LEAST = 2
"""Lines that are kept for what happened last."""

CUES = 3
"""Lines that are kept for what must be known, if there is as much."""


def screen(sight: Sight, width: int, height: int) -> RenderableType:
    """Return everything that fits into so many columns and rows; what is left out is said."""
    servers, rows = servers_tables(sight.now, wide=width >= WIDE)
    services = [p for p in sight.now.processes if p.role not in {Role.HAZELCAST, Role.KAFKA}]
    warnings = sight.cues
    head = [_head(sight), *_queue(sight)]
    below = LEAST + min(CUES, len(warnings))
    if width >= WIDE:
        room = height - len(head) - below - 2
        middle = Table.grid(padding=(0, 4, 0, 0))
        middle.add_row(Group(*servers), _services(sight, services, room - 1))
        used = max(rows, min(len(services), room - 1) + 1)
        parts: list[RenderableType] = [*head, Text(""), middle, Text("")]
        used += 2
    else:
        room = height - len(head) - rows - below
        parts = [*head, *servers, _services(sight, services, room - 1)]
        used = rows + min(len(services), max(1, room - 1)) + 1
    left = height - len(head) - used
    told = _warnings(warnings, max(1, left - LEAST)) if warnings else []
    happened = list(sight.events)[-max(0, left - len(told)) :] if left > len(told) else []
    return Group(*parts, *told, *(event_line(each, no_wrap=True) for each in happened))


def _head(sight: Sight) -> Text:
    now = sight.now
    began = min((p.started_at for p in now.processes if p.started_at), default=None)
    up = f"up {duration(now.taken_at - began)}" if began else "nothing is up"
    if sight.lost_at is not None:
        return lost(sight.lost_at)
    safe = ("✓ cluster safe", "green") if now.safe else ("! cluster not safe", "yellow")
    if not now.managed:
        safe = ("servers elsewhere", "dim")
    return _line(("microq", "bold"), f"  {_clock(now.taken_at)}  {up}  ", safe, f"  queue in {now.backend}")


def lost(since: float) -> Text:
    """Return the line that says that nobody answers, and that all below it is of before."""
    return _line(("microq", "bold"), (f"  no supervisor answers since {_clock(since)}; waiting for one", "bold red"))


def with_lost(sight: Sight, picture: RenderableType) -> RenderableType:
    """Return the picture, under the line that says so if nobody answers."""
    return picture if sight.lost_at is None else Group(lost(sight.lost_at), picture)


def _queue(sight: Sight) -> list[Text]:
    queue = sight.now.queue
    accepted, delivered = sight.rate("messages_acknowledged"), sight.rate("messages_received")
    speed = f"accepted {_rate(accepted)}  delivered {_rate(delivered)}"
    took = f"  p50 {_milliseconds(sight.took(0.5))}  p99 {_milliseconds(sight.took(0.99))}"
    if queue is None:
        return [_line("queue  ", UNKNOWN), _line(speed, took)]
    owner = f"★ {sight.now.owner}" if sight.now.owner else f"owner {UNKNOWN}"
    copies = f"{queue.backup_count} backup{'' if queue.backup_count == 1 else 's'}"
    fill = _line(f"{queue.name}  {_bar(queue)} {_count(queue.size)} of {queue.max_size:,}  {copies}  {owner}")
    counts = f"{_count(queue.pending)} pending  {_count(queue.redelivered)} redelivered  "
    dead = (f"{_count(queue.dead)} dead", "yellow" if queue.dead else "")
    return [fill, _line(speed, took), _line(counts, dead)]


def _bar(queue: QueueView) -> str:
    """Return how full the queue is in eighths of a column; what is not empty is not shown as empty."""
    if queue.size is None:
        return f"[{'?' * BAR}]"
    eighths = min(8 * BAR, -(-queue.size * 8 * BAR // max(1, queue.max_size)))
    whole, rest = divmod(eighths, 8)
    return f"[{('█' * whole + (chr(0x2590 - rest) if rest else '')).ljust(BAR)}]"


def _services(sight: Sight, services: Sequence[ProcessView], room: int) -> RenderableType:
    """Return the services in so many rows; those that are ready are left out first."""
    rows = table("SERVICE", "STATE", "UP", "MEMORY", "HELD", "RATE", numbers=("UP", "MEMORY", "HELD", "RATE"))
    room = max(1, room)
    shown = list(services)
    if len(shown) > room:
        ranked = sorted(shown, key=lambda p: (p.state is ProcessState.READY, p.role not in FLOW))
        kept = {process.name for process in ranked[: room - 1]}
        shown = [process for process in shown if process.name in kept]
    for process in shown:
        rows.add_row(*_service_row(sight, process))
    if len(shown) < len(services):
        rows.add_row(f"… {len(services) - len(shown)} more", style="dim")
    return rows


def _service_row(sight: Sight, process: ProcessView) -> list[RenderableType]:
    uptime = sight.now.taken_at - process.started_at if process.started_at else None
    counted = FLOW.get(process.role)
    held = NOTHING if process.held is None else f"{process.held:,}"
    return [
        process.name,
        state_text(process.state),
        duration(uptime),
        mebibytes(process.rss),
        held,
        _rate(sight.rate(counted, [process])) if counted and process.counters else NOTHING,
    ]


def _warnings(warnings: Sequence[str], room: int) -> list[Text]:
    shown = list(warnings) if len(warnings) <= room else list(warnings[: room - 1])
    lines = [_line((f"! {warning}", "yellow")) for warning in shown]
    if len(shown) < len(warnings):
        lines.append(_line((f"! and {len(warnings) - len(shown)} more: `microq status`", "yellow")))
    return lines


def line(sight: Sight) -> RenderableType:
    """Return a look in one line, for where there is no screen; below it what has come up that must be known."""
    now, queue = sight.now, sight.now.queue
    owner = " ".join(sorted(now.owners)) or UNKNOWN
    counts = (
        f"pending {_count(queue.pending)}  redelivered {_count(queue.redelivered)}  dead {_count(queue.dead)}"
        if queue
        else f"pending {UNKNOWN}  redelivered {UNKNOWN}  dead {UNKNOWN}"
    )
    look = Text(
        f"{_clock(now.taken_at)}  depth {_count(queue.size if queue else None)}"
        f"  accepted {_rate(sight.rate('messages_acknowledged'))}  delivered {_rate(sight.rate('messages_received'))}"
        f"  p50 {_milliseconds(sight.took(0.5))}  p99 {_milliseconds(sight.took(0.99))}"
        f"  {counts}  {'safe' if now.safe else 'not safe'}  ★ {owner}"
    )
    return Group(look, *cue_lines(sight.new_cues()))


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def _rate(rate: float | None) -> str:
    return f"{UNKNOWN}" if rate is None else f"{rate:,.0f}/s"


def _milliseconds(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{seconds * 1000:,.1f} ms"
