"""`microq bench --profile`: a process is watched while messages are sent."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import typer

from microq.bench.generator import generating
from microq.bench.pace import System
from microq.bench.profile import hottest, read, record, recorder
from microq.bench.usage import CLIENT, by_name
from microq.cli.bench import Options
from microq.cli.output import INTERRUPTED, emit, note, run
from microq.cli.trials import interruptible, operating
from microq.client import open_session
from microq.config import Config
from microq.errors import UnknownNameError, UsageError
from microq.fleet import Role
from microq.system.runs import new_run
from microq.system.topology import specs
from microq.views.bench import profiled

MOST = 20
"""Functions that are shown."""

CONNECTIONS = 32

JAVA = frozenset({Role.HAZELCAST, Role.KAFKA})


def show_profile(config: Config, name: str, options: Options, *, as_json: bool) -> None:
    """Watch the process `name`, or the first one of the role, under load, and show where its time went.

    Raises `UnknownNameError`, `UsageError` for a process of Java, `ExtraMissingError`, and `MachineError`.
    """
    process = _chosen(config, name)
    recorder()
    folder = new_run(config, "profile")
    file = folder / f"{process}.speedscope.json"
    with interruptible() as interrupted:
        run(_watch(config, process, folder, file, options))
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    spent = hottest(read(file), MOST)
    data = {"process": process, "file": str(file), "own_time": [dataclasses.asdict(each) for each in spent]}
    emit(data, lambda: profiled(process, spent, str(file)), as_json=as_json)


def _chosen(config: Config, name: str) -> str:
    known = specs(config)
    spec = next((each for each in known if name in {each.name, each.role.value}), None)
    if spec is None and name != CLIENT:
        raise UnknownNameError(name, [CLIENT, *dict.fromkeys(e.role.value for e in known), *(e.name for e in known)])
    if spec is not None and spec.role in JAVA:
        raise UsageError(
            f"{spec.name} is a process of Java, which py-spy cannot look into; a JDK can, while it is under load: "
            f"jcmd PID JFR.start duration=30s filename={spec.name}.jfr (its PID is in `microq status --json`)"
        )
    return CLIENT if spec is None else spec.name


async def _watch(config: Config, name: str, folder: Path, file: Path, options: Options) -> None:
    async with (
        operating(config, folder, {}, (), no_messages=False) as (operator, _),
        open_session() as session,
        generating() as generator,
    ):
        pids = {**by_name(await operator.snapshot()), CLIENT: [generator.pid]}
        system = System(session, config, pids, generator)
        await system.warm(CONNECTIONS, options.warm)
        seconds = max(options.seconds, 1)
        note(f"Watching {name} for {seconds:g} s, with {CONNECTIONS} connections.")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(record(pids[name][0], seconds, file))
            tasks.create_task(system.measure(CONNECTIONS, seconds + 1))
