"""The log files of a run: the last lines, and new ones as they come, one colour per process."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from rich.text import Text

from microq.views.terminal import COLOURS

LOOK = 0.15
"""Pause between two looks at the files, in seconds."""

Line = tuple[str, str]
"""A process's name and one line of its log."""


def last(files: Sequence[Path], count: int) -> list[Line]:
    """Return the last `count` lines of each file, all in the order of their times."""
    found: list[Line] = []
    for file in files:
        with file.open("rb") as lines:
            kept = deque(lines, maxlen=count)
        found += [(file.stem, line.decode(errors="replace").rstrip("\n")) for line in kept]
    # The lines begin with their time; a line of a traceback stays behind the line before it.
    return found if len(files) == 1 else sorted(found, key=lambda line: line[1][:23])


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
    return whole.decode(errors="replace").splitlines(), offset + len(whole)


def coloured(name: str, line: str, names: Sequence[str]) -> Text:
    """Return a line in its process's colour."""
    return Text(safe(line), style=COLOURS[names.index(name) % len(COLOURS)])


def safe(line: str) -> str:
    """Return a line without what could move or colour a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "�" for c in line)


def files_of(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the log files that exist of these processes."""
    return [file for name in names if (file := folder / f"{name}.log").exists() and os.access(file, os.R_OK)]
