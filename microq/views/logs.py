"""The log files of a run: the last lines, and new ones as they come, one colour per process."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from rich.text import Text

from microq import log
from microq.views.cells import COLOURS

LOOK = 0.15
"""Pause between two looks at the files, in seconds."""

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
    """Yield new lines of the processes' log files for as long as it is asked; files may come later."""
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
    """Return the whole lines behind `offset`, and where the next one begins."""
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
    """Return a line as people read it, in its process's colour."""
    return Text(readable(line), style=COLOURS[names.index(name) % len(COLOURS)])


def readable(line: str) -> str:
    """Return a line in the text format, whichever it has, without what could move or colour a terminal."""
    return "\n".join(map(safe, log.readable(line).split("\n")))


def safe(line: str) -> str:
    """Return a line without what could move or colour a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "�" for c in line)


def files_of(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the log files that exist of these processes."""
    return [file for name in names if (file := folder / f"{name}.log").exists() and os.access(file, os.R_OK)]
