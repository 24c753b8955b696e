"""`microq chaos` and `microq verify`: break the system, and judge what it did."""

from __future__ import annotations

import dataclasses
import inspect
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from microq.chaos.faults import CHECKS, FAULTS
from microq.chaos.faults.base import Fault
from microq.chaos.faults.members import MemberFault
from microq.cli import matrix
from microq.cli.output import (
    INTERRUPTED,
    ConfigOption,
    JsonOption,
    QueueOption,
    SetOption,
    emit,
    note,
    run,
    with_queue,
)
from microq.cli.report import JunitOption, report_of, write_junit
from microq.cli.trials import configured, run_trial

EXIT = {"pass": 0, "fail": 1, "unknown": 3}
"""Verdict -> exit code."""

MESSAGES_QUIET, MESSAGES_LIVE = 100, 5000

MOST_SEED = 1 << 32

commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Break the system on purpose and judge it.")


def register(app: typer.Typer) -> None:
    """Add the commands: one for each fault, and those over all of them."""
    app.add_typer(commands, name="chaos")
    app.command("verify")(verify)
    for name, kind in FAULTS.items():
        commands.command(name)(_command(kind))
    matrix.register(commands)


@commands.callback()
def group() -> None:
    """Break the system on purpose and judge it."""


@commands.command("list")
def list_faults(as_json: JsonOption = False) -> None:
    """Show the faults, and what each one needs."""
    from microq.views.matrix import faults, summary  # noqa: PLC0415 - --help needs none of it

    rows = [
        {
            "fault": name,
            "help": summary(kind),
            "quiet": issubclass(kind, MemberFault),
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
        max=matrix.MOST_MESSAGES,
        help=f"Messages acknowledged at least: {MESSAGES_LIVE} under traffic, {MESSAGES_QUIET} quietly.",
        show_default=False,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=MOST_SEED, help="Repeat the choices of a run.", show_default="at random"),
]
ConnectionsOption = Annotated[
    int, typer.Option("--connections", min=1, max=256, help="Messages under way at the same time, under traffic.")
]
QuietOption = Annotated[
    bool, typer.Option("--quiet/--live", help="With the consumers off, or under traffic with them on.")
]
ProbeOption = Annotated[
    bool,
    typer.Option("--probe/--no-probe", help="Quiet: send one message more, to time the first acknowledgement."),
]

COMMON: dict[str, tuple[Any, Any]] = {
    "messages": (MessagesOption, None),
    "connections": (ConnectionsOption, 16),
    "seed": (SeedOption, None),
    "config": (ConfigOption, None),
    "sets": (SetOption, None),
    "backend": (QueueOption, None),
    "as_json": (JsonOption, False),
    "junit": (JunitOption, None),
}
"""The options of every fault: name -> type and default."""


def _command(kind: type[Fault]) -> Callable[..., None]:
    """Make the command of a fault: its help is the fault's docstring, its options the fault's fields and the common."""

    def command(**options: Any) -> None:
        _break(kind, options)

    parameters = {**dict(_fields(kind)), **_forms(kind), **COMMON}
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what typer reads
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for name, (annotation, default) in parameters.items()
        ]
    )
    command.__annotations__ = {name: annotation for name, (annotation, _) in parameters.items()}
    command.__doc__ = (kind.__doc__ or "").replace(r"\b", "\b")  # the mark that keeps lines apart
    return command


def _fields(kind: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        facts = field.metadata
        flags = [f"--{field.name}", *([facts["flag"]] if facts["flag"] else [])]
        given = typer.Option(*flags, min=facts["least"], max=facts["most"], help=facts["help"])
        yield field.name, (Annotated[hints[field.name], given], field.default)


def _forms(kind: type[Fault]) -> dict[str, tuple[Any, Any]]:
    """Return the options of a fault that can be quiet."""
    if not issubclass(kind, MemberFault):
        return {}
    return {"quiet": (QuietOption, kind in CHECKS), "probe": (ProbeOption, True)}


def _break(kind: Any, options: dict[str, Any]) -> None:
    from microq.chaos.controls import NO_REDELIVERY  # noqa: PLC0415 - --help needs none of it
    from microq.chaos.scenario import Trial  # noqa: PLC0415
    from microq.report.junit import of_verdict  # noqa: PLC0415
    from microq.system.session import Interrupted  # noqa: PLC0415
    from microq.views.verdict import verdict as picture  # noqa: PLC0415

    fault = kind(**{field.name: options[field.name] for field in dataclasses.fields(kind)})
    quiet = options.get("quiet", False)
    seed = secrets.randbelow(MOST_SEED) if options["seed"] is None else options["seed"]
    trial = Trial(
        fault,
        options["messages"] or (MESSAGES_QUIET if quiet else MESSAGES_LIVE),
        seed,
        options["connections"],
        options.get("probe", True),
        NO_REDELIVERY if quiet else {},
    )
    config = configured(fault, options["config"], with_queue(options["backend"], options["sets"]))
    try:
        found, history = run(run_trial(config, trial, quiet=quiet))
    except Interrupted:
        note("Interrupted; everything that was started for this run is stopped.")
        raise typer.Exit(INTERRUPTED) from None
    report = report_of(history)
    write_junit(options["junit"], [of_verdict(found, history)])
    emit(
        {**found.to_json(history), "report": report},
        lambda: picture(found, history, report),
        as_json=options["as_json"],
    )
    raise typer.Exit(EXIT[found.verdict])


def verify(
    history: Annotated[Path, typer.Argument(help="A history, e.g. .microq/runs/.../history.jsonl.")],
    as_json: JsonOption = False,
    junit: JunitOption = None,
) -> None:
    """Judge a history again, from the file alone. Exit codes: 0 pass, 1 fail, 3 unknown."""
    from microq.chaos.history import read  # noqa: PLC0415 - --help needs none of it
    from microq.chaos.judge import judge  # noqa: PLC0415
    from microq.report.junit import of_verdict  # noqa: PLC0415
    from microq.views.verdict import verdict as picture  # noqa: PLC0415

    found = judge(read(history))
    write_junit(junit, [of_verdict(found, str(history))])
    emit(found.to_json(str(history)), lambda: picture(found, str(history)), as_json=as_json)
    raise typer.Exit(EXIT[found.verdict])
