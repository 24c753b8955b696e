"""End a system: through its supervisor if it answers, else by the records of its processes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

import psutil

from microq.aio import poll_until, task_group
from microq.config import Config
from microq.errors import DeadlineError, MicroqError, NotRunningError
from microq.supervisor import control, records
from microq.workflows import Starting, Terminal

DOWN_SECONDS = 60.0
"""Seconds for a supervisor to end everything, including itself."""

HUNG_SECONDS = 5.0
"""Seconds for a supervisor to answer; after that it is killed."""

LOOK = 0.02
"""Seconds between two checks of a supervisor that ends."""


async def end(config: Config, terminal: Terminal) -> None:
    """End the system of a project, and processes that earlier runs left behind."""
    pid = records.supervisor_pid(config)
    if pid is not None:
        await _ask_to_end(config, pid, terminal)
    else:
        pid = await asyncio.to_thread(records.lost_supervisor, config)
        if pid is not None:
            terminal.note(f"The supervisor (pid {pid}) lost its folder {config.folder}; ending it by a signal.")
            await _signal_to_end(pid, terminal)
    left = await asyncio.to_thread(records.leftovers, config)
    tell(left, terminal)
    await asyncio.to_thread(records.sweep, config, left)
    nothing = f"Nothing was running in {config.title}." if config.name else "Nothing was running here."
    terminal.note("Everything is stopped." if left or pid is not None else nothing)


def tell(left: Sequence[records.Leftover], terminal: Terminal) -> None:
    """Show which processes of a run without a supervisor are ended, if there are any."""
    if left:
        names = ", ".join(leftover.name for leftover in left)
        terminal.note(
            f"Ending {len(left)} processes that an earlier run left, with the messages in their memory: {names}"
        )


async def _ask_to_end(config: Config, pid: int, terminal: Terminal) -> None:
    try:
        supervisor = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return  # it ended meanwhile
    try:
        async with asyncio.timeout(DOWN_SECONDS):
            await _stop_and_watch(config, terminal.starting([], lines=True))
            await _gone(supervisor)
    except (TimeoutError, MicroqError):
        terminal.note(f"The supervisor (pid {pid}) does not answer; killing it.")
        records.signal_ours(supervisor, signal.SIGKILL)
        await _gone(supervisor)


async def _signal_to_end(pid: int, terminal: Terminal) -> None:
    try:
        supervisor = psutil.Process(pid)
        async with asyncio.timeout(DOWN_SECONDS):
            for number in (signal.SIGCONT, signal.SIGTERM):
                records.signal_ours(supervisor, number)
            await _gone(supervisor)
    except psutil.NoSuchProcess:
        return  # it ended meanwhile
    except TimeoutError:
        terminal.note(f"The supervisor (pid {pid}) does not end; killing it.")
        records.signal_ours(supervisor, signal.SIGKILL)
        await _gone(supervisor)


async def _gone(process: psutil.Process) -> None:
    # The kernel reports the end of a process only to its parent.
    await poll_until(lambda: not records.alive(process), LOOK)


async def _stop_and_watch(config: Config, shown: Starting) -> None:
    async def hear() -> None:
        async for event in operator.events():
            shown.hear(event)

    with shown:
        async with control.connect(config) as operator, task_group() as tasks:
            watching = tasks.create_task(hear())
            try:
                async with asyncio.timeout(HUNG_SECONDS):
                    await operator.down()
            except (TimeoutError, NotRunningError) as error:
                watching.cancel()
                raise DeadlineError("no answer") from error
