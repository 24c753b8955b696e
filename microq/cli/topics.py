"""`microq help`: what is not about one command."""

from __future__ import annotations

from typing import Annotated

import typer

from microq.errors import UsageError

TOPICS = {
    "exit-codes": """\
  0   fine
  1   the check failed: a message was lost or duplicated, a send was not acknowledged, one that is sought is not there
  2   usage or configuration
  3   the verdict is unknown, or no system is up
  4   this machine lacks something: Java, a jar, a port, disk
  5   a deadline passed
130   Ctrl-C""",
    "configuration": """\
A value comes from the first of these that has it:
  --set TABLE.KEY=VALUE     for one command, e.g. --set queue.max-size=100 or --set messages=3
  MICROQ_TABLE_KEY          e.g. MICROQ_QUEUE_MAX_SIZE=100
  the file                  --config FILE, else MICROQ_CONFIG, else config.toml here
  the default               config.toml lists every key with its default, commented out
MICROQ_CACHE is the folder of the downloads. A running system keeps its files in .microq beside the configuration.""",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("help")(show)


def show(topic: Annotated[str, typer.Argument(help=f"One of {', '.join(TOPICS)}.", show_default=False)] = "") -> None:
    """Explain the exit codes and the configuration.

    \b
    microq help exit-codes
    microq help configuration
    """
    if topic and topic not in TOPICS:
        raise UsageError(f"no topic is called {topic!r}; there are {', '.join(TOPICS)}, and `microq COMMAND --help`")
    for name in [topic] if topic else TOPICS:
        typer.echo(f"{name}\n{TOPICS[name]}")
