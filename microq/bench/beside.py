"""A module of ours that runs beside the benchmark, in a process of its own: what it takes is told apart."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

END_SECONDS = 20.0
"""How long it may take until it is gone."""

LONGEST_LINE = 1 << 28
"""Bytes of one line of its output: the generator answers with the latency of every single message."""


@asynccontextmanager
async def beside(module: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Yield the process of a module, with its standard input and output; it is gone afterwards.

    The module is to end with its input, so that it never outlives who started it.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LONGEST_LINE,
        start_new_session=True,  # Ctrl-C is ours to answer
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
