"""How a trial is run: on the system that runs here, or on one of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from microq.chaos.faults.base import Fault
from microq.cli.output import configuration, note
from microq.config import Config
from microq.errors import UsageError
from microq.fleet import Detour

RUNS_HERE = "a system runs here already"


def configured(fault: Fault, path: Path | None, sets: list[str] | None, settings: tuple[str, ...] = ()) -> Config:
    """Return the configuration of the system that runs here, else what fault and options ask for.

    Raises `UsageError` if the running system would have to be another one.
    """
    from microq.system import records  # noqa: PLC0415 - --help needs none of it

    needed = [*fault.settings, *settings]
    config = configuration(path, [*needed, *(sets or [])])
    if records.supervisor_pid(config) is None:
        fault.check(config, config.servers)  # before anything is started for nothing
        return config
    # What it is already it need not become.
    here = f"queue.backend={records.in_force(config).queue.backend}"
    needed, sets = ([each for each in listed or [] if each != here] for listed in (needed, sets))
    if needed or fault.needs_links:
        what = ", ".join([*needed, *(["links between its processes"] if fault.needs_links else [])])
        raise UsageError(f"{RUNS_HERE}, and {fault.name} needs one of its own, with {what}; `microq down` ends it")
    if sets:
        raise UsageError(f"{RUNS_HERE}, so --set or --queue would change nothing; `microq down` ends it")
    return records.in_force(config)


def alone(path: Path | None, sets: list[str] | None) -> None:
    """Raise `UsageError` if a system runs here, and `PortTakenError`: what is run needs fresh ones."""
    from microq.system import records, topology  # noqa: PLC0415 - --help needs none of it

    config = configuration(path, sets)
    if records.supervisor_pid(config) is not None:
        raise UsageError(f"{RUNS_HERE}, and each run needs a fresh one; `microq down` ends it")
    if not records.leftovers(config):  # which are ended first
        topology.check_ports(topology.specs(config))


@contextmanager
def interruptible() -> Iterator[list[str]]:
    """Let Ctrl-C end the body only; the list is not empty then."""
    from microq.system.session import Interrupted  # noqa: PLC0415 - --help needs none of it

    happened: list[str] = []
    try:
        yield happened
    except (Interrupted, KeyboardInterrupt):
        note("Interrupted; everything that was started for this run is stopped.")
        happened.append("interrupted")


async def run_trial(config: Config, trial: Any, *, quiet: bool) -> tuple[Any, str]:
    """Run a trial in one of its forms; return its verdict and the path of its history.

    Raises `UsageError` if another scenario runs in this project.
    """
    from microq.system import runs  # noqa: PLC0415 - --help needs none of it

    with runs.only_scenario(config):
        return await _run(config, trial, runs.new_run(config, trial.fault.name), quiet=quiet)


async def _run(config: Config, trial: Any, folder: Path, *, quiet: bool) -> tuple[Any, str]:
    from microq.chaos.forms import scenario  # noqa: PLC0415 - --help needs none of it
    from microq.chaos.herald import heralding  # noqa: PLC0415
    from microq.chaos.history import FILE, record  # noqa: PLC0415
    from microq.chaos.scenario import Stage  # noqa: PLC0415
    from microq.client import open_session  # noqa: PLC0415

    history = folder / FILE
    async with (
        _links(config, trial.fault) as (detours, links),
        operating(config, folder, trial.defects, detours, no_messages=quiet) as (operator, ours),
        open_session() as session,
        heralding(operator, folder.name) as herald,
    ):
        with record(history, herald.note) as written:
            stage = Stage(config, operator, session, written, herald.also(note), restore=not ours, links=links)
            verdict = await scenario(stage, trial, quiet=quiet).run()
        herald.verdict(verdict.to_json(str(history)))
        return verdict, str(history)


@asynccontextmanager
async def _links(config: Config, fault: Fault) -> AsyncIterator[tuple[Sequence[Detour], Any]]:
    """Yield the detours with which the system is started, and its links, if the fault needs some."""
    if not fault.needs_links:
        yield (), None
        return
    from microq.chaos.links import open_links  # noqa: PLC0415 - --help needs none of it
    from microq.system.topology import plan_detours  # noqa: PLC0415

    detours = plan_detours(config)
    async with open_links(detours) as links:
        yield detours, links


@asynccontextmanager
async def operating(
    config: Config,
    folder: Path,
    defects: Mapping[str, str],
    detours: Sequence[Detour],
    *,
    no_messages: bool,
    ready: Callable[[float], None] | None = None,
) -> AsyncIterator[tuple[Any, bool]]:
    """Yield the operator of the running system, or of one started for this run; and whether it is the latter.

    `ready` is told how long the start took, in seconds.
    """
    from microq.cli.launch import names_of, warn  # noqa: PLC0415 - --help needs none of it
    from microq.cli.progress import Progress  # noqa: PLC0415
    from microq.cli.system import provide  # noqa: PLC0415
    from microq.host import hosting  # noqa: PLC0415
    from microq.system import control, records, session  # noqa: PLC0415

    if records.supervisor_pid(config) is not None:
        note("Using the system that runs here; it is restored afterwards.")
        async with control.connect(config) as operator:
            yield operator, False
        return
    warn(config)
    ended = asyncio.Event()
    progress = Progress([])
    engine = provide(config)
    without = lambda why: note(f"There is no page to watch it: {why}")  # noqa: E731 - a listener
    async with hosting(config, engine, folder, progress.hear_quietly, ended, detours=detours, without_page=without) as (
        supervisor,
        page,
    ):
        for role, defect in defects.items():
            await supervisor.sabotage(role, defect)
        with progress:
            async with session.interruptible(ended):
                await supervisor.start(names_of(config, no_messages=no_messages))
        (ready or (lambda seconds: note(_ready(seconds, page))))(progress.seconds)
        supervisor.train_archive()
        try:
            async with session.interruptible(ended):
                yield supervisor, True
        finally:
            # Nobody needs it any more: in order, the members would hand over to each other what they hold.
            await supervisor.kill(["all"])


def _ready(seconds: float, page: str) -> str:
    return f"The system is ready after {seconds:.1f} s{f'; see it at {page}' if page else ''}."
