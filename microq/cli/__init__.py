"""The command line: assembly only."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from microq import __version__
from microq.cli import (
    bench,
    chaos,
    compare,
    dashboard,
    dead,
    logs,
    machine,
    output,
    report,
    services,
    system,
    topics,
    trace,
    traffic,
)


class Commands(TyperGroup):
    """The group of all commands; errors of any of them end here."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command inside the one boundary."""
        with output.boundary():
            return super().invoke(ctx)


def _version(value: bool) -> None:  # noqa: FBT001 - typer calls it
    if value:
        typer.echo(f"microq {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Run, feed, watch and break a microservice system around a replicated message queue.

    \b
    microq chaos kill-member     prove that no acknowledged message is lost
    microq up -d                 start the system in the background
    microq send 10               send msg1 ... msg10
    microq read                  read both sets through the facade
    microq dead list             what no consumer will get, and why
    microq down                  stop everything
    """,
)


@app.callback()
def options(
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Hold the options that come before a command."""


system.register(app)
dashboard.register(app)
logs.register(app)
trace.register(app)
traffic.register(app)
dead.register(app)
chaos.register(app)
bench.register(app)
compare.register(app)
report.register(app)
services.register(app)
machine.register(app)
topics.register(app)
