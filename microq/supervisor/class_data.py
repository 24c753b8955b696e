"""Make the class-data archives: run a single server, which writes the classes that it has loaded into a file."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from microq.backends import backend
from microq.backends.base import Backend
from microq.backends.jars import Archive, Engine
from microq.config import Address, Config
from microq.errors import MachineError, MicroqError
from microq.fleet import SERVERS, Event, Role, backend_of
from microq.supervisor import ports, records
from microq.supervisor.process import Process, executing
from microq.supervisor.readiness import says, until
from microq.supervisor.topology import ProcessSpec, server_environment

log = logging.getLogger(__name__)

START_SECONDS = 60.0
WRITE_SECONDS = 60.0
"""Seconds that the JVM may take to write the archive when it ends."""


@dataclass(frozen=True, slots=True)
class Training:
    """An archive to make with a single server of a backend, in the environment of its role."""

    role: Role
    backend: Backend
    archive: Archive


def missing(engine: Engine, config: Config) -> list[Training]:
    """Return the archives that do not exist yet."""
    roles = {each.name: role for role in SERVERS if (each := backend_of(config, role))}
    trainings = [
        Training(roles[name], backend(name), parts.archive) for name, parts in engine.parts.items() if name in roles
    ]
    return [training for training in trainings if not training.archive.made]


async def train(engine: Engine, config: Config, run: str) -> None:
    """Make the missing archives for this Java and these jars, with child processes of a run.

    If that fails, starts only stay slower.
    """
    for training in missing(engine, config):
        folder = training.archive.path.parent
        try:
            with tempfile.TemporaryDirectory(dir=folder, prefix="training-") as scratch:
                fresh = await _run(training, engine, config, run, Path(scratch))
                fresh.replace(training.archive.path)
        except (MicroqError, OSError) as error:
            log.warning("no class-data archive was made, starts stay slower: %s", error)


async def _run(training: Training, engine: Engine, config: Config, run: str, scratch: Path) -> Path:
    command = training.backend.lone_argv(config, scratch, engine, ports.reserve)
    output = scratch / "classes"
    spec = ProcessSpec("archive", training.role, Address("127.0.0.1", 1))  # no process connects to it
    process = Process(spec, scratch / "archive.log", records.Book(config, run), _ignore)
    start = executing(server_environment(config, training.role, run), named=True)
    await process.spawn(training.archive.training_argv(command, Path(output.name)), start)
    psutil.Process(process.pid).nice(10)  # the system that has just started has priority
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(process.watch())
        try:
            await until(process, says(process, training.backend.ready_line), START_SECONDS)
            await process.stop(WRITE_SECONDS)
        finally:
            await process.kill()
    if not output.exists():
        raise MachineError(f"the JVM wrote no archive: {process.new_log()[-300:]}")
    return output


def _ignore(_event: Event) -> None:
    pass
