"""How long commands take, as people wait for them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from microq.errors import DeadlineError, MachineError

COMMAND_SECONDS = 120.0
"""How long a command may take."""


async def timed(words: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Run `microq` with these words and return how long it took, in seconds.

    Raises `MachineError` with its last line if it fails, and `DeadlineError`. Cancelled, it is interrupted and waited
    for.
    """
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "microq",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        start_new_session=True,  # Ctrl-C is ours to pass on
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            _, said = await process.communicate()
    except TimeoutError as error:
        raise DeadlineError(f"microq {' '.join(words)} took longer than {COMMAND_SECONDS:g} s") from error
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await process.wait()
    took = time.perf_counter() - began
    if process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise MachineError(f"microq {' '.join(words)} ended with {process.returncode}: {last}")
    return took


def link_cache(files: Iterable[Path], cache: Path, empty: Path) -> None:
    """Fill an empty cache folder with links to these files of another one: nothing else of it is known there."""
    for file in files:
        link = empty / file.relative_to(cache)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
