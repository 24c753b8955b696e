"""`microq wire`: one message through the services, call by call."""

from __future__ import annotations

from typing import Annotated

import typer

from microq.cli.output import (
    TERMINAL,
    ConfigOption,
    JsonOption,
    QueueOption,
    SetOption,
    emit,
    interruptible,
    of_the_system,
    run,
    with_queue,
)
from microq.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("wire")(wire)


def wire(
    text: Annotated[str, typer.Option("--text", help="The text of the message.", show_default="a new one")] = "",
    config: ConfigOption = None,
    sets: SetOption = None,
    backend: QueueOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send one message and show each call, to see whether [wire] fits.

    Of each call it shows what was sent, what came and how it was understood. It uses the running system, or starts
    one for this. Exit code 1 if something was not as [wire] says.
    """
    from microq.terminal.messages import tried
    from microq.workflows.wire import try_here

    loaded = of_the_system(config, with_queue(backend, sets))
    with interruptible() as happened:
        found = run(try_here(loaded, TERMINAL, text))
    if happened:
        raise typer.Exit(ExitCode.INTERRUPTED)
    body = {
        "text": found.text,
        "exchanges": [each.to_json() for each in found.exchanges],
        "problems": list(found.problems),
    }
    emit(body, lambda: tried(found), as_json=as_json)
    raise typer.Exit(ExitCode.FAILED if found.problems else ExitCode.FINE)
