"""How a system is ended: through its supervisor if it answers, else by its records."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

import psutil

from microq.cli.output import note
from microq.cli.progress import Progress
from microq.config import Config
from microq.errors import DeadlineError, MicroqError, NotRunningError
from microq.system import control, records
from microq.tasks import task_group

DOWN_SECONDS = 60.0
"""How long a supervisor may take to end everything, itself last."""

HUNG_SECONDS = 5.0
"""How long a supervisor may take to answer before `down` gives it up."""

LOOK = 0.02
"""Pause in seconds between two looks at a supervisor that ends."""


async def end(config: Config) -> None:
    """End the system: through its supervisor if it answers, else by its records."""
    pid = records.supervisor_pid(config)
    if pid is not None:
        await _ask_to_end(config, pid)
    left = await asyncio.to_thread(records.leftovers, config)
    tell(left)
    await asyncio.to_thread(records.sweep, config, left)
    note("Everything is stopped." if left or pid is not None else "Nothing was running here.")


def tell(left: Sequence[records.Leftover]) -> None:
    """Say which processes of a run whose supervisor is gone are ended, if there are any."""
    if left:
        names = ", ".join(leftover.name for leftover in left)
        note(f"Ending {len(left)} processes that an earlier run left, with the messages in their memory: {names}")


async def _ask_to_end(config: Config, pid: int) -> None:
    try:
        supervisor = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return  # it ended meanwhile
    try:
        async with asyncio.timeout(DOWN_SECONDS):
            await _stop_and_watch(config)
            await _gone(supervisor)
    except (TimeoutError, MicroqError):
        note(f"The supervisor (pid {pid}) does not answer; killing it.")
        records.signal_ours(supervisor, signal.SIGKILL)
        await _gone(supervisor)


async def _gone(process: psutil.Process) -> None:
    while records.alive(process):  # noqa: ASYNC110 - the kernel tells only our children's ends
        await asyncio.sleep(LOOK)


async def _stop_and_watch(config: Config) -> None:
    with Progress([]) as progress:
        async with control.connect(config) as operator, task_group() as tasks:
            watching = tasks.create_task(_hear(operator, progress))
            try:
                async with asyncio.timeout(HUNG_SECONDS):
                    await operator.down()
            except (TimeoutError, NotRunningError) as error:
                watching.cancel()
                raise DeadlineError("no answer") from error


async def _hear(operator: control.ControlClient, progress: Progress) -> None:
    async for event in operator.events():
        progress.hear(event)
