"""The lines of a pipe, a terminal or a file, each as soon as it is there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

_CHUNK = 1 << 16


async def lines(file: int) -> AsyncIterator[str]:
    """Yield the lines of a file descriptor, without their ends and without empty ones, while other tasks go on.

    What is no UTF-8 comes as surrogates, as in the arguments of a command.
    """
    rest = b""
    while chunk := await _read(file):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if text := _text(line):
                yield text
    if text := _text(rest):
        yield text


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode(errors="surrogateescape")


async def _read(file: int) -> bytes:
    """Read what is there, waiting for it in the loop: a thread that reads could not be stopped by Ctrl-C."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(file, ready.set)
    except PermissionError:  # a file on disk always has something, or has ended
        return os.read(file, _CHUNK)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(file)
    return os.read(file, _CHUNK)
