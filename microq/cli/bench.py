"""`microq bench`: what the guarantees cost, as ratios measured in one run."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from microq.cli.output import INTERRUPTED, ConfigOption, JsonOption, SetOption, configuration, emit, note, run
from microq.config import Config

MEASURED_RUNS = 4


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    connections: Annotated[int, typer.Option("--connections", min=1, max=256, help="Messages under way.")] = 32,
    seconds: Annotated[float, typer.Option("--seconds", min=0.5, max=600, help="How long each is measured.")] = 5.0,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=100, help="How often both are.")] = MEASURED_RUNS,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what crash safety costs: rates with and without it, in turn.

    Each system is a real one, with consumers; it needs one of its own.

    \b
    microq bench                     about a minute
    microq bench --connections 128
    """
    from microq.cli.trials import alone  # noqa: PLC0415 - --help needs none of it
    from microq.system.session import Interrupted  # noqa: PLC0415

    alone(config, sets)
    try:
        found = run(_measure(configuration(config, sets), connections, seconds, rounds))
    except Interrupted:
        note("Interrupted; everything that was started for this run is stopped.")
        raise typer.Exit(INTERRUPTED) from None
    table = {"connections": connections, **dataclasses.asdict(found)}
    line = f"{found.safe:.0f}/s with crash safety, {found.bare:.0f}/s without it: it costs {found.share:.0%}"
    emit(table, lambda: f"{line}   ({connections} connections, medians of {rounds})", as_json=as_json)


async def _measure(config: Config, connections: int, seconds: float, rounds: int) -> Any:
    from microq.bench.cost import cost, rates  # noqa: PLC0415 - --help needs none of it
    from microq.cli.trials import operating  # noqa: PLC0415
    from microq.client import FacadeClient, open_session  # noqa: PLC0415
    from microq.system import runs  # noqa: PLC0415

    folder = runs.new_run(config, "bench")
    found = []
    async with operating(config, folder, {}, (), no_messages=False) as (operator, _), open_session() as session:
        facade = FacadeClient(session, config.service_ips.facade_service)
        async for rate in rates(operator, facade, connections, seconds, rounds):
            note(f"  {'with' if rate.safe else 'without'} crash safety: {rate.per_second:.0f}/s")
            found.append(rate)
    return cost(found)
