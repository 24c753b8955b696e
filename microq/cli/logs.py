"""`microq logs` and `trace`: the logs of the processes, and the journey of one message."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from microq.cli.output import ConfigOption, JsonOption, console, emit, of_the_system, run, say
from microq.errors import UnknownMessageError, UsageError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("logs")(logs)
    app.command("trace")(trace)


def logs(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names, groups or ports (default: all).", metavar="[NAME...]")
    ] = None,
    config: ConfigOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue with new lines until Ctrl-C.")] = False,
    count: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="The number of last lines of each log that are shown first.")
    ] = 50,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print the lines as they are written, JSON too, without colour.")
    ] = False,
    grep: Annotated[str, typer.Option("--grep", help="Only lines that contain this text.", show_default=False)] = "",
) -> None:
    """Show the logs of the processes.

    Of the running system, else of the last run.

    \b
    microq logs messages -f      the messages that the messages-services receive, as they come
    microq logs 5004 --grep msg7
    """
    from microq.supervisor.topology import select, specs
    from microq.workflows.finished import config_of, newest_run

    loaded = of_the_system(config)
    folder = newest_run(loaded)
    known = specs(config_of(folder, loaded))
    run(_print_logs(folder / "logs", select(known, names or ["all"]), count, follow=follow, raw=raw, grep=grep))


async def _print_logs(folder: Path, names: list[str], count: int, *, follow: bool, raw: bool, grep: str) -> None:
    from microq.terminal import logs as files

    screen = console()

    def show(name: str, line: str) -> None:
        if grep and grep not in files.readable(line):
            return
        if raw:
            say(files.safe(line))
        else:
            screen.print(files.coloured(name, line, names), soft_wrap=True)

    fresh = files.follow(folder, names)
    for name, line in files.last(files.files_of(folder, names), count):
        show(name, line)
    if follow:
        async for name, line in fresh:
            show(name, line)


async def print_all(folder: Path, names: Sequence[str]) -> None:
    """Print the logs in a folder from their beginning, as they come."""
    from microq.terminal import logs as files

    screen = console()
    async for name, line in files.follow(folder, names, from_start=True):
        try:
            screen.print(files.coloured(name, line, names), soft_wrap=True)
        except BrokenPipeError:
            raise  # the reader is gone, and that ends the system
        except OSError:
            screen = console()  # the disk is full; the old console would repeat the same line without an end


# -- one message ------------------------------------------------------------------------------------------------------

LEAST = 4
"""The smallest number of characters of an id by which it is searched."""

LISTED = 5


def trace(
    message_id: Annotated[
        str,
        typer.Argument(help="The id, a beginning that no other id has, or the whole text.", metavar="ID|TEXT"),
    ],
    config: ConfigOption = None,
    run_name: Annotated[
        str | None,
        typer.Option("--run", help="The name or the folder of a run (default: the last one).", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the journey of one message, step by step.

    It searches the running system, else the last run. `microq logs facade` and the dashboard show the ids.

    \b
    microq trace 8f31c2d0
    microq trace msg7
    microq trace 8f31c2d0 --run 2026-11-24T10-02-11-kill-member
    """
    from microq.terminal.logs import journey
    from microq.trace import find
    from microq.workflows.finished import newest_run, run_called

    loaded = of_the_system(config)
    folder = newest_run(loaded) if run_name is None else run_called(loaded, run_name)
    trail = find(folder, message_id)
    if not trail.steps:
        trail = find(folder, _with_text(folder, message_id) or _beginning_with(folder, message_id))
    emit(dataclasses.asdict(trail), lambda: journey(trail), as_json=as_json)


def _with_text(folder: Path, text: str) -> str:
    """Return the id of the one message that has this text; empty if none has."""
    from microq.terminal.logs import safe
    from microq.trace import with_text

    found = with_text(folder, text, LISTED + 1)
    if len(found) > 1:
        more = ", and more" if len(found) > LISTED else ""
        listed = ", ".join(f"{safe(row.id)} ({_clock(row.acknowledged_at)})" for row in found[:LISTED])
        raise UsageError(
            f"several messages have the text {safe(text)!r}, the newest are {listed}{more}; give the id of one"
        )
    return found[0].id if found else ""


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%H:%M:%S}"


def _beginning_with(folder: Path, beginning: str) -> str:
    """Return the only id that begins with this text."""
    from microq.terminal.logs import safe
    from microq.trace import ids_like

    found = ids_like(folder, beginning, LISTED + 1) if len(beginning) >= LEAST else []
    if not found:
        short = f"; give at least {LEAST} characters of it" if len(beginning) < LEAST else ""
        raise UnknownMessageError(f"no log of {folder.name} has a message {safe(beginning)!r}{short}")
    if len(found) > 1:
        more = ", and more" if len(found) > LISTED else ""
        listed = ", ".join(map(safe, found[:LISTED]))
        raise UsageError(f"several ids begin with {safe(beginning)!r}: {listed}{more}; give more characters of it")
    return found[0]
