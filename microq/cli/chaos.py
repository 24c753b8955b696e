"""`microq chaos` and `microq verify`: break the system, once or by every fault, and judge the result."""

from __future__ import annotations

import dataclasses
import inspect
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from microq.backends import with_traits
from microq.chaos.faults import (
    FAULTS,
    MESSAGES_LIVE,
    MESSAGES_QUIET,
    MOST_MESSAGES,
    MOST_SEED,
    has_quiet_form,
)
from microq.chaos.faults.base import Fault, options_of, summary
from microq.cli.output import (
    TERMINAL,
    ConfigOption,
    JsonOption,
    QueueOption,
    SetOption,
    configuration,
    console,
    emit,
    interruptible,
    note,
    run,
    with_queue,
)
from microq.cli.report import JunitOption, report_of, write_junit
from microq.errors import ExitCode, MicroqError, UsageError

commands = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Break the system on purpose and judge the result."
)


def register(app: typer.Typer) -> None:
    """Add the commands: one for each fault, and those for all faults."""
    app.add_typer(commands, name="chaos")
    app.command("verify")(verify)
    for name, kind in FAULTS.items():
        commands.command(name)(_command(kind))
    commands.command("all")(run_matrix)
    commands.command("controls")(run_controls)


@commands.callback()
def group() -> None:
    """Break the system on purpose and judge the result."""


@commands.command("list")
def list_faults(as_json: JsonOption = False) -> None:
    """Show the faults, and what each one needs."""
    from microq.terminal.verdict import faults

    rows = [
        {
            "fault": name,
            "help": summary(kind),
            "quiet": has_quiet_form(kind),
            "needs_links": kind.needs_links,
            "settings": kind.settings,
        }
        for name, kind in FAULTS.items()
    ]
    emit(rows, lambda: faults(FAULTS), as_json=as_json)


# -- one command for each fault ---------------------------------------------------------------------------------------

MOST_HELD = 2_000_000
"""The largest number of messages for `--held`."""

HeldOption = Annotated[
    int,
    typer.Option(
        "--held", min=0, max=MOST_HELD, help="Messages sent before the run, which the consumers hold during it."
    ),
]
RereadOption = Annotated[
    bool,
    typer.Option("--reread/--no-reread", help="Restart the messages-services at the end, and read them again."),
]
_SHARE: Any = {"min": 0.0, "max": 1.0, "show_default": False, "metavar": "SHARE"}
_SECONDS: Any = {"min": 0.0, "max": 3600.0, "show_default": False, "metavar": "SECONDS"}
AcceptedOption = Annotated[
    float | None,
    typer.Option("--min-accepted", help="Fail if a smaller share of the messages is acknowledged.", **_SHARE),
]
AvailabilityOption = Annotated[
    float | None,
    typer.Option("--min-availability", help="Fail if a smaller share of the seconds has an acknowledgement.", **_SHARE),
]
P99Option = Annotated[
    float | None,
    typer.Option("--max-p99", help="Fail if 99 % of the acknowledgements take longer.", **_SECONDS),
]
GapOption = Annotated[
    float | None,
    typer.Option("--max-gap", help="Fail if the longest time without an acknowledgement is longer.", **_SECONDS),
]

MessagesOption = Annotated[
    int | None,
    typer.Option(
        "--messages",
        "-m",
        min=1,
        max=MOST_MESSAGES,
        help=f"Minimum number of messages: {MESSAGES_LIVE} under traffic, {MESSAGES_QUIET} with consumers off.",
        show_default=False,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=MOST_SEED, help="Repeat the choices of a run.", show_default="at random"),
]
ConnectionsOption = Annotated[
    int, typer.Option("--connections", min=1, max=256, help="Messages in flight at the same time, under traffic.")
]
QuietOption = Annotated[
    bool | None,
    typer.Option("--quiet/--live", help="With the consumers off, or under traffic with them on.", show_default=False),
]
ProbeOption = Annotated[
    bool,
    typer.Option("--probe/--no-probe", help="Quiet: send one more message, to time the first acknowledgement."),
]
AlsoOption = Annotated[
    list[str] | None,
    typer.Option("--also", help="A fault that strikes at the same time; may be repeated.", metavar="FAULT"),
]


def bounds(options: Mapping[str, Any]) -> dict[str, float]:
    """Return the bounds that options set."""
    from microq.chaos.history import BOUNDS

    given = {name: options[option.replace("-", "_")] for name, option in BOUNDS.items()}
    return {name: value for name, value in given.items() if value is not None}


COMMON: dict[str, tuple[Any, Any]] = {
    "messages": (MessagesOption, None),
    "connections": (ConnectionsOption, 16),
    "seed": (SeedOption, None),
    "also": (AlsoOption, None),
    "held": (HeldOption, 0),
    "reread": (RereadOption, True),
    "min_accepted": (AcceptedOption, None),
    "min_availability": (AvailabilityOption, None),
    "max_p99": (P99Option, None),
    "max_gap": (GapOption, None),
    "config": (ConfigOption, None),
    "sets": (SetOption, None),
    "backend": (QueueOption, None),
    "as_json": (JsonOption, False),
    "junit": (JunitOption, None),
}
"""The options of every fault: name -> type and default."""


def _command(kind: type[Fault]) -> Callable[..., None]:
    """Make the command of a fault: its help is the fault's docstring; it has the fault's and the common options."""

    def command(**options: Any) -> None:
        _break(kind, options)

    parameters = {**dict(_options(kind)), **COMMON}
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what typer reads
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for name, (annotation, default) in parameters.items()
        ]
    )
    command.__annotations__ = {name: annotation for name, (annotation, _) in parameters.items()}
    command.__doc__ = (kind.__doc__ or "").replace(r"\b", "\b")  # the mark by which lines are not joined
    return command


def _options(kind: type[Fault]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the options of a fault, and those of a fault that can be quiet."""
    for option in options_of(kind):
        flags = [f"--{option.name}", *([option.flag] if option.flag else [])]
        given = typer.Option(*flags, min=option.least, max=option.most, help=option.help)
        yield option.name, (Annotated[option.type, given], option.default)
    if has_quiet_form(kind):
        yield "quiet", (QuietOption, None)
        yield "probe", (ProbeOption, True)


def _break(kind: Any, options: dict[str, Any]) -> None:
    from microq.chaos.faults.base import combine
    from microq.chaos.matrix import known
    from microq.report.junit import of_verdict
    from microq.supervisor.supervisor import Interrupted
    from microq.terminal.verdict import verdict as picture
    from microq.workflows import trial
    from microq.workflows.host import run_trial

    fault = kind(**{option.name: options[option.name] for option in options_of(kind)})
    fault = combine([fault, *(known(name) for name in options["also"] or ())])
    planned = trial.trial_of(
        fault,
        options.get("quiet"),
        options["messages"],
        seed=options["seed"],
        connections=options["connections"],
        probe=options.get("probe", True),
        reread=options["reread"],
        bounds=bounds(options),
        held=options["held"],
    )
    sets = with_queue(options["backend"], options["sets"])
    config = trial.configured(fault, partial(configuration, options["config"]), sets)
    try:
        found, history = run(run_trial(config, planned, TERMINAL))
    except Interrupted:
        note("Interrupted; everything that was started for this run is stopped.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    report = report_of(history)
    write_junit(options["junit"], [of_verdict(found, str(history))])
    emit(
        {**found.to_json(str(history)), "report": report},
        lambda: picture(found, str(history), report),
        as_json=options["as_json"],
    )
    raise typer.Exit(ExitCode.of_verdicts([found.verdict]))


def verify(
    history: Annotated[Path, typer.Argument(help="A history, e.g. .microq/runs/.../history.jsonl.")],
    as_json: JsonOption = False,
    junit: JunitOption = None,
) -> None:
    """Judge a history again, from the file alone. Exit codes: 0 pass, 1 fail, 3 unknown."""
    from microq.chaos.checker import judge
    from microq.chaos.history import read
    from microq.report.junit import of_verdict
    from microq.terminal.verdict import verdict as picture

    found = judge(read(history))
    write_junit(junit, [of_verdict(found, str(history))])
    emit(found.to_json(str(history)), lambda: picture(found, str(history)), as_json=as_json)
    raise typer.Exit(ExitCode.of_verdicts([found.verdict]))


# -- all faults, and the negative controls ----------------------------------------------------------------------------

ROWS = "rows.jsonl"

RunsOption = Annotated[int, typer.Option("--runs", min=1, max=1000, help="The number of runs of each.")]
OnlyOption = Annotated[str, typer.Option("--only", help="Names, with commas between them.", show_default="all")]


def run_matrix(
    runs: RunsOption = 1,
    only: OnlyOption = "",
    skip: Annotated[str, typer.Option("--skip", help="Names to leave out.", show_default=False)] = "",
    messages: Annotated[
        int, typer.Option("--messages", "-m", min=1, max=MOST_MESSAGES, help="Minimum number of messages of each run.")
    ] = 5000,
    connections: Annotated[int, typer.Option("--connections", min=1, max=256, help="Messages in flight.")] = 16,
    times: Annotated[
        int | None, typer.Option("--times", min=1, help="Repetitions within a run, for faults that repeat.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Repeat all choices.")] = None,
    held: HeldOption = 0,
    reread: RereadOption = True,
    min_accepted: AcceptedOption = None,
    min_availability: AvailabilityOption = None,
    max_p99: P99Option = None,
    max_gap: GapOption = None,
    rows_file: Annotated[
        Path | None, typer.Option("--json", help="Append the rows here.", show_default=".microq/runs/.../rows.jsonl")
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    backend: QueueOption = None,
    junit: JunitOption = None,
) -> None:
    """Run every fault under traffic, each on a fresh system, and show the matrix.

    A failed run does not end the others. Each run appends a JSON line when it ends; Ctrl-C shows the results so far.

    Exit codes: 1 if a run failed, else 3 if one is unknown or could not be made, else 0.

    \b
    microq chaos all                                     each fault once
    microq chaos all --runs 25 --skip poison             many runs
    microq chaos all --only kill-member,kill-facade      two faults
    microq chaos all --only kill-member+kill-facade      two faults at once
    """
    from microq.chaos.matrix import exit_code, plan, run_all
    from microq.chaos.scenario import Trial
    from microq.report.junit import of_row
    from microq.terminal import verdict as views
    from microq.workflows import trial
    from microq.workflows.host import run_trial

    seed, sets = secrets.randbelow(1 << 32) if seed is None else seed, with_queue(backend, sets)
    options = {} if times is None else {"times": times}
    loaded = configuration(config, sets)
    trial.check_alone(loaded)
    queue = loaded.queue.backend
    plans = plan(queue, _names(only), _names(skip), runs, seed, **options)
    note(f"{len(plans)} runs; seed {seed}.")

    given = {
        "min_accepted": min_accepted,
        "min_availability": min_availability,
        "max_p99": max_p99,
        "max_gap": max_gap,
    }

    def once(todo: Any) -> tuple[Any, str]:
        planned = Trial(todo.fault, messages, todo.seed, connections, reread=reread, bounds=bounds(given), held=held)
        settings = trial.configured(todo.fault, partial(configuration, config), sets)
        verdict, history = run(run_trial(settings, planned, TERMINAL))
        return verdict, str(history)

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
    raise typer.Exit(ExitCode.INTERRUPTED if interrupted else exit_code(found))


def _conclude(found: Sequence[Any], file: str) -> None:
    from microq.chaos.matrix import summarize
    from microq.terminal import verdict as views

    if found:
        console().print(views.summaries(summarize(found)))
    note(f"Rows {file}")


def _report(verdict: str, history: str) -> None:
    """Write the report of a run of the matrix if it did not pass: it takes 2 MB, and passed runs look the same."""
    from microq.chaos.verdict import Ruling
    from microq.terminal.style import nearest

    if history and verdict != Ruling.PASS and (report := report_of(history)):
        note(f"  Report {nearest(report)}")


@contextmanager
def _rows(path: Path | None, config: Path | None, sets: list[str] | None) -> Iterator[IO[str]]:
    """Open the file of the rows to append to it: `path`, or a file in a new run's folder."""
    from microq.supervisor import runs

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
    """Break one promise at a time: the check of each control must fail.

    Exit code 0 only if every check failed as expected, else 1.
    """
    from microq.terminal import verdict as views
    from microq.workflows.trial import check_alone

    sets = with_queue(backend, sets)
    loaded = configuration(config, sets)
    check_alone(loaded)
    queue = loaded.queue.backend
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
        raise typer.Exit(ExitCode.INTERRUPTED)
    raise typer.Exit(ExitCode.FINE if all(red == len(got) for _, got, red in found) else ExitCode.FAILED)


def _chosen(names: Sequence[str], backend: str) -> list[Any]:
    from microq.chaos.controls import CONTROLS

    for name in names:
        if name not in CONTROLS:
            raise UsageError(f"there is no control {name!r}; the controls are {', '.join(CONTROLS)}")
        if not CONTROLS[name].suits(backend):
            raise UsageError(
                f"{name} is a control of {' and '.join(with_traits(CONTROLS[name].needs))}, not of {backend}"
            )
    mine = [control for control in CONTROLS.values() if control.suits(backend)]
    return [control for control in mine if not names or control.name in names]


def _once(control: Any, seed: int, config: Path | None, sets: list[str] | None) -> tuple[str, bool, float | None]:
    """Run a control; return its outcome, whether it was as expected, and its seconds (None if it could not be run)."""
    from microq.chaos.controls import outcome
    from microq.chaos.scenario import Trial
    from microq.workflows.host import run_trial
    from microq.workflows.trial import configured

    note(f"{control.name}: {control.help} Expected: {control.expectation}.")
    # A restart would remove what is wrong in the memory of a consumer.
    trial = Trial(control.fault, control.messages, seed, quiet=control.quiet, defects=control.defects, reread=False)
    try:
        settings = configured(control.fault, partial(configuration, config), sets or [], control.settings)
        found, history = run(run_trial(settings, trial, TERMINAL))
    except MicroqError as error:
        note(f"  could not be run: {error}")
        return f"error: {error}", False, None
    note(f"  {outcome(found)}   {history}")
    _report(found.verdict, str(history))
    return outcome(found), control.red(found), found.duration_s


def _case(control: Any, queue: str, seed: int, got: tuple[str, bool, float | None]) -> Any:
    """Return a run of a control as a test case: it passes if the check failed as expected."""
    from microq.chaos.matrix import ERROR
    from microq.chaos.verdict import Ruling
    from microq.report.junit import Case

    text, red, seconds = got
    suite = f"{queue}.{'quiet' if control.quiet else 'live'}"
    verdict = ERROR if seconds is None else (Ruling.PASS if red else Ruling.FAIL).value
    reasons = () if red else (f"expected {control.expectation}, got {text}",)
    return Case(suite, f"control {control.name} seed {seed}", verdict, seconds or 0.0, reasons)
