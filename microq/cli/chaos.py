"""`microq chaos` and `microq verify`: break the system, and judge what it did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from microq.cli.output import INTERRUPTED, ConfigOption, JsonOption, SetOption, configuration, emit, note, run
from microq.config import Config
from microq.errors import UsageError

EXIT = {"pass": 0, "fail": 1, "unknown": 3}
"""Verdict -> exit code."""

HISTORY = "history.jsonl"

MOST_MESSAGES = 100_000
"""More would only take longer: the default queue holds no more."""

commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Break the system on purpose and judge it.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="chaos")
    app.command("verify")(verify)


@commands.callback()
def group() -> None:
    """Break the system on purpose and judge it."""


@commands.command("kill-member")
def kill_member(
    messages: Annotated[
        int, typer.Option("--messages", "-m", min=1, max=MOST_MESSAGES, help="Messages sent before the kill.")
    ] = 100,
    target: Annotated[
        str, typer.Option("--target", "-t", help="Which member: lowest (address), owner (of the queue), or a name.")
    ] = "lowest",
    members: Annotated[int, typer.Option("--members", min=1, max=2, help="How many members at once.")] = 1,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Send one message more, to time the first acknowledgement.")
    ] = True,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Kill a member, consumers off; count what was lost.

    Uses the system that runs here, and restores it; starts one for the run if there is none.

    \b
    microq chaos kill-member                    the server with the lowest address
    microq chaos kill-member --target owner     the one that holds the queue
    microq chaos kill-member --members 2        two of three at the same moment
    """
    from microq.chaos.faults import KillMember  # noqa: PLC0415 - --help needs none of it
    from microq.system.session import Interrupted  # noqa: PLC0415
    from microq.views.verdict import verdict as picture  # noqa: PLC0415

    fault = KillMember(target, members)
    try:
        found, history = run(_scenario(_configuration(config, sets), fault, messages, probe=probe))
    except Interrupted:
        note("Interrupted; everything that was started for this run is stopped.")
        raise typer.Exit(INTERRUPTED) from None
    emit(found.to_json(str(history)), lambda: picture(found, str(history)), as_json=as_json)
    raise typer.Exit(EXIT[found.verdict])


def _configuration(path: Path | None, sets: list[str] | None) -> Config:
    """Return the configuration of the system that runs here, else what the options ask for."""
    from microq.system import records  # noqa: PLC0415 - --help needs none of it

    config = configuration(path, sets)
    if sets and records.supervisor_pid(config) is not None:
        raise UsageError("a system runs here already, so --set would change nothing; `microq down` ends it")
    return records.in_force(config)


async def _scenario(config: Config, fault: Any, messages: int, *, probe: bool) -> tuple[Any, Path]:
    from microq.chaos.history import record  # noqa: PLC0415 - --help needs none of it
    from microq.chaos.scenario import ConsumersOff  # noqa: PLC0415
    from microq.client import open_session  # noqa: PLC0415
    from microq.system import records, runs  # noqa: PLC0415

    if records.supervisor_pid(config) is None:
        fault.check(config.hazelcast.hazelcast_clients)  # before anything is started for nothing
    folder = runs.new_run(config, fault.name)
    history = folder / HISTORY
    async with _operator(config, folder) as (operator, ours), open_session() as session:
        with record(history) as written:
            scenario = ConsumersOff(
                config, operator, session, written, fault, messages, probe=probe, restore=not ours, say=note
            )
            return await scenario.run(), history


@asynccontextmanager
async def _operator(config: Config, folder: Path) -> AsyncIterator[tuple[Any, bool]]:
    """Yield the operator of the running system, or of one started for this run; and whether it is the latter."""
    from microq.cli.launch import names_of, warn  # noqa: PLC0415 - --help needs none of it
    from microq.cli.progress import Progress  # noqa: PLC0415
    from microq.cli.system import provide  # noqa: PLC0415
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
    async with session.running(config, engine, folder, progress.hear_quietly, ended) as supervisor:
        with progress:
            async with session.interruptible(ended):
                await supervisor.start(names_of(config, no_messages=True))
        note(f"The system is ready after {progress.seconds:.1f} s.")
        supervisor.train_archive()
        async with session.interruptible(ended):
            yield supervisor, True


def verify(
    history: Annotated[Path, typer.Argument(help="A history, e.g. .microq/runs/.../history.jsonl.")],
    as_json: JsonOption = False,
) -> None:
    """Judge a history again, from the file alone. Exit codes: 0 pass, 1 fail, 3 unknown."""
    from microq.chaos.history import read  # noqa: PLC0415 - --help needs none of it
    from microq.chaos.judge import judge  # noqa: PLC0415
    from microq.views.verdict import verdict as picture  # noqa: PLC0415

    found = judge(read(history))
    emit(found.to_json(str(history)), lambda: picture(found, str(history)), as_json=as_json)
    raise typer.Exit(EXIT[found.verdict])
