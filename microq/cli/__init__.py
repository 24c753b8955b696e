"""The command line: assembly only."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from microq import __version__
from microq.cli import output

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("system", "Start the whole system."),
    "down": ("system", "Stop everything, leftovers of a crash included."),
    "status": ("system", "Show every process and the cluster's copies."),
    "ps": ("system", ""),
    "queue": ("system", "Show the queue's copies, the primary owner starred."),
    "start": ("system", "Start processes and wait until they are ready."),
    "stop": ("system", "Stop processes: SIGTERM, and SIGKILL after 10 s."),
    "kill": ("system", "Kill processes with SIGKILL."),
    "restart": ("system", "Stop processes, then start them."),
    "pause": ("system", "Freeze processes with SIGSTOP."),
    "resume": ("system", "Let paused processes run again."),
    "dashboard": ("dashboard", "Open the page of the system that runs, or replay a finished run."),
    "logs": ("logs", "Show the logs of the processes."),
    "trace": ("trace", "Show what happened to one message, and around it, step by step."),
    "send": ("traffic", "Send messages and say what became of each."),
    "read": ("traffic", "Read both sets through the facade, several times."),
    "chaos": ("chaos", "Break the system on purpose and judge it."),
    "verify": ("chaos", "Judge a history again, from the file alone."),
    "dead": ("dead", "Dead letters: look, replay, drop."),
    "bench": ("bench", "Measure the system beside what this machine can do at most."),
    "compare": ("compare", "Put Hazelcast and Kafka through the same scenarios, side by side."),
    "report": ("report", "Make the report of a run from its history alone."),
    "config": ("services", "Run the config-service in this terminal."),
    "logging": ("services", "Run a logging-service in this terminal."),
    "messages": ("services", "Run a messages-service in this terminal."),
    "facade": ("services", "Run the facade in this terminal."),
    "doctor": ("machine", "Say what this machine lacks, with the remedy."),
    "fetch": ("machine", "Download everything beforehand."),
    "help": ("topics", "Explain the exit codes and the configuration."),
}
"""Command -> its module here, and its line in the list of all, empty if it is not shown.

A module is imported when its command is chosen: all of them together take longer than what most commands do.
"""


class Commands(TyperGroup):
    """The group of all commands; errors of any of them end here."""

    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        # Names only, which is what they are listed and suggested by.
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's signature
        """Return a command, whose module is imported for it; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        part = typer.Typer(rich_markup_mode=None)
        part.callback()(lambda: None)  # or one command alone would be no group
        import_module(f"{__name__}.{COMMANDS[cmd_name][0]}").register(part)
        return get_group(part).commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer's signature
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items() if line])

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
