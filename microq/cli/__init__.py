"""The command line: assembly only."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from microq import __version__, hints
from microq.cli import output
from microq.config import NAME_VARIABLE
from microq.errors import UsageError
from microq.fleet import SERVICES
from microq.settings import system_name

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("system", "Start the whole system."),
    "down": ("system", "Stop everything, including what a crash left behind."),
    "status": ("status", "Show every process and the cluster's copies."),
    "ps": ("status", ""),
    "ls": ("status", "Show all systems of this user."),
    "queue": ("status", "Show the queue's copies, the primary owner starred."),
    "start": ("system", "Start processes and wait until they are ready."),
    "stop": ("system", "Stop processes: SIGTERM, and SIGKILL after 10 s."),
    "kill": ("system", "Kill processes with SIGKILL."),
    "restart": ("system", "Stop processes, then start them."),
    "pause": ("system", "Freeze processes with SIGSTOP."),
    "resume": ("system", "Continue paused processes with SIGCONT."),
    "dashboard": ("dashboard", "Open the page of the running system, or replay a finished run."),
    "logs": ("logs", "Show the logs of the processes."),
    "trace": ("logs", "Show the journey of one message, step by step."),
    "send": ("messages", "Send messages and show the outcome of each."),
    "read": ("messages", "Read both sets through the facade, several times."),
    "wire": ("wire", "Send one message and show each call, to see whether [wire] fits."),
    "assignment": ("assignment", "Do the task of the course step by step, with a report to hand in."),
    "grade": ("assignment", "Do the assignment for many projects, one after another, and make one table."),
    "chaos": ("chaos", "Break the system on purpose and judge the result."),
    "verify": ("chaos", "Judge a history again, from the file alone."),
    "dead": ("messages", "Dead letters: list, replay, drop."),
    "bench": ("bench", "Measure the system, beside the most that this machine can do."),
    "compare": ("bench", "Measure and break Hazelcast and Kafka in the same way, side by side."),
    "report": ("report", "Make the report of a run from its history alone."),
    **{role.value: ("services", service.help) for role, service in SERVICES.items()},
    "doctor": ("machine", "Show what this machine lacks, and how to provide it."),
    "fetch": ("machine", "Download everything beforehand."),
    "help": ("help", "Explain a topic or a command."),
}
"""Command -> its module here, and its line in the list of commands (empty: not listed).

A module is imported when its command is used: importing all takes longer than most commands run.
"""


class Commands(TyperGroup):
    """The group of all commands; it handles their errors."""

    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        # Only names: they are enough to list and to suggest commands.
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's signature
        """Import the module of a command and return the command; None if no command has this name."""
        if cmd_name not in COMMANDS:
            return None
        part = typer.Typer(rich_markup_mode=None)
        part.callback()(lambda: None)  # else a module with one command would not be a group
        import_module(f"{__name__}.{COMMANDS[cmd_name][0]}").register(part)
        return _with_name(get_group(part).commands[cmd_name])

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer's signature
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items() if line])

    def make_context(self, *args: Any, **words: Any) -> Any:
        """Parse the command line, or print a help text, inside the error boundary."""
        with output.boundary():
            return super().make_context(*args, **words)

    def invoke(self, ctx: Any) -> Any:
        """Run the command inside the error boundary."""
        with output.boundary():
            return super().invoke(ctx)


def _with_name(command: Any) -> Any:
    """Add `--name` to a command, or the commands of a group, if it takes a configuration: it works on a system."""
    for part in getattr(command, "commands", {}).values():
        _with_name(part)
    if any(option.name == "config" for option in command.params):
        command.params.append(_name_option())
    return command


@cache
def _name_option() -> Any:
    model = typer.Typer(add_completion=False)
    model.command()(_named)
    [option] = get_command(model).params
    return option


def _choose(context: typer.Context, name: str | None) -> None:
    """Make this command, and the processes that it starts, use the system with this name."""
    if name is None:
        return
    try:
        system_name(name)
    except ValueError as error:
        raise UsageError(f"--name: {error}") from error
    before = os.environ.get(NAME_VARIABLE, "")
    os.environ[NAME_VARIABLE] = name
    context.find_root().call_on_close(lambda: os.environ.update({NAME_VARIABLE: before}))


def _named(
    _name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            callback=_choose,
            expose_value=False,
            help=f"Another system of this folder, with ports of its own (default: ${NAME_VARIABLE}).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Declare the option of all commands that work on a system."""


def _go_to(context: typer.Context, folder: Path | None) -> None:
    if folder is None:
        return
    try:
        os.chdir(folder)
    except OSError as error:
        raise UsageError(f"-C {folder}: {error.strerror}") from error
    context.call_on_close(hints.lead("-C", str(folder)))


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
    microq dead list             messages that no consumer will get, and why
    microq down                  stop everything
    """,
)


@app.callback()
def options(
    _folder: Annotated[
        Path | None,
        typer.Option("-C", metavar="DIR", callback=_go_to, help="Run as if called in DIR.", show_default=False),
    ] = None,
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Declare the options before a command."""
