"""`microq bench`: measures the system, and in the same run the most that the same machine can do."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from typing import Annotated, Any

import typer

from microq.bench.options import QUICK_BENCH, BenchOptions, Part
from microq.cli.output import TERMINAL, ConfigOption, JsonOption, SetOption, configuration, emit, interruptible, run
from microq.config import Config
from microq.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    only: Annotated[
        list[Part] | None, typer.Option("--only", help="One part; may be repeated.", show_default="all")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short round of each, two minutes.")] = False,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="Show where a process spends its time: its name, or its role.", metavar="NAME"),
    ] = None,
    connections: Annotated[
        list[int] | None,
        typer.Option("--connections", min=1, max=1000, help="May be repeated.", show_default="1, 8, 32, 128"),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=0.2, max=600, help="How long each rate is measured.", show_default="5"),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, max=100, help="How often rates are measured.", show_default="3")
    ] = None,
    lines: Annotated[
        int | None, typer.Option("--lines", min=1, help="Messages of the batch.", show_default="100000")
    ] = None,
    held: Annotated[
        list[int] | None,
        typer.Option("--held", min=1, help="Messages held; may be repeated.", show_default="1000, 100000, 1000000"),
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the system, beside the most that this machine can do.

    Start-up and idle load; rates and latencies over 1 to 128 connections, beside a handler that does nothing; the batch
    API, beside the bare client; the delay from acceptance to storing; the effect of a million held messages; the cost
    of crash safety. Each part has a fresh system with consumers. The tables, as JSON and Markdown too, are in the run's
    folder.

    Exit code 1 if something could not be measured. A part that lacks memory or time is left out and named.

    \b
    microq bench                           a quarter of an hour
    microq bench --quick                   two minutes
    microq bench --only rates --only lag   some parts
    microq bench --profile facade          where the facade's time goes
    """
    from microq.cli.machine import prepare
    from microq.supervisor.runs import new_run, only_scenario
    from microq.terminal.bench import benchmark
    from microq.workflows.bench import Benchmark
    from microq.workflows.trial import check_alone

    options = _options(
        QUICK_BENCH if quick else BenchOptions(),
        parts=only,
        connections=connections,
        seconds=seconds,
        rounds=rounds,
        lines=lines,
        held=held,
    )
    loaded = configuration(config, sets)
    check_alone(loaded)
    with only_scenario(loaded):
        if profile is not None:
            _profile(loaded, profile, options, as_json=as_json)
            return
        engine, folder = prepare(loaded), new_run(loaded, "bench")
        load = lambda more: configuration(config, [*(sets or []), *more])  # noqa: E731 - a loader
        words = [*(["--config", str(config)] if config else []), *(f"--set={each}" for each in sets or [])]
        repeat = shlex.join(["microq", *sys.argv[1:]])
        measuring = Benchmark(load, words, engine, folder, options, TERMINAL, repeat)
        with interruptible() as interrupted:
            measuring.take(run)
        whole = measuring.write(complete=not interrupted)
    result = measuring.result
    emit({**whole, "folder": str(folder)}, lambda: benchmark(result, str(folder)), as_json=as_json)
    raise typer.Exit(ExitCode.INTERRUPTED if interrupted else result.code)


def _options(basis: BenchOptions, **given: Any) -> BenchOptions:
    known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v}
    return dataclasses.replace(basis, **known)


def _profile(config: Config, name: str, options: BenchOptions, *, as_json: bool) -> None:
    from microq.supervisor.runs import new_run
    from microq.terminal.bench import profiled
    from microq.workflows.bench import profile, profiled_process

    process = profiled_process(config, name)
    file = new_run(config, "profile") / f"{process}.speedscope.json"
    with interruptible() as interrupted:
        spent = run(profile(config, process, file, options, TERMINAL))
    if interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    data = {"process": process, "file": str(file), "own_time": [dataclasses.asdict(each) for each in spent]}
    emit(data, lambda: profiled(process, spent, str(file)), as_json=as_json)
