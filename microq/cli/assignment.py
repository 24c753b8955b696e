"""`microq assignment` and `microq grade`: do the task of the course, for one project or for many."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

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
from microq.cli.report import JunitOption, write_junit
from microq.errors import ExitCode, MicroqError, reason
from microq.fleet import SERVER_WORDS

MOST_PACE = 600.0
"""The largest number of seconds for `--pace`."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("assignment")(assignment)
    app.command("grade")(grade)


def _server_word(text: str) -> str:
    if text in SERVER_WORDS:
        return text
    raise typer.BadParameter(f"{text!r} is not one of {', '.join(SERVER_WORDS)}")


def assignment(
    pace: Annotated[
        float, typer.Option("--pace", min=0, max=MOST_PACE, help="Seconds to wait after each step, to look at it.")
    ] = 0.0,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            parser=_server_word,
            metavar=f"[{'|'.join(SERVER_WORDS)}]",
            help="Which server is killed.",
            show_default="lowest; of Kafka's brokers a leader",
        ),
    ] = None,
    student: Annotated[str, typer.Option("--student", help="The name in the report.", show_default="empty")] = "",
    config: ConfigOption = None,
    sets: SetOption = None,
    backend: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Do the task of the course step by step, with a report to hand in.

    It starts everything, sends msg1 to msg10, shows what each logging-service and each messages-service got, and reads
    both sets. Then the fault-tolerance check: consumers off, 100 messages, a server of the queue killed, consumers on.

    Exit codes: 0 every step holds, 1 a step does not hold, 3 a step is unknown.

    \b
    microq assignment                            with a queue in Hazelcast
    microq assignment --queue kafka              with a queue in Kafka
    microq assignment --pace 5 --student "N. N." slowly, for an audience
    """
    from microq.supervisor.supervisor import Interrupted
    from microq.terminal import assignment as pictures
    from microq.workflows import assignment as workflow

    loaded = configuration(config, with_queue(backend, sets))
    workflow.check(loaded)
    tell = (lambda _step: None) if as_json else (lambda step: console().print(pictures.step(step)))
    try:
        found, folder = run(workflow.perform(loaded, workflow.Plan(student, pace, target or ""), TERMINAL, tell))
    except Interrupted:
        note("Interrupted; everything that was started for this run is stopped.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    report = _report(found, folder)
    emit({**found.to_json(), "report": report}, lambda: pictures.result(found, report), as_json=as_json)
    raise typer.Exit(ExitCode.of_verdicts([found.verdict]))


def _report(found: Any, folder: Any) -> str | None:
    """Write the report, and return its path; a failure does not change the result."""
    from microq.workflows.assignment import write

    try:
        return str(write(found, folder))
    except (MicroqError, OSError) as error:
        note(f"The report could not be written: {reason(error)}")
        return None


# -- many projects -----------------------------------------------------------------------------------------------------

_MIB: dict[str, Any] = {"min": 64, "max": 1 << 20, "metavar": "MIB"}


def grade(
    folders: Annotated[list[Path], typer.Argument(help="The folders of the projects.", metavar="DIR...")],
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, max=86_400, help="How long each project may take, in seconds.")
    ] = 600.0,
    memory: Annotated[int, typer.Option("--memory", help="Memory of all processes of a project.", **_MIB)] = 4096,
    file: Annotated[int, typer.Option("--file", help="The size of each file that a project writes.", **_MIB)] = 256,
    as_json: JsonOption = False,
    junit: JunitOption = None,
) -> None:
    """Do the assignment for many projects, one after another, and make one table.

    Each project is a folder with a config.toml. It runs on a copy of its folder, with limits; whatever it does, the
    others are judged as if they were alone. Its programs run as you, so this is no protection against malice.

    Exit codes: 1 if a project failed, else 3 if one is unknown or could not be judged, else 0.

    \b
    microq grade students/*
    microq grade students/* --junit grades.xml
    """
    from microq.config import Config
    from microq.report.junit import Case
    from microq.supervisor.runs import new_run, only_scenario
    from microq.terminal.assignment import grades
    from microq.workflows import grade as workflow

    chosen, here = workflow.chosen(folders), Config("the command", Path.cwd())
    limits = workflow.Limits(seconds, memory << 20, file << 20)
    found: list[Any] = []

    def tell(one: Any) -> None:
        found.append(one)
        note(f"  {one.verdict}, {one.held} of {one.steps} steps hold, {one.seconds:.0f} s")

    with only_scenario(here):
        home = new_run(here, "grade")
        with interruptible() as interrupted:
            run(workflow.grade(chosen, limits, home, TERMINAL, tell))
    write_junit(junit, [Case(f"grade.{one.queue}", one.project, one.verdict, one.seconds, [one.why]) for one in found])
    data = {"limits": dataclasses.asdict(limits), "projects": [dataclasses.asdict(one) for one in found]}
    emit(data, lambda: grades(found), as_json=as_json)
    raise typer.Exit(ExitCode.INTERRUPTED if interrupted else ExitCode.of_verdicts(one.verdict for one in found))
