"""The journey of one message, for the terminal."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from microq.trails import Step, Trail
from microq.views.events import clock
from microq.views.logs import safe

AROUND = "—"
"""Stands where a process would for what happened around a message."""


def journey(trail: Trail) -> RenderableType:
    """Return a journey step by step: where, at what time of day, how long after the first step, what."""
    rows = Table(box=None, pad_edge=False, show_header=False)
    for column in ("where", "time", "since"):
        rows.add_column(column, no_wrap=True, justify="right" if column == "since" else "left")
    rows.add_column("what", overflow="fold")
    for step in trail.steps:
        since = step.at - trail.steps[0].at
        what = Text(safe(step.what), style="" if step.sure else "italic")
        rows.add_row(step.where or AROUND, clock(step.at), f"+{since:.3f} s", what, style=_style(step))
    day = time.strftime("%Y-%m-%d", time.localtime(trail.steps[0].at))
    head = Text.assemble((safe(trail.id), "bold"), f"   {safe(trail.text)}" if trail.text else "", (f"   {day}", "dim"))
    end = [Text("No messages-service has received it.", style="yellow")] if trail.waits else []
    return Group(head, rows, *end)


def _style(step: Step) -> str:
    return "yellow" if not step.where else ""
