"""What happens to a system, a line an event."""

from __future__ import annotations

import time

from rich.text import Text

from microq.fleet import Event, ProcessState, Topic
from microq.views.cells import state_text
from microq.views.logs import safe


def event_line(happened: Event, *, no_wrap: bool = False) -> Text:
    """Return an event with its time of day: the new state of a process, or what a scenario does or sees."""
    if happened.topic is Topic.PROCESS and happened.kind in list(ProcessState):
        told = state_text(ProcessState(happened.kind), safe(happened.detail))
    else:
        told = Text(safe(_told(happened)), style="cyan")
    line = Text.assemble((clock(happened.at), "dim"), f"  {safe(happened.name):<16} ", told)
    line.no_wrap, line.overflow = no_wrap, "ellipsis"
    return line


def clock(at: float) -> str:
    """Return the local time of day with milliseconds."""
    thousandths = round(at * 1000)
    return f"{time.strftime('%H:%M:%S', time.localtime(thousandths // 1000))}.{thousandths % 1000:03d}"


def _told(happened: Event) -> str:
    more = happened.detail or str(happened.facts.get("what") or happened.facts.get("target") or "")
    return more if happened.kind == "says" and more else f"{happened.kind} {more}".rstrip()
