"""`microq assignment`: do the task of the course, step by step."""

from __future__ import annotations

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
    note,
    run,
    with_queue,
)
from microq.errors import ExitCode, MicroqError, reason
from microq.fleet import SERVER_WORDS

MOST_PACE = 600.0
"""The largest number of seconds for `--pace`."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("assignment")(assignment)


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
