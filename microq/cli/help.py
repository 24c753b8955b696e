"""`microq help`: the topics, which are the Markdown files in `microq/help/`, and the help of a command."""

from __future__ import annotations

import sys
from importlib.resources import files
from typing import Annotated, Any

import typer

from microq.cli.output import console, say
from microq.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("help")(show)


def topics() -> dict[str, str]:
    """Return each topic with its text; the first line of a text is its title."""
    found = (files("microq") / "help").iterdir()
    return {
        file.name.removesuffix(".md"): file.read_text(encoding="utf-8")
        for file in sorted(found, key=lambda file: file.name)
        if file.name.endswith(".md")
    }


def show(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(help="A topic or a command; none lists the topics.", metavar="[TOPIC|COMMAND...]"),
    ] = None,
) -> None:
    """Explain a topic or a command.

    \b
    microq help                     the topics
    microq help exit-codes
    microq help configuration
    microq help up                  the same as microq up --help
    microq help chaos kill-member
    """
    known = topics()
    if not words:
        width = max(map(len, known))
        listed = [f"  {name:<{width}}  {_title(text)}" for name, text in known.items()]
        say("\n".join(["microq help TOPIC; the topics are:", *listed]))
    elif words[0] in known:
        _print(known[words[0]])
    else:
        _show_command(context.find_root(), words, known)


def _title(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ")


def _print(text: str) -> None:
    """Print Markdown: unchanged into a pipe, laid out in a terminal."""
    if not sys.stdout.isatty():
        say(text.rstrip("\n"))
        return
    from rich.markdown import Markdown

    console().print(Markdown(text))


def _show_command(root: Any, words: list[str], known: dict[str, str]) -> None:
    """Print the help of a command and end; raises `UsageError` if there is no such command."""
    group: Any = root.command
    found = group.get_command(root, words[0])
    if found is None:
        commands = ", ".join(name for name in group.list_commands(root))
        raise UsageError(f"no topic is called {words[0]!r}; the topics are {', '.join(known)}, the commands {commands}")
    with found.make_context(words[0], [*words[1:], "--help"], parent=root) as context:
        found.invoke(context)
