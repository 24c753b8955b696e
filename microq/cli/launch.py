"""How a system is brought up, shown while it comes up, and ended: in this terminal or in the background."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from microq.cli.output import console, note
from microq.cli.system import names_without_messages
from microq.config import Config
from microq.errors import DeadlineError, MachineError, MicroqError, NotRunningError
from microq.fleet import Event, ProcessState
from microq.system import control, records, session
from microq.system.control import RemoteError
from microq.system.topology import specs
from microq.tasks import task_group
from microq.views import logs, terminal

DOWN_SECONDS = 60.0
"""How long a supervisor may take to end everything, itself last."""

HUNG_SECONDS = 5.0
"""How long a supervisor may take to answer before `down` gives it up."""


class Progress:
    """The states of processes while they start or stop: a live table on a terminal, lines elsewhere."""

    def __init__(self, names: Sequence[str]) -> None:
        self._states = dict.fromkeys(names, (ProcessState.STOPPED, ""))
        self._began = time.monotonic()
        self._screen = console(error=True)
        self._live: Any = None

    def __enter__(self) -> Self:
        if self._screen.is_terminal:
            from rich.live import Live  # noqa: PLC0415 - pipes need none

            self._live = Live(get_renderable=self._picture, console=self._screen, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _picture(self) -> Any:
        return terminal.starting(self._states, self._began)

    def hear(self, event: Event) -> None:
        """Show an event."""
        self.hear_quietly(event)
        if not self._live:
            self._screen.print(terminal.event(event))

    def hear_quietly(self, event: Event) -> None:
        """Show an event in the live table only."""
        self._states[event.name] = (ProcessState(event.kind), event.detail)

    @property
    def seconds(self) -> float:
        """For how long it has been shown."""
        return time.monotonic() - self._began


def names_of(config: Config, *, no_messages: bool) -> list[str]:
    """Return what `up` starts: everything, or everything but the consumers."""
    return names_without_messages(config) if no_messages else ["all"]


async def in_foreground(config: Config, engine: Any, *, no_messages: bool) -> bool:
    """Run the system in this terminal until Ctrl-C; return whether it was interrupted while starting."""
    ended = asyncio.Event()
    everything = [spec.name for spec in specs(config)]
    folder = records.new_run(config, "up")
    progress = Progress(everything)
    try:
        async with session.running(config, engine, folder, progress.hear, ended) as supervisor:
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
    return f"Ready in {seconds:.1f} s. The facade is at {facade.url}/facade; `microq send 10` sends messages; {how}."


async def in_background(config: Config, report: int, provide: Callable[[Config], Any], *, no_messages: bool) -> None:
    """Be the supervisor behind `up -d`: report events, then readiness or the error, on a file descriptor."""
    ended = asyncio.Event()
    with os.fdopen(report, "w", buffering=1, encoding="utf-8") as parent:

        def tell(body: dict[str, Any]) -> None:
            try:
                if not parent.closed:
                    parent.write(json.dumps(body) + "\n")
            except OSError:
                ended.set()  # whoever started us is gone before we were ready

        try:
            folder = records.new_run(config, "up")
            hear = lambda event: tell({"event": dataclasses.asdict(event)})  # noqa: E731 - a listener
            async with session.running(config, provide(config), folder, hear, ended) as supervisor:
                async with session.interruptible(ended):
                    await supervisor.start(names_of(config, no_messages=no_messages))
                tell({"ready": True})
                parent.close()
                supervisor.train_archive()
                await ended.wait()
        except MicroqError as error:
            tell({"error": [error.code, error.exit_code, str(error)]})
        except session.Interrupted:
            tell({"error": ["interrupted", 130, "the start was interrupted"]})


async def detached(config: Config, options: Sequence[str]) -> None:
    """Start a supervisor in the background, show its start, and return when the system is ready."""
    config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pid = records.supervisor_pid(config)
    if pid is not None:
        from microq.errors import AlreadyRunningError  # noqa: PLC0415 - a rare case

        raise AlreadyRunningError(pid, str(config.project))
    reading, writing = os.pipe()
    output = config.folder / "supervisor.log"
    with output.open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "microq",
            "up",
            *options,
            "--report-fd",
            str(writing),
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
                progress.hear(Event(**body["event"]))
            elif "error" in body:
                raise RemoteError(*body["error"])
            else:
                return
    finally:
        pipe.close()
    said = await asyncio.to_thread(output.read_text, encoding="utf-8", errors="replace")
    tail = "\n  ".join(said.splitlines()[-12:])
    raise MachineError(f"the supervisor ended before the system was ready; its last lines:\n  {tail}")


async def end(config: Config) -> None:
    """End the system: through its supervisor if it answers, else by its records."""
    pid = records.supervisor_pid(config)
    if pid is not None:
        await _ask_to_end(config, pid)
    left = await asyncio.to_thread(records.leftovers, config)
    if left:
        note(f"Ending {len(left)} processes that an earlier run left: {', '.join(leftover.name for leftover in left)}")
    await asyncio.to_thread(records.sweep, config, left)
    note("Everything is stopped." if left or pid is not None else "Nothing was running here.")


async def _ask_to_end(config: Config, pid: int) -> None:
    supervisor = psutil.Process(pid)
    try:
        async with asyncio.timeout(DOWN_SECONDS):
            await _stop_and_watch(config)
            await asyncio.to_thread(supervisor.wait, DOWN_SECONDS)
    except (TimeoutError, psutil.TimeoutExpired, MicroqError):
        note(f"The supervisor (pid {pid}) does not answer; killing it.")
        records.signal_ours(supervisor, signal.SIGKILL)
        await asyncio.to_thread(supervisor.wait, HUNG_SECONDS)


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
