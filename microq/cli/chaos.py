"""`microq chaos` and `microq verify`: break the system, and judge the result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from microq.chaos.faults import (
    FAULTS,
    MESSAGES_LIVE,
    MESSAGES_QUIET,
    MOST_MESSAGES,
    MOST_SEED,
    has_quiet_form,
)
from microq.chaos.faults.base import Fault, options_of, summary
from microq.cli import matrix
from microq.cli.output import (
    TERMINAL,
    ConfigOption,
    JsonOption,
    QueueOption,
    SetOption,
    configuration,
    emit,
    note,
    run,
    with_queue,
)
from microq.cli.report import JunitOption, report_of, write_junit
from microq.errors import ExitCode

commands = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Break the system on purpose and judge the result."
)


def register(app: typer.Typer) -> None:
    """Add the commands: one for each fault, and those for all faults."""
    app.add_typer(commands, name="chaos")
    app.command("verify")(verify)
    for name, kind in FAULTS.items():
        commands.command(name)(_command(kind))
    matrix.register(commands)


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

COMMON: dict[str, tuple[Any, Any]] = {
    "messages": (MessagesOption, None),
    "connections": (ConnectionsOption, 16),
    "seed": (SeedOption, None),
    "also": (AlsoOption, None),
    "held": (matrix.HeldOption, 0),
    "reread": (matrix.RereadOption, True),
    "min_accepted": (matrix.AcceptedOption, None),
    "min_availability": (matrix.AvailabilityOption, None),
    "max_p99": (matrix.P99Option, None),
    "max_gap": (matrix.GapOption, None),
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
    from microq.supervisor.lifecycle import Interrupted
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
        bounds=matrix.bounds(options),
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
