"""`microq chaos all` and `microq chaos controls`: every fault, many runs; and the runs that must fail."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from microq.cli.output import (
    INTERRUPTED,
    ConfigOption,
    JsonOption,
    QueueOption,
    SetOption,
    configuration,
    console,
    emit,
    note,
    run,
    with_queue,
)
from microq.cli.report import JunitOption, report_of, write_junit
from microq.cli.trials import alone, configured, interruptible, run_trial
from microq.errors import MicroqError, UsageError

MOST_MESSAGES = 100_000
"""More would only take longer: the default queue holds no more."""

ROWS = "rows.jsonl"

RunsOption = Annotated[int, typer.Option("--runs", min=1, max=1000, help="How many runs of each.")]
OnlyOption = Annotated[str, typer.Option("--only", help="Names, with commas between them.", show_default="all")]


def register(commands: typer.Typer) -> None:
    """Add the commands."""
    commands.command("all")(run_matrix)
    commands.command("controls")(run_controls)


def run_matrix(
    runs: RunsOption = 1,
    only: OnlyOption = "",
    skip: Annotated[str, typer.Option("--skip", help="Names to leave out.", show_default=False)] = "",
    messages: Annotated[
        int, typer.Option("--messages", "-m", min=1, max=MOST_MESSAGES, help="Messages acknowledged at least, a run.")
    ] = 5000,
    connections: Annotated[int, typer.Option("--connections", min=1, max=256, help="Messages under way.")] = 16,
    times: Annotated[
        int | None, typer.Option("--times", min=1, help="Repetitions within a run, where a fault has some.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Repeat all choices.")] = None,
    rows_file: Annotated[
        Path | None, typer.Option("--json", help="Append the rows here.", show_default=".microq/runs/.../rows.jsonl")
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    backend: QueueOption = None,
    junit: JunitOption = None,
) -> None:
    """Run every fault under traffic, each on a fresh system, and show the matrix.

    A run that fails does not end the others. One JSON line a run is written as it ends; Ctrl-C shows what there is.

    Exit codes: 1 if a run failed, else 3 if one is unknown or could not be made, else 0.

    \b
    microq chaos all                                     each fault once
    microq chaos all --runs 25 --skip poison             the long one
    microq chaos all --only kill-member,kill-facade      some
    """
    from microq.chaos.matrix import exit_code, plan, run_all  # noqa: PLC0415 - --help needs none of it
    from microq.chaos.scenario import Trial  # noqa: PLC0415
    from microq.report.junit import of_row  # noqa: PLC0415
    from microq.views import matrix as views  # noqa: PLC0415

    seed, sets = secrets.randbelow(1 << 32) if seed is None else seed, with_queue(backend, sets)
    options = {} if times is None else {"times": times}
    alone(config, sets)
    queue = configuration(config, sets).queue.backend
    plans = plan(queue, _names(only), _names(skip), runs, seed, **options)
    note(f"{len(plans)} runs; seed {seed}.")

    def once(todo: Any) -> tuple[Any, str]:
        trial = Trial(todo.fault, messages, todo.seed, connections)
        return run(run_trial(configured(todo.fault, config, sets), trial, quiet=False))

    found: list[Any] = []
    with _rows(rows_file, config, sets) as file, interruptible() as interrupted:
        for row in run_all(plans, once):
            found.append(row)
            file.write(json.dumps(dataclasses.asdict(row)) + "\n")
            file.flush()
            console(error=True).print(views.row(row, len(found), len(plans)))
            _report(row.verdict, row.history)
    _conclude(found, file.name)
    write_junit(junit, [of_row(row, queue) for row in found])
    raise typer.Exit(INTERRUPTED if interrupted else exit_code(found))


def _conclude(found: Sequence[Any], file: str) -> None:
    from microq.chaos.matrix import summarize  # noqa: PLC0415 - --help needs none of it
    from microq.views import matrix as views  # noqa: PLC0415

    if found:
        console().print(views.summaries(summarize(found)))
    note(f"Rows {file}")


def _report(verdict: str, history: str) -> None:
    """Write the report of a run of many if it did not pass: each takes 2 MB, and those that passed look the same."""
    from microq.chaos.verdict import Ruling  # noqa: PLC0415 - --help needs none of it
    from microq.views.cells import nearest  # noqa: PLC0415

    if history and verdict != Ruling.PASS and (report := report_of(history)):
        note(f"  Report {nearest(report)}")


@contextmanager
def _rows(path: Path | None, config: Path | None, sets: list[str] | None) -> Iterator[IO[str]]:
    """Open the file of the rows, to append to it: in the folder of a run of its own unless told."""
    from microq.system import runs  # noqa: PLC0415 - --help needs none of it

    if path is None:
        path = runs.new_run(configuration(config, sets), "all") / ROWS
    with path.open("a", encoding="utf-8") as file:
        yield file


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def run_controls(
    runs: RunsOption = 1,
    only: OnlyOption = "",
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Repeat all choices.")] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    backend: QueueOption = None,
    as_json: JsonOption = False,
    junit: JunitOption = None,
) -> None:
    """Break one promise at a time, and see that the proof fails: each control must be red.

    Exit code 0 only if every run was red as expected, else 1.
    """
    from microq.views import matrix as views  # noqa: PLC0415 - --help needs none of it

    sets = with_queue(backend, sets)
    alone(config, sets)
    queue = configuration(config, sets).queue.backend
    chosen = _chosen(_names(only), queue)
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    note(f"{len(chosen) * runs} runs; seed {seed}.")
    found: list[tuple[Any, list[str], int]] = []
    cases: list[Any] = []
    with interruptible() as interrupted:
        for control in chosen:
            got = [_once(control, seed + number, config, sets) for number in range(runs)]
            found.append((control, [text for text, _, _ in got], sum(red for _, red, _ in got)))
            cases += [_case(control, queue, seed + number, one) for number, one in enumerate(got)]
    write_junit(junit, cases)
    table = [
        {"control": c.name, "expected": c.expectation, "got": got, "runs": len(got), "red": red}
        for c, got, red in found
    ]
    emit(table, lambda: views.controls(found), as_json=as_json)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if all(red == len(got) for _, got, red in found) else 1)


def _chosen(names: Sequence[str], backend: str) -> list[Any]:
    from microq.chaos.controls import CONTROLS  # noqa: PLC0415 - --help needs none of it

    for name in names:
        if name not in CONTROLS:
            raise UsageError(f"there is no control {name!r}; there are {', '.join(CONTROLS)}")
        if backend not in CONTROLS[name].backends:
            raise UsageError(f"{name} is a control of {' and '.join(CONTROLS[name].backends)}, not of {backend}")
    mine = [control for control in CONTROLS.values() if backend in control.backends]
    return [control for control in mine if not names or control.name in names]


def _once(control: Any, seed: int, config: Path | None, sets: list[str] | None) -> tuple[str, bool, float | None]:
    """Run a control; return what came out, whether it was red as expected, and its seconds: None if it was not run."""
    from microq.chaos.controls import outcome  # noqa: PLC0415 - --help needs none of it
    from microq.chaos.scenario import Trial  # noqa: PLC0415

    note(f"{control.name}: {control.help} Expected: {control.expectation}.")
    trial = Trial(control.fault, control.messages, seed, defects=control.defects)
    try:
        settings = configured(control.fault, config, sets, control.settings)
        found, history = run(run_trial(settings, trial, quiet=control.quiet))
    except MicroqError as error:
        note(f"  could not be run: {error}")
        return f"error: {error}", False, None
    note(f"  {outcome(found)}   {history}")
    _report(found.verdict, history)
    return outcome(found), control.red(found), found.duration_s


def _case(control: Any, queue: str, seed: int, got: tuple[str, bool, float | None]) -> Any:
    """Return a run of a control as a test case: it passes by being red."""
    from microq.chaos.matrix import ERROR  # noqa: PLC0415 - --help needs none of it
    from microq.chaos.verdict import Ruling  # noqa: PLC0415
    from microq.report.junit import Case  # noqa: PLC0415

    text, red, seconds = got
    suite = f"{queue}.{'quiet' if control.quiet else 'live'}"
    verdict = ERROR if seconds is None else (Ruling.PASS if red else Ruling.FAIL).value
    reasons = () if red else (f"expected {control.expectation}, got {text}",)
    return Case(suite, f"control {control.name} seed {seed}", verdict, seconds or 0.0, reasons)
