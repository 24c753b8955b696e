"""`microq logs`: what the processes say, together or one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from microq.cli.output import ConfigOption, configuration, console, run
from microq.cli.past import config_of, newest_run


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("logs")(logs)


def logs(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names, groups or ports (default: all).", metavar="[NAME...]")
    ] = None,
    config: ConfigOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    count: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines of each log to begin with.")] = 50,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print the lines as they are written, JSON too, without colour.")
    ] = False,
    grep: Annotated[str, typer.Option("--grep", help="Only lines that contain this text.", show_default=False)] = "",
) -> None:
    """Show the logs of the processes.

    Of the running system, else of the last run.

    \b
    microq logs messages -f      what the messages-services receive, as it comes
    microq logs 5004 --grep msg7
    """
    from microq.system.topology import select, specs  # noqa: PLC0415 - --help needs none of it

    loaded = configuration(config, None)
    folder = newest_run(loaded)
    known = specs(config_of(folder, loaded))
    run(_print_logs(folder / "logs", select(known, names or ["all"]), count, follow=follow, raw=raw, grep=grep))


async def _print_logs(folder: Path, names: list[str], count: int, *, follow: bool, raw: bool, grep: str) -> None:
    from microq.views import logs as files  # noqa: PLC0415 - --help needs none of it

    screen = console()

    def show(name: str, line: str) -> None:
        if grep and grep not in files.readable(line):
            return
        if raw:
            typer.echo(files.safe(line))
        else:
            screen.print(files.coloured(name, line, names), soft_wrap=True)

    fresh = files.follow(folder, names)
    for name, line in files.last(files.files_of(folder, names), count):
        show(name, line)
    if follow:
        async for name, line in fresh:
            show(name, line)
