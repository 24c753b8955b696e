"""Make the class-data archive: run one member on its own, let it write what it loaded, keep the file."""

from __future__ import annotations

import asyncio
import logging
import secrets
import tempfile
from pathlib import Path

import psutil

from microq.config import Address, Config
from microq.engines import hazelcast
from microq.engines.provision import Engine
from microq.errors import MachineError, MicroqError
from microq.fleet import Event, Role
from microq.system import ports, records
from microq.system.process import Process
from microq.system.ready import says, until
from microq.system.topology import ProcessSpec

log = logging.getLogger(__name__)

START_SECONDS = 60.0
WRITE_SECONDS = 60.0
"""How long the JVM may take to write the archive at its end."""


async def train(engine: Engine, config: Config, environment: dict[str, str]) -> None:
    """Make the archive for this Java and these jars. A failure costs the quick start, nothing else."""
    folder = engine.archive.path.parent
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix="training-") as scratch:
            fresh = await _run(engine, config, environment, Path(scratch))
            fresh.replace(engine.archive.path)
    except (MicroqError, OSError) as error:
        log.warning("no class-data archive was made, starts stay slower: %s", error)


async def _run(engine: Engine, config: Config, environment: dict[str, str], scratch: Path) -> Path:
    port, agent_port = ports.free(2)
    address = Address("127.0.0.1", port)
    spec = ProcessSpec("archive", Role.HAZELCAST, address)
    member = hazelcast.Member(spec.name, address, scratch, hazelcast.Agent(agent_port, secrets.token_urlsafe(16)))
    hazelcast.write_files(config, member, [address])
    output = scratch / "classes"
    command = hazelcast.argv(engine.java, engine.hazelcast, engine.agent, member, config.hazelcast.heap, ())
    process = Process(spec, scratch / "archive.log", records.Book(config, environment["MICROQ_RUN"]), _ignore)
    await process.spawn(engine.archive.training_argv(command, output), environment)
    psutil.Process(process.pid).nice(10)  # the system that just started comes first
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(process.watch())
        try:
            await until(process, says(process, hazelcast.READY_LINE), START_SECONDS)
            await process.stop(WRITE_SECONDS)
        finally:
            await process.kill()
    if not output.exists():
        raise MachineError(f"the JVM wrote none: {process.new_log()[-300:]}")
    return output


def _ignore(_event: Event) -> None:
    pass
