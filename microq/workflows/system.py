"""Start a system in the background, in a separate process (`python -m microq.workflows.host`), and end it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from microq import caveats, hints, interpreter
from microq.aio import poll_until, task_group
from microq.backends import MAP_STORE, backend
from microq.config import NAME_VARIABLE, Config
from microq.dashboard.access import address_of
from microq.errors import AlreadyRunningError, DeadlineError, MachineError, MicroqError, NotRunningError, RemoteError
from microq.fleet import Event, Operator, Role, group_of
from microq.supervisor import control, records, runs
from microq.supervisor.topology import specs
from microq.workflows import Starting, Terminal

HOST = "microq.workflows.host"
"""The module of the process of a system in the background."""

REPORT_SECONDS = 5.0
"""Seconds that every server may take to report what it runs with."""

LAST_LINES = 12
"""The number of last lines of the log that are shown if a host ends too early."""


def warn(config: Config, terminal: Terminal) -> None:
    """Warn of addresses that other machines can reach, and of settings that its servers cannot fulfil."""
    for line in caveats.of_configuration(config):
        terminal.note(f"Warning: {line}")
    if config.hazelcast.config and config.hazelcast.managed:
        for line in backend(MAP_STORE).additions(config):
            terminal.note(f"{Path(config.hazelcast.config).name}: {line}")
    page = [("the dashboard", config.dashboard.address)] if config.dashboard.enabled else []
    if line := caveats.exposed([*((spec.name, spec.address) for spec in specs(config)), *page]):
        terminal.note(line)


def warn_of_servers(differences: Sequence[str], terminal: Terminal) -> None:
    """Warn of differences between the servers and their configuration."""
    for line in differences:
        terminal.note(f"Warning: {line}")


async def differences(operator: Operator, seconds: float = REPORT_SECONDS) -> list[str]:
    """Return how the servers differ from their configuration once each has reported; after `seconds` what is known.

    A server that is busy for a moment reports nothing.
    """
    return caveats.differences(await operator.look(lambda view: view.joined, seconds))


def names_of(config: Config, *, no_messages: bool) -> list[str]:
    """Return the processes to start: all, or all except the consumers."""
    if not no_messages:
        return ["all"]
    return sorted({group_of(spec.name) for spec in specs(config)} - {Role.MESSAGES.value})


def ready(config: Config, seconds: float, *, how_to_stop: str) -> str:
    """Return the message for a system that is ready."""
    facade = config.service_ips.facade_service
    page = f" See it at {address_of(config)}" if config.dashboard.enabled else ""
    return (
        f"Ready in {seconds:.1f} s. The facade is at {facade.url}/facade; `microq send 10` sends messages; "
        f"{how_to_stop} stops it.{page}"
    )


async def detached(config: Config, terminal: Terminal, *, no_messages: bool) -> None:
    """Start a host in the background, show its start, and return when the system is ready.

    Raises the errors of that start, and `AlreadyRunningError` if a system runs in this project.
    """
    pid = records.supervisor_pid(config) or records.lost_supervisor(config)
    if pid is not None:
        raise AlreadyRunningError(pid, str(config.project), config.name)
    note_leftovers(await asyncio.to_thread(records.leftovers, config), terminal)
    folder = runs.new_run(config, "up")
    try:
        runs.prepare(config, folder)
    except OSError as error:
        raise MachineError(f"cannot write in {folder}: {error.strerror}") from error
    output, began = folder / "supervisor.log", time.monotonic()
    reading, writing = os.pipe()
    with output.open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            *interpreter.PYTHON_M,
            HOST,
            str(config.project),
            config.name,
            str(folder),
            str(writing),
            *names_of(config, no_messages=no_messages),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # The process has the marks of its system, as the children have.
            env={
                **interpreter.environment(),
                **hints.variables(),
                "MICROQ_PROJECT": str(config.project),
                NAME_VARIABLE: config.name,
            },
            pass_fds=[writing],
            start_new_session=True,
        )
    os.close(writing)
    with terminal.starting([spec.name for spec in specs(config)], lines=True) as shown:
        try:
            warn_of_servers(await _watch(reading, shown, output), terminal)
        except asyncio.CancelledError:
            child.send_signal(signal.SIGTERM)
            await child.wait()
            raise
    terminal.note(ready(config, time.monotonic() - began, how_to_stop="`microq down`"))


async def _watch(reading: int, shown: Starting, output: Path) -> list[str]:
    """Show what a host reports until it is ready, and return how its servers differ; raise the error it reports."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", buffering=0)
    )
    try:
        async for line in reader:
            body = json.loads(line)
            if "event" in body:
                shown.hear(Event.from_json(body["event"]))
            elif "error" in body:
                raise RemoteError(*body["error"])
            else:
                return list(body["differences"])
    finally:
        pipe.close()
    said = await asyncio.to_thread(output.read_text, encoding="utf-8", errors="replace")
    tail = "\n  ".join(said.splitlines()[-LAST_LINES:])
    raise MachineError(f"the supervisor ended before the system was ready; its last lines:\n  {tail}")


# -- the end: through its supervisor if it answers, else by the records of its processes ------------------------------

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
    note_leftovers(left, terminal)
    await asyncio.to_thread(records.sweep, config, left)
    nothing = f"Nothing was running in {config.title}." if config.name else "Nothing was running here."
    terminal.note("Everything is stopped." if left or pid is not None else nothing)


def note_leftovers(left: Sequence[records.Leftover], terminal: Terminal) -> None:
    """Announce the end of processes that have no supervisor, if there are any."""
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
