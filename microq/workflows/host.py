"""Host a system: run the supervisor and the page in this process.

`microq up` hosts a system in its terminal, a trial hosts one for itself, and `python -m microq.workflows.host` is the
host in the background. It reports events, and then readiness or an error, to its starter, as JSON lines on an inherited
pipe.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from microq import interpreter
from microq.aio import task_group
from microq.backends.jars import Engine
from microq.chaos.faults.base import Fault
from microq.chaos.proxy import proxying
from microq.chaos.scenario import Trial, fitted
from microq.chaos.verdict import Verdict
from microq.config import Config
from microq.dashboard.server import show_system
from microq.errors import ExitCode, MicroqError, PortTakenError
from microq.fleet import Detour, Operator
from microq.supervisor import control, ports, records, runs
from microq.supervisor.supervisor import Interrupted, Listener, Supervisor, interruptible, serving
from microq.supervisor.topology import plan_detours, specs
from microq.workflows import Terminal, machine, system
from microq.workflows.trial import reserved, run_on

DASHBOARD = "the dashboard"


@asynccontextmanager
async def hosting(  # noqa: PLR0913 - what `supervisor.serving` needs, and the page
    config: Config,
    engine: Engine | None,
    folder: Path,
    listener: Listener,
    ended: asyncio.Event,
    *,
    detours: Sequence[Detour] = (),
    without_page: Callable[[str], None] | None = None,
) -> AsyncIterator[tuple[Supervisor, str]]:
    """Run a system as `supervisor.serving` does, with its page; yield the supervisor and the page's address (or empty).

    If the page's address is taken, call `without_page` with the reason, or without it raise `PortTakenError`.
    """
    async with serving(config, engine, folder, listener, ended, detours) as supervisor:
        if not _can_show(config, without_page):
            yield supervisor, ""
            return
        async with show_system(config, supervisor, folder) as address:
            yield supervisor, address


def _can_show(config: Config, without_page: Callable[[str], None] | None) -> bool:
    if not config.dashboard.enabled:
        return False
    try:
        ports.check(DASHBOARD, config.dashboard.address)
    except PortTakenError as error:
        if without_page is None:
            raise
        without_page(str(error))
        return False
    return True


LogPrinter = Callable[[Path, Sequence[str]], Any]
"""A coroutine function that prints the logs of named processes in a folder as they come, until cancelled."""


async def in_foreground(
    config: Config, engine: Engine | None, terminal: Terminal, print_logs: LogPrinter, *, no_messages: bool
) -> bool:
    """Host the system in this terminal until Ctrl-C; return whether it was interrupted while starting."""
    ended, began = asyncio.Event(), time.monotonic()
    everything = [spec.name for spec in specs(config)]
    folder = runs.new_run(config, "up")
    shown = terminal.starting(everything, lines=True)
    try:
        async with hosting(config, engine, folder, shown.hear, ended) as (supervisor, _):
            with shown:
                async with interruptible(ended):
                    await supervisor.start(system.names_of(config, no_messages=no_messages))
            system.warn_of_servers(await system.differences(supervisor), terminal)
            terminal.note(system.ready(config, time.monotonic() - began, how_to_stop="Ctrl-C"))
            supervisor.train_archive()
            await _until(ended, print_logs(folder / "logs", everything))
            terminal.note("Stopping; Ctrl-C again kills everything at once.")
    except Interrupted:
        return True
    terminal.note("Stopped.")
    return False


async def _until(ended: asyncio.Event, work: Any) -> None:
    """Run `work` until `ended` is set."""
    async with task_group() as tasks:
        task = tasks.create_task(work)
        await ended.wait()
        task.cancel()


@asynccontextmanager
async def operating(  # noqa: PLR0913 - how a system is started for one run
    config: Config,
    folder: Path,
    terminal: Terminal,
    *,
    defects: Mapping[str, str] = {},
    detours: Sequence[Detour] = (),
    no_messages: bool = False,
    ready: Callable[[float], None] | None = None,
) -> AsyncIterator[tuple[Operator, bool]]:
    """Yield the operator of the running system or of one hosted for this run, and whether it is hosted.

    `ready` is called with the seconds of the start.
    """
    if records.supervisor_pid(config) is not None:
        terminal.note("Using the system that runs here; it is restored afterwards.")
        async with control.connect(config) as operator:
            yield operator, False
        return
    system.warn(config, terminal)
    began, ended = time.monotonic(), asyncio.Event()
    engine, shown = machine.engine_of(config, terminal), terminal.starting([], lines=False)
    without = lambda why: terminal.note(f"There is no page to watch it: {why}")  # noqa: E731 - a listener
    async with hosting(config, engine, folder, shown.hear, ended, detours=detours, without_page=without) as (
        supervisor,
        page,
    ):
        for role, defect in defects.items():
            await supervisor.sabotage(role, defect)
        with shown:
            async with interruptible(ended):
                await supervisor.start(system.names_of(config, no_messages=no_messages))
        seconds = time.monotonic() - began
        if ready:
            ready(seconds)
        else:
            terminal.note(f"The system is ready after {seconds:.1f} s{f'; see it at {page}' if page else ''}.")
        supervisor.train_archive()
        try:
            async with interruptible(ended):
                yield supervisor, True
        finally:
            # At once, because its data is not needed: in order, the members would hand their data over to each other.
            await supervisor.kill(["all"])


async def run_trial(config: Config, trial: Trial, terminal: Terminal) -> tuple[Verdict, Path]:
    """Run a trial on the running system, else on one hosted for it; return its verdict and its history.

    Raises `UsageError` if another scenario runs in this project.
    """
    trial = fitted(config, trial)
    with reserved(config, trial) as folder:
        async with (
            _links(config, trial.fault) as (detours, links),
            operating(config, folder, terminal, defects=trial.defects, detours=detours, no_messages=trial.quiet) as (
                operator,
                ours,
            ),
        ):
            return await run_on(operator, config, trial, folder, terminal.note, restore=not ours, links=links)


@asynccontextmanager
async def _links(config: Config, fault: Fault) -> AsyncIterator[tuple[Sequence[Detour], Any]]:
    """Yield the detours for the system's start, and the links, if the fault needs links."""
    if not fault.needs_links:
        yield (), None
        return
    detours = plan_detours(config)
    async with proxying(detours) as links:
        yield detours, links


# -- in the background ------------------------------------------------------------------------------------------------


async def _host(config: Config, folder: Path, report: int, names: Sequence[str]) -> None:
    ended = asyncio.Event()
    with os.fdopen(report, "w", buffering=1, encoding="utf-8") as starter:

        def tell(body: dict[str, Any]) -> None:
            try:
                if not starter.closed:
                    starter.write(json.dumps(body) + "\n")
            except OSError:
                ended.set()  # the starter is gone before the system is ready

        try:
            engine = machine.provide(config) if machine.is_needed(config) else None
            hear = lambda event: tell({"event": event.to_json()})  # noqa: E731 - a listener
            async with hosting(config, engine, folder, hear, ended) as (supervisor, _):
                async with interruptible(ended):
                    await supervisor.start(names)
                tell({"ready": True, "differences": await system.differences(supervisor)})
                starter.close()
                supervisor.train_archive()
                await ended.wait()
        except MicroqError as error:
            logging.getLogger(__name__).error("%s", error)  # noqa: TRY400 - its text says it all
            tell({"error": [error.code, error.exit_code, str(error)]})
        except Interrupted:
            tell({"error": ["interrupted", ExitCode.INTERRUPTED, "the start was interrupted"]})


def main(project: str, name: str, folder: str, report: str, *names: str) -> None:
    """Host the system `name`, whose configuration is in `folder`, until it is ended."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s supervisor       %(message)s")
    interpreter.show_as(f"microq supervisor {project}" + (f" --name {name}" if name else ""))
    config = runs.config_of(Path(folder), Path(project), name)
    asyncio.run(_host(config, Path(folder), int(report), names))


if __name__ == "__main__":
    main(*sys.argv[1:])
