"""`microq dashboard`: opens the page of the running system, or of a finished run."""

from __future__ import annotations

import asyncio
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from microq.cli.output import ConfigOption, note, of_the_system, run, say
from microq.config import Address, Config
from microq.errors import NotRunningError, UsageError

OpenOption = Annotated[
    bool | None,
    typer.Option("--open/--no-open", help="Open a browser (default: if this is a terminal).", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("dashboard")(dashboard)


def dashboard(
    finished: Annotated[
        str, typer.Argument(metavar="[RUN]", help="A finished run: its folder, or its name in .microq/runs.")
    ] = "",
    config: ConfigOption = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="For a finished run.", show_default="any free one")
    ] = None,
    browser: OpenOption = None,
) -> None:
    """Open the page of the running system, or replay a finished run.

    \b
    microq dashboard                                     the system that runs here
    microq dashboard 2026-11-24T10-02-11-kill-member     a finished run, with a time slider
    """
    loaded = of_the_system(config)
    opens = sys.stdout.isatty() if browser is None else browser
    if finished:
        from microq.workflows.finished import folder_called

        run(_replay(loaded, folder_called(loaded, finished), port, opens=opens))
        return
    if port is not None:
        raise UsageError("--port is for a finished run; the running system has `[dashboard] address`")
    _open(_running(loaded), opens=opens)


def _running(config: Config) -> str:
    """Return the page of the system that runs here."""
    from microq.dashboard.access import address_of
    from microq.supervisor import records

    if records.supervisor_pid(config) is None:
        raise NotRunningError(
            f"no system runs in {config.title}; `microq up` starts one, `microq dashboard RUN` shows a finished run"
        )
    if not config.dashboard.enabled:
        raise UsageError("[dashboard] enabled = false: the running system has no page")
    return address_of(config)


async def _replay(config: Config, folder: Path, port: int | None, *, opens: bool) -> None:
    from microq.dashboard.server import show_run
    from microq.supervisor import ports
    from microq.workflows.finished import config_of

    chosen = port or ports.free(1)[0]
    async with show_run(config_of(folder, config), folder, Address("127.0.0.1", chosen)) as page:
        _open(page, opens=opens)
        note("Ctrl-C ends it.")
        await asyncio.Event().wait()


def _open(page: str, *, opens: bool) -> None:
    say(page)
    if opens and not webbrowser.open(page):
        note("No browser could be opened; open the address above in one.")
