"""How every command speaks: data on standard output, everything else on standard error, one line per error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from microq import exposure
from microq.config import Address, Config, load
from microq.errors import MachineError, MicroqError

T = TypeVar("T")

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""

_WIDTH_OF_PIPE = 1000
"""Columns of what is no terminal, unless COLUMNS says how many: more than any table has."""

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="The configuration (default: config.toml here).", show_default=False),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a value: messages=3, queue.max-size=100.", show_default=False),
]
Backend = Literal["hazelcast", "kafka"]
QueueOption = Annotated[
    Backend | None,
    typer.Option("--queue", help="Where the queue is kept; the same as --set queue.backend=...", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def configuration(path: Path | None, sets: list[str] | None) -> Config:
    """Load what the options of a command ask for."""
    return load(path, sets or [])


def with_queue(backend: Backend | None, sets: list[str] | None) -> list[str]:
    """Return what `--set` and `--queue` set, the latter last."""
    return [*(sets or []), *([f"queue.backend={backend}"] if backend else [])]


def of_the_system(path: Path | None, sets: list[str] | None = None) -> Config:
    """Return the configuration of the system that runs here, unless the user names values of their own."""
    from microq.system import records  # noqa: PLC0415 - --help needs none of it

    config = configuration(path, sets)
    return config if sets else records.in_force(config)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine."""
    return asyncio.run(main)


def emit(data: Any, render: Callable[[], Any], *, as_json: bool) -> None:
    """Print a command's result: `data` as JSON, or what `render` returns for people."""
    if as_json:
        typer.echo(_harmless(json.dumps(data, ensure_ascii=False, indent=2, default=str)))
        return
    console().print(render())


def emit_line(data: Any) -> None:
    """Print one of many results as JSON in one line, at once."""
    typer.echo(_harmless(json.dumps(data, ensure_ascii=False, default=str)))


def _harmless(text: str) -> str:
    """Return JSON text with all that could move or colour a terminal written as JSON's escapes."""
    # Line breaks are those between the values; the ones in a value are escaped already.
    return "\n".join(
        line if line.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
        for line in text.split("\n")
    )


def console(*, error: bool = False) -> Any:
    """Return a rich console; it knows terminals, pipes and NO_COLOR. In a pipe nothing is cut or wrapped."""
    from rich.console import Console  # noqa: PLC0415 - --help needs none

    terminal = (sys.stderr if error else sys.stdout).isatty()
    width = None if terminal or "COLUMNS" in os.environ else _WIDTH_OF_PIPE
    return Console(stderr=error, highlight=False, soft_wrap=not terminal, width=width)


def note(text: str) -> None:
    """Tell people something on standard error."""
    typer.echo(text, err=True)


def warn_of(listeners: Iterable[tuple[str, Address]]) -> None:
    """Warn, in one line, of what is about to listen where other machines can reach it."""
    line = exposure.warning(listeners)
    if line:
        note(line)


@contextlib.contextmanager
def boundary() -> Iterator[None]:
    """Turn what may go wrong into one line and an exit code; the only place that does."""
    try:
        yield
    except MicroqError as error:
        tell(error)
        raise typer.Exit(error.exit_code) from error
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        raise typer.Exit(INTERRUPTED) from error
    except BrokenPipeError as error:
        # Whoever read our output has seen enough.
        with contextlib.suppress(OSError):
            sys.stdout.close()
        raise typer.Exit(0) from error
    except OSError as error:
        # A disk that is full, a folder that is not ours: what the machine refuses has its reason with it.
        problem = MachineError(f"{error.filename or 'this machine'}: {error.strerror or error}")
        tell(problem)
        raise typer.Exit(problem.exit_code) from error


def tell(error: MicroqError) -> None:
    """Print an error on standard error, as JSON where the command was asked for JSON."""
    if "--json" in sys.argv:
        typer.echo(_harmless(json.dumps({"code": error.code, "message": str(error)}, ensure_ascii=False)), err=True)
    else:
        typer.secho(f"microq: {error}", err=True, fg=typer.colors.RED if sys.stderr.isatty() else None)


@contextlib.contextmanager
def download_bars() -> Iterator[Any]:
    """Show downloads as they come in; yield a `jars.Progress`."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # noqa: PLC0415

    screen = console(error=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,  # it would leave an empty line
    ) as bars:

        @contextlib.contextmanager
        def progress(name: str, size: int) -> Iterator[Callable[[int], None]]:
            task = bars.add_task(f"Downloading {name}", total=size)
            yield lambda count: bars.advance(task, count)
            note(f"Downloaded {name}")

        yield progress
