"""`microq bench` and `compare`: measure the system beside the most that this machine can do, and both backends."""

from __future__ import annotations

import dataclasses
import secrets
import shlex
import sys
from typing import Annotated, Any, TypeVar

import typer

from microq.backends import BACKENDS
from microq.bench.options import QUICK_BENCH, QUICK_COMPARE, BenchOptions, CompareOptions, Part
from microq.cli.output import (
    BACKEND_NAMES,
    TERMINAL,
    ConfigOption,
    JsonOption,
    SetOption,
    configuration,
    emit,
    interruptible,
    of_backend,
    run,
    with_queue,
)
from microq.cli.report import JunitOption, write_junit
from microq.config import Config
from microq.errors import ExitCode

Options = TypeVar("Options", BenchOptions, CompareOptions)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("bench")(bench)
    app.command("compare")(compare)


def bench(
    only: Annotated[
        list[Part] | None, typer.Option("--only", help="Measure only this part; may be repeated.", show_default="all")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short round of each part; two minutes in all.")] = False,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="Show where a process spends its time (its name or role).", metavar="NAME"),
    ] = None,
    connections: Annotated[
        list[int] | None,
        typer.Option("--connections", min=1, max=1000, help="May be repeated.", show_default="1, 8, 32, 128"),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=0.2, max=600, help="Seconds for which each rate is measured.", show_default="5"),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", min=1, max=100, help="Measurements of each rate.", show_default="3"),
    ] = None,
    lines: Annotated[
        int | None, typer.Option("--lines", min=1, help="The number of messages in the batch.", show_default="100000")
    ] = None,
    held: Annotated[
        list[int] | None,
        typer.Option("--held", min=1, help="Held messages; may be repeated.", show_default="1000, 100000, 1000000"),
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

    options = _with_given(
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


def _with_given(basis: Options, **given: Any) -> Options:
    """Return options with the values that the user gave: neither None nor an empty list."""
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value not in (None, [])
    }
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


# -- both backends, side by side --------------------------------------------------------------------------------------


def compare(
    only: Annotated[
        str | None,
        typer.Option(
            "--only", help="Measure only this backend.", show_default="both", parser=of_backend, metavar=BACKEND_NAMES
        ),
    ] = None,
    runs: Annotated[
        int | None, typer.Option("--runs", min=1, max=100, help="Runs of each backend.", show_default="3")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=0.5, max=600, help="Seconds for which each rate is measured.", show_default="5"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short run; its figures are rough.")] = False,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Repeat the faults' choices.")] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
    junit: JunitOption = None,
) -> None:
    """Measure and break Hazelcast and Kafka in the same way, side by side.

    Start-up, memory, throughput and latency at 1, 32 and 128 connections; then the owner or leader is killed, with the
    consumers off and under traffic, and paused. The runs of both alternate, each on a fresh system.

    Exit codes: 1 if a verdict failed, else 3 if one is unknown or a run could not be made, else 0.

    \b
    microq compare                     some minutes
    microq compare --quick             a first look
    microq compare --only hazelcast    one backend
    """
    from microq.bench.comparison import code
    from microq.cli.machine import prepare
    from microq.supervisor.runs import new_run, only_scenario
    from microq.terminal.bench import comparison
    from microq.workflows.compare import Comparison, check
    from microq.workflows.measure import versions
    from microq.workflows.trial import check_alone

    seed = secrets.randbelow(1 << 32) if seed is None else seed
    options = _with_given(QUICK_COMPARE if quick else CompareOptions(), runs=runs, seconds=seconds, seed=seed)
    configs = {each: configuration(config, with_queue(each, sets)) for each in ([only] if only else BACKENDS)}
    for each in configs.values():
        check(each)
    check_alone(configuration(config, sets))
    some = next(iter(configs.values()))
    with only_scenario(some):
        # Everything is downloaded before anything is measured.
        engines = [prepare(each) for each in configs.values()]
        used = versions(engines[0])
        measuring = Comparison(configs, new_run(some, "compare"), options, TERMINAL, used, quick=quick)
        with interruptible() as interrupted:
            measuring.take(run)
        whole = measuring.write(complete=not interrupted)
    found, page = measuring.found, measuring.report(complete=not interrupted)
    report = str(page) if page else None
    write_junit(junit, _cases(found))
    emit({**whole, "report": report}, lambda: comparison(found, str(measuring.file), report), as_json=as_json)
    raise typer.Exit(ExitCode.INTERRUPTED if interrupted else code(found))


def _cases(found: Any) -> list[Any]:
    from microq.bench.comparison import SCENES
    from microq.chaos.matrix import ERROR
    from microq.report.junit import Case, of_row

    forms = {scene.key: "quiet" if scene.quiet else "live" for scene in SCENES}
    made = [of_row(one.row, one.backend, forms[one.scene]) for one in found.struck]
    unmade = [
        Case(one.backend or "compare", f"{one.what} run {one.run}", ERROR, reasons=(one.error,))
        for one in found.failures
    ]
    return made + unmade
