"""Start a system in the background, in a separate process: `python -m microq.workflows.host`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from microq import caveats, interpreter
from microq.config import NAME_VARIABLE, Config
from microq.dashboard.access import address_of
from microq.errors import AlreadyRunningError, MachineError, RemoteError
from microq.fleet import Event, Operator, Role, group_of
from microq.supervisor import records, runs
from microq.supervisor.topology import specs
from microq.workflows import Starting, Terminal, end

HOST = "microq.workflows.host"
"""The module of the process of a system in the background."""

REPORT_SECONDS = 5.0
"""Seconds that every server may take to report what it runs with."""

LAST_LINES = 12
"""How many last lines of the log are shown if a host ends too early."""


def warn(config: Config, terminal: Terminal) -> None:
    """Warn of addresses that other machines can reach, and of settings that its servers cannot fulfil."""
    for line in caveats.of_configuration(config):
        terminal.note(f"Warning: {line}")
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
    end.tell(await asyncio.to_thread(records.leftovers, config), terminal)
    folder = runs.new_run(config, "up")
    try:
        runs.furnish(config, folder)
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
            env={**interpreter.environment(), "MICROQ_PROJECT": str(config.project), NAME_VARIABLE: config.name},
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
