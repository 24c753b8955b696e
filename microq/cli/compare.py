"""`microq compare`: measures and breaks both backends in the same way, side by side."""

from __future__ import annotations

import dataclasses
import secrets
from typing import Annotated, Any

import typer

from microq.backends import BACKENDS
from microq.bench.options import QUICK_COMPARE, CompareOptions
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
from microq.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare)


def compare(
    only: Annotated[
        str | None,
        typer.Option(
            "--only", help="Only this backend.", show_default="both", parser=of_backend, metavar=BACKEND_NAMES
        ),
    ] = None,
    runs: Annotated[
        int | None, typer.Option("--runs", min=1, max=100, help="Runs of each backend.", show_default="3")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=0.5, max=600, help="How long each rate is measured.", show_default="5"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short run; its figures say little.")] = False,
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

    options = _options(QUICK_COMPARE if quick else CompareOptions(), runs=runs, seconds=seconds, seed=seed)
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


def _options(basis: CompareOptions, **given: Any) -> CompareOptions:
    if given["seed"] is None:
        given["seed"] = secrets.randbelow(1 << 32)
    return dataclasses.replace(basis, **{name: value for name, value in given.items() if value is not None})


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
