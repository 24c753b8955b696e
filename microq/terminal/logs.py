"""Lines in order of time: log files and their new lines, events, and the journey of one message."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from microq import log
from microq.fleet import Event, ProcessState, Topic
from microq.terminal.style import COLOURS, state_text
from microq.trace import Step, Trail

LOOK = 0.15
"""Seconds between two readings of the files."""

Line = tuple[str, str]
"""A process's name and one line of its log."""


def last(files: Sequence[Path], count: int) -> list[Line]:
    """Return the last `count` lines of each file, all in the order of their times."""
    found: list[tuple[float, Line]] = []
    for file in files:
        with file.open("rb") as lines:
            kept = deque(lines, maxlen=count)
        at = 0.0
        for line in kept:
            text = line.decode(errors="replace").rstrip("\n")
            # A line of a traceback has the time of the line before it.
            parsed = log.parse(text)
            at = parsed.at if parsed else at
            found.append((at, (file.stem, text)))
    if len(files) > 1:
        found.sort(key=lambda timed: timed[0])
    return [line for _, line in found]


async def follow(folder: Path, names: Sequence[str], *, from_start: bool = False) -> AsyncIterator[Line]:
    """Yield new lines of the processes' log files, without an end; a file may appear later."""
    offsets: dict[str, int] = {}
    if not from_start:
        offsets = {name: size for name in names if (size := _size(folder / f"{name}.log"))}
    while True:
        for name in names:
            lines, offsets[name] = _new_lines(folder / f"{name}.log", offsets.get(name, 0))
            for line in lines:
                yield name, line
        await asyncio.sleep(LOOK)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _new_lines(file: Path, offset: int) -> tuple[list[str], int]:
    """Return the complete lines after `offset`, and the offset of the next one."""
    try:
        with file.open("rb") as source:
            source.seek(offset)
            data = source.read(1 << 20)
    except FileNotFoundError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1] or (data if len(data) == 1 << 20 else b"")
    return [line.decode(errors="replace") for line in whole.removesuffix(b"\n").split(b"\n") if whole], offset + len(
        whole
    )


def coloured(name: str, line: str, names: Sequence[str]) -> Text:
    """Return a line in the text format, in the colour of its process."""
    return Text(readable(line), style=COLOURS[names.index(name) % len(COLOURS)])


def readable(line: str) -> str:
    """Return a line of either format in the text format, with characters escaped that control a terminal."""
    return "\n".join(map(safe, log.readable(line).split("\n")))


def safe(line: str) -> str:
    """Return a line with characters escaped that control a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "�" for c in line)


def files_of(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the existing log files of these processes."""
    return [file for name in names if (file := folder / f"{name}.log").exists() and os.access(file, os.R_OK)]


# -- events ------------------------------------------------------------------------------------------------------------


def event_line(happened: Event, *, no_wrap: bool = False) -> Text:
    """Return an event with its time of day: the new state of a process, or a step of a scenario."""
    if happened.topic is Topic.PROCESS and happened.kind in list(ProcessState):
        happening = state_text(ProcessState(happened.kind), safe(happened.detail))
    else:
        happening = Text(safe(_scenario_text(happened)), style="cyan")
    line = Text.assemble((clock(happened.at), "dim"), f"  {safe(happened.name):<16} ", happening)
    line.no_wrap, line.overflow = no_wrap, "ellipsis"
    return line


def clock(at: float) -> str:
    """Return the local time of day with milliseconds."""
    thousandths = round(at * 1000)
    return f"{time.strftime('%H:%M:%S', time.localtime(thousandths // 1000))}.{thousandths % 1000:03d}"


def _scenario_text(happened: Event) -> str:
    more = happened.detail or str(happened.facts.get("what") or happened.facts.get("target") or "")
    return more if happened.kind == "says" and more else f"{happened.kind} {more}".rstrip()


# -- the journey of a message ------------------------------------------------------------------------------------------

AROUND = "—"
"""Stands in place of a process for an event around the message."""


def journey(trail: Trail) -> RenderableType:
    """Return a journey step by step: where, time of day, time since the first step, what happened."""
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
