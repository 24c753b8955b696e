"""The output of every command: data on standard output, everything else on standard error, one line per error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TextIO, TypeVar

import typer

from microq import hints, interpreter
from microq.backends import BACKENDS, names
from microq.config import Address, Config, load, located
from microq.errors import ExitCode, MachineError, MicroqError, NotRunningError
from microq.hints import pasteable

if TYPE_CHECKING:  # --help needs none of it
    from microq.fleet import Event, ProcessState

T = TypeVar("T")

_WIDTH_OF_PIPE = 1000
"""The width of output that is not a terminal, unless COLUMNS is set: wider than every table."""


def _config(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        context.find_root().call_on_close(hints.lead("--config", str(path)))
    return path


def of_backend(text: str) -> str:
    """Read the name of a backend of the queue."""
    if text in BACKENDS or text in names():
        return text
    raise typer.BadParameter(f"{text!r} is not one of {', '.join(map(repr, names()))}")


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", callback=_config, help="The configuration (default: config.toml here).", show_default=False
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a value: messages=3, queue.max-size=100.", show_default=False),
]

BACKEND_NAMES = f"[{'|'.join(BACKENDS)}]"
"""The names of backends as `--help` shows them; other packages may add some."""

QueueOption = Annotated[
    str | None,
    typer.Option(
        "--queue",
        help="The backend of the queue; the same as --set queue.backend=...",
        show_default=False,
        parser=of_backend,
        metavar=BACKEND_NAMES,
    ),
]


def _url_given(context: typer.Context, url: Address | None) -> Address | None:
    if url is not None:
        context.find_root().call_on_close(hints.lead("--url", url.url))
    return url


def _url(text: str) -> Address:
    try:
        return Address.parse(text.removeprefix("http://").partition("/")[0])
    except ValueError as error:
        raise typer.BadParameter(f"write it as http://127.0.0.1:5000: {error}") from error


UrlOption = Annotated[
    Address | None,
    typer.Option(
        "--url",
        parser=_url,
        callback=_url_given,
        metavar="URL",
        help="The facade to use (default: the one of this folder).",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def configuration(path: Path | None, sets: list[str] | None) -> Config:
    """Load the configuration that the options of a command ask for.

    A named system has the addresses with which it was started, or new ones before its start; addresses from `--set` are
    kept.
    """
    config = load(path, sets or [])
    if not config.name:
        return config
    from microq.supervisor import ports, records

    if records.supervisor_pid(config) is not None:
        return records.in_force(config, sets or [])
    return ports.with_own_ports(config, {setting.partition("=")[0] for setting in sets or []})


def with_queue(backend: str | None, sets: list[str] | None) -> list[str]:
    """Return the settings of `--set` and `--queue`, the latter last."""
    return [*(sets or []), *([f"queue.backend={backend}"] if backend else [])]


def of_the_system(path: Path | None, sets: list[str] | None = None) -> Config:
    """Return the configuration of the system that runs here, unless the user gives other values."""
    from microq.supervisor import records

    here = located(path)
    if sets or records.supervisor_pid(here) is None:
        return configuration(path, sets)
    return records.in_force(here)


def of_the_facade(path: Path | None, sets: list[str] | None, url: Address | None) -> Config:
    """Return the configuration with the facade at `url`, else that of this folder.

    Raises `NotRunningError` if the facade of another system answers at this folder's address.
    """
    from microq.supervisor import ports, records

    config = of_the_system(path, sets) if url else addressed(path, sets)
    if url:
        return replace(config, service_ips=replace(config.service_ips, facade_service=url))
    address = config.service_ips.facade_service
    if not sets and records.supervisor_pid(config) is None and (who := ports.stranger(address, config)):
        raise NotRunningError(
            f"no system runs in {config.project}; {who} listens at {address}. "
            f"`--url {address.url}` uses that one, `microq up` starts one here"
        )
    return config


def addressed(path: Path | None, sets: list[str] | None = None) -> Config:
    """Return the configuration of a system whose addresses are known.

    Raises `NotRunningError` for a named system that does not run: its addresses are chosen when it starts.
    """
    from microq.supervisor import records

    config = of_the_system(path, sets)
    if config.name and records.supervisor_pid(config) is None:
        raise NotRunningError(f"no system runs in {config.title}; `microq up` starts it")
    return config


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; SIGTERM and a closed terminal interrupt it as Ctrl-C does."""
    return asyncio.run(_interruptible(main))


async def _interruptible(main: Coroutine[Any, Any, T]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    # A signal that nohup ignores stays ignored.
    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for number in numbers:
        loop.add_signal_handler(number, task.cancel)
    try:
        return await main
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def emit(data: Any, render: Callable[[], Any], *, as_json: bool) -> None:
    """Print a command's result: `data` as JSON, or the result of `render` for people.

    If the reader is gone, the result and the exit code of the command stay the same.
    """
    try:
        if as_json:
            say(_json(data, sys.stdout, indent=2))
        else:
            console().print(render())
    except BrokenPipeError:
        interpreter.drop_output()


def emit_line(data: Any) -> None:
    """Print one of several results as a line of JSON, and flush it."""
    say(_json(data, sys.stdout))


def say(text: str) -> None:
    """Print a line on standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _json(data: Any, stream: TextIO, indent: int | None = None) -> str:
    """Return data as JSON for a stream; letters that its encoding lacks are escaped."""
    has_all = stream.encoding.lower().startswith("utf")
    return _harmless(json.dumps(data, ensure_ascii=not has_all, indent=indent, default=str))


def _harmless(text: str) -> str:
    """Return JSON with characters escaped that control a terminal."""
    # Line breaks are only between values; those within a value are escaped already.
    return "\n".join(
        line if line.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
        for line in text.split("\n")
    )


def console(*, error: bool = False) -> Any:
    """Return a rich console for a terminal or a pipe, with NO_COLOR; in a pipe nothing is cut or wrapped."""
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            """Leave the error to the boundary; rich would end the process."""
            raise  # noqa: PLE0704 - rich calls it where it caught the error

    terminal = (sys.stderr if error else sys.stdout).isatty()
    width = None if terminal or "COLUMNS" in os.environ else _WIDTH_OF_PIPE
    return Screen(stderr=error, highlight=False, soft_wrap=not terminal, width=width)


def note(text: str) -> None:
    """Print a note on standard error."""
    sys.stderr.write(f"{pasteable(text)}\n")
    sys.stderr.flush()


def warn_of(listeners: Iterable[tuple[str, Address]]) -> None:
    """Warn, in one line, of listeners that other machines can reach."""
    from microq import caveats

    line = caveats.exposed(listeners)
    if line:
        note(line)


@contextlib.contextmanager
def boundary() -> Iterator[None]:
    """Turn every error into one line and an exit code; the only place that does."""
    try:
        yield
    except MicroqError as error:
        tell(error)
        raise typer.Exit(error.exit_code) from error
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        raise typer.Exit(ExitCode.INTERRUPTED) from error
    except BrokenPipeError as error:
        # The reader of the output is gone.
        interpreter.drop_output()
        raise typer.Exit(ExitCode.FINE) from error
    except OSError as error:
        interpreter.finish_output()
        # A full disk, a folder of another user: the text of such an error contains the reason.
        problem = MachineError(f"{error.filename or 'this machine'}: {error.strerror or error}")
        tell(problem)
        raise typer.Exit(problem.exit_code) from error


def tell(error: MicroqError) -> None:
    """Print an error on standard error, as JSON if the command has `--json`."""
    if "--json" in sys.argv:
        note(_json({"code": error.code, "message": str(error)}, sys.stderr))
    else:
        coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        note(typer.style(f"microq: {error}", fg=typer.colors.RED if coloured else None, reset=coloured))


@contextlib.contextmanager
def interruptible() -> Iterator[list[str]]:
    """Make Ctrl-C end only the body; then the list is not empty."""
    from microq.supervisor.supervisor import Interrupted

    happened: list[str] = []
    try:
        yield happened
    except (Interrupted, KeyboardInterrupt):
        note("Interrupted; everything that was started for this run is stopped.")
        happened.append("interrupted")


class Terminal:
    """The `workflows.Terminal` of the command line: standard error."""

    def note(self, text: str) -> None:
        """Print a line."""
        note(text)

    def downloads(self) -> contextlib.AbstractContextManager[Any]:
        """Show the progress of downloads; yields a `jars.Progress`."""
        return _download_bars()

    def starting(self, names: Sequence[str], *, lines: bool) -> Starting:
        """Show processes while they start or stop: a live table on a terminal, and lines elsewhere if asked for."""
        return Starting(names, lines=lines)


TERMINAL = Terminal()


class Starting:
    """The states of processes while they start or stop: a live table on a terminal while it is entered, else lines."""

    def __init__(self, names: Sequence[str], *, lines: bool) -> None:
        from microq.fleet import ProcessState

        self._states: dict[str, tuple[ProcessState, str]] = dict.fromkeys(names, (ProcessState.STOPPED, ""))
        self._began, self._lines = time.monotonic(), lines
        self._screen = console(error=True)
        self._live: Any = None

    def __enter__(self) -> Self:
        if self._screen.is_terminal:
            from rich.live import Live

            self._live = Live(get_renderable=self._picture, console=self._screen, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _picture(self) -> Any:
        from microq.terminal import status

        return status.starting(self._states, self._began)

    def hear(self, event: Event) -> None:
        """Show what happened to a process."""
        from microq.fleet import ProcessState, Topic

        if event.topic is not Topic.PROCESS:
            return
        self._states[event.name] = (ProcessState(event.kind), event.detail)
        if self._lines and not self._live:
            from microq.terminal import status

            self._screen.print(status.event(event))


@contextlib.contextmanager
def _download_bars() -> Iterator[Any]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    screen = console(error=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,  # it would print an empty line
    ) as bars:

        @contextlib.contextmanager
        def progress(name: str, size: int) -> Iterator[Callable[[int], None]]:
            task = bars.add_task(f"Downloading {name}", total=size)
            yield lambda count: bars.advance(task, count)
            note(f"Downloaded {name}")

        yield progress
