"""How a system is brought up, and shown while it comes up: in this terminal or in the background."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microq.cli.ending import tell
from microq.cli.output import console, note, warn_of
from microq.cli.progress import Progress
from microq.config import Config
from microq.dashboard.token import address_of
from microq.errors import AlreadyRunningError, MachineError, RemoteError
from microq.fleet import Event, Role
from microq.system import records, runs
from microq.system.topology import specs
from microq.tasks import task_group
from microq.views import logs


def warn(config: Config) -> None:
    """Warn of what this system would open to other machines."""
    page = [("the dashboard", config.dashboard.address)] if config.dashboard.enabled else []
    warn_of([*((spec.name, spec.address) for spec in specs(config)), *page])


def names_of(config: Config, *, no_messages: bool) -> list[str]:
    """Return what `up` starts: everything, or everything but the consumers."""
    if not no_messages:
        return ["all"]
    return sorted({spec.role.value for spec in specs(config)} - {Role.MESSAGES.value})


async def in_foreground(config: Config, engine: Any, *, no_messages: bool) -> bool:
    """Run the system in this terminal until Ctrl-C; return whether it was interrupted while starting."""
    from microq.host import hosting  # noqa: PLC0415 - not for a start in the background, which must be quick
    from microq.system import session  # noqa: PLC0415

    ended = asyncio.Event()
    everything = [spec.name for spec in specs(config)]
    folder = runs.new_run(config, "up")
    progress = Progress(everything)
    try:
        async with hosting(config, engine, folder, progress.hear, ended) as (supervisor, _):
            with progress:
                async with session.interruptible(ended):
                    await supervisor.start(names_of(config, no_messages=no_messages))
            note(_ready(config, progress.seconds, detached=False))
            supervisor.train_archive()
            await _until(ended, _print_logs(folder / "logs", everything))
            note("Stopping; Ctrl-C again kills everything at once.")
    except session.Interrupted:
        return True
    note("Stopped.")
    return False


async def _until(ended: asyncio.Event, work: Any) -> None:
    """Work until the end is asked for."""
    async with task_group() as tasks:
        task = tasks.create_task(work)
        await ended.wait()
        task.cancel()


async def _print_logs(folder: Path, names: Sequence[str]) -> None:
    screen = console()
    async for name, line in logs.follow(folder, names, from_start=True):
        screen.print(logs.coloured(name, line, names), soft_wrap=True)


def _ready(config: Config, seconds: float, *, detached: bool) -> str:
    facade = config.service_ips.facade_service
    how = "`microq down` stops it" if detached else "Ctrl-C stops it"
    page = f" See it at {address_of(config)}" if config.dashboard.enabled else ""
    return (
        f"Ready in {seconds:.1f} s. The facade is at {facade.url}/facade; `microq send 10` sends messages; {how}.{page}"
    )


async def detached(config: Config, *, no_messages: bool) -> None:
    """Start a supervisor in the background, show its start, and return when the system is ready."""
    pid = records.supervisor_pid(config)
    if pid is not None:
        raise AlreadyRunningError(pid, str(config.project))
    tell(await asyncio.to_thread(records.leftovers, config))
    folder = runs.new_run(config, "up")
    try:
        runs.furnish(config, folder)
    except OSError as error:
        raise MachineError(f"cannot write in {folder}: {error.strerror}") from error
    output = folder / "supervisor.log"
    reading, writing = os.pipe()
    with output.open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "microq.host",
            str(config.project),
            str(folder),
            str(writing),
            *names_of(config, no_messages=no_messages),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[writing],
            start_new_session=True,
        )
    os.close(writing)
    with Progress([spec.name for spec in specs(config)]) as progress:
        try:
            await _watch(reading, progress, output)
        except asyncio.CancelledError:
            child.send_signal(signal.SIGTERM)
            await child.wait()
            raise
    note(_ready(config, progress.seconds, detached=True))


async def _watch(reading: int, progress: Progress, output: Path) -> None:
    """Show what the supervisor reports until it is ready; raise the error it reports."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", buffering=0)
    )
    try:
        async for line in reader:
            body = json.loads(line)
            if "event" in body:
                progress.hear(Event.from_json(body["event"]))
            elif "error" in body:
                raise RemoteError(*body["error"])
            else:
                return
    finally:
        pipe.close()
    said = await asyncio.to_thread(output.read_text, encoding="utf-8", errors="replace")
    tail = "\n  ".join(said.splitlines()[-12:])
    raise MachineError(f"the supervisor ended before the system was ready; its last lines:\n  {tail}")
