"""`microq trace`: the journey of one message."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from microq.cli.output import ConfigOption, JsonOption, configuration, emit
from microq.cli.past import newest_run, run_called
from microq.errors import UnknownMessageError, UsageError

LEAST = 4
"""Characters of an id that are enough to look for it."""

LISTED = 5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("trace")(trace)


def trace(
    message_id: Annotated[
        str, typer.Argument(help="The id, or its beginning if no other id has the same.", metavar="ID")
    ],
    config: ConfigOption = None,
    run: Annotated[
        str | None,
        typer.Option("--run", help="The name or the folder of a run (default: the last one).", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what happened to one message, and around it, step by step.

    Of the running system, else of the last run. `microq logs facade` and the dashboard show the ids.

    \b
    microq trace 8f31c2d0
    microq trace 8f31c2d0 --run 2026-11-24T10-02-11-kill-member
    """
    from microq import trails  # noqa: PLC0415 - --help needs none of it
    from microq.views.journey import journey  # noqa: PLC0415

    loaded = configuration(config, None)
    folder = newest_run(loaded) if run is None else run_called(loaded, run)
    trail = trails.find(folder, message_id)
    if not trail.steps:
        trail = trails.find(folder, _begun(folder, message_id))
    emit(dataclasses.asdict(trail), lambda: journey(trail), as_json=as_json)


def _begun(folder: Path, beginning: str) -> str:
    """Return the one id that begins so."""
    from microq import trails  # noqa: PLC0415 - --help needs none of it
    from microq.views.logs import safe  # noqa: PLC0415

    found = trails.ids_like(folder, beginning, LISTED + 1) if len(beginning) >= LEAST else []
    if not found:
        short = f"; give at least {LEAST} characters of it" if len(beginning) < LEAST else ""
        raise UnknownMessageError(f"no log of {folder.name} speaks of a message {safe(beginning)!r}{short}")
    if len(found) > 1:
        more = ", and more" if len(found) > LISTED else ""
        listed = ", ".join(map(safe, found[:LISTED]))
        raise UsageError(f"several ids begin with {safe(beginning)!r}: {listed}{more}; give more of the one you mean")
    return found[0]
