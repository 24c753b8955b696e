"""Make the class-data archives: run one server on its own, let it write what it loaded, keep the file."""

from __future__ import annotations

import asyncio
import logging
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from microq.config import Address, Config
from microq.engines import hazelcast, kafka
from microq.engines.archive import Archive
from microq.engines.provision import Brokers, Engine
from microq.errors import MachineError, MicroqError
from microq.fleet import Event, Role
from microq.system import ports, records
from microq.system.children import executing
from microq.system.process import Process
from microq.system.ready import says, until
from microq.system.servers import READY_LINES
from microq.system.topology import ProcessSpec

log = logging.getLogger(__name__)

START_SECONDS = 60.0
WRITE_SECONDS = 60.0
"""How long the JVM may take to write the archive at its end."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """How one archive is made: `prepare` writes a server's files into a folder and returns its command line."""

    archive: Archive
    role: Role
    prepare: Callable[[Path], list[str]]


def missing(engine: Engine, config: Config) -> list[Lesson]:
    """Return what there is no archive of yet."""
    lessons = [Lesson(engine.archive, Role.HAZELCAST, lambda folder: _member(engine, config, folder))]
    if brokers := engine.kafka:
        lessons.append(Lesson(brokers.archive, Role.KAFKA, lambda folder: _broker(engine, brokers, config, folder)))
    return [lesson for lesson in lessons if not lesson.archive.flags()]


async def train(engine: Engine, config: Config, environment: Mapping[str, str]) -> None:
    """Make the missing archives for this Java and these jars. A failure costs the quick start, nothing else."""
    for lesson in missing(engine, config):
        folder = lesson.archive.path.parent
        try:
            with tempfile.TemporaryDirectory(dir=folder, prefix="training-") as scratch:
                fresh = await _run(lesson, config, environment, Path(scratch))
                fresh.replace(lesson.archive.path)
        except (MicroqError, OSError) as error:
            log.warning("no class-data archive was made, starts stay slower: %s", error)


def _member(engine: Engine, config: Config, folder: Path) -> list[str]:
    """Return the command line of a member alone."""
    port, agent_port = ports.reserve(2)
    address = Address("127.0.0.1", port)
    member = hazelcast.Member("archive", address, folder, hazelcast.Agent(agent_port, secrets.token_urlsafe(16)))
    hazelcast.write_files(config, member, [address])
    return hazelcast.argv(engine.java, engine.hazelcast, engine.agent, member, config.hazelcast.heap, ())


def _broker(engine: Engine, parts: Brokers, config: Config, folder: Path) -> list[str]:
    """Return the command line of a broker alone, which is a quorum of one."""
    door, controller, inner = (Address("127.0.0.1", port) for port in ports.reserve(3))
    broker = kafka.Broker(1, "archive", door, controller, inner, folder)
    kafka.write_files(config, broker, [broker], kafka.new_id())
    return kafka.argv(engine.java, parts.jars, broker, config.kafka.heap, ())


async def _run(lesson: Lesson, config: Config, environment: Mapping[str, str], scratch: Path) -> Path:
    command, output = lesson.prepare(scratch), scratch / "classes"
    spec = ProcessSpec("archive", lesson.role, Address("127.0.0.1", 1))  # whom nobody asks
    process = Process(spec, scratch / "archive.log", records.Book(config, environment["MICROQ_RUN"]), _ignore)
    await process.spawn(lesson.archive.training_argv(command, output), executing(environment))
    psutil.Process(process.pid).nice(10)  # the system that just started comes first
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(process.watch())
        try:
            await until(process, says(process, READY_LINES[lesson.role]), START_SECONDS)
            await process.stop(WRITE_SECONDS)
        finally:
            await process.kill()
    if not output.exists():
        raise MachineError(f"the JVM wrote none: {process.new_log()[-300:]}")
    return output


def _ignore(_event: Event) -> None:
    pass
