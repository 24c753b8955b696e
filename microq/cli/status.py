"""`microq status`, `ps`, `queue` and `ls`: show a system, once or repeatedly, and list all systems."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microq.cli.output import ConfigOption, JsonOption, addressed, console, emit, emit_line, note, of_the_system, run
from microq.config import Config
from microq.errors import DeadlineError, NotRunningError
from microq.fleet import SERVICES, Event, Snapshot

if TYPE_CHECKING:  # `--help` needs neither the terminal's library nor the control socket
    from microq.terminal.screen import Sight

WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Repeat it every second until Ctrl-C.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(status)
    app.command("ps", hidden=True)(status)
    app.command("ls")(ls)
    app.command("queue")(queue)


def status(
    config: ConfigOption = None,
    watch: WatchOption = False,
    as_json: JsonOption = False,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Print the targets for Prometheus, for its file_sd_configs.")
    ] = False,
) -> None:
    """Show every process and the cluster's copies.

    --watch fills the screen, with rates and events; it prints lines if the output is not a terminal, and with --json
    one JSON object a line. With the queue in Kafka, `0 ★ kafka-9091 3/3: 34` is partition 0: its leader, its in-sync
    replicas, and its waiting messages.

    \b
    microq status --watch
    microq status --prometheus > microq.json   all targets, up or down
    """
    if prometheus:
        emit(_targets(addressed(config)), lambda: None, as_json=True)
        return
    from microq.terminal import screen
    from microq.terminal import status as pictures

    shown = Shown(screen.screen, screen.line, pictures.status, everything)
    run(show(of_the_system(config), shown, watch=watch, as_json=as_json))


def ls(as_json: JsonOption = False) -> None:
    """Show all systems of this user.

    The folder in which they were started does not matter.

    \b
    microq -C FOLDER status             show one of them
    microq -C FOLDER down               stop it
    microq -C FOLDER down --name NAME   stop a named one
    """
    from microq.supervisor.records import systems
    from microq.terminal import status as pictures

    found = systems()
    emit([one.to_json() for one in found], lambda: pictures.systems(found, time.time()), as_json=as_json)


def queue(config: ConfigOption = None, watch: WatchOption = False, as_json: JsonOption = False) -> None:
    """Show the queue's copies, the primary owner starred."""
    from microq.terminal import screen
    from microq.terminal import status as pictures

    shown = Shown(
        lambda sight, _width, _height: screen.with_lost(sight, pictures.queue(sight.now)),
        lambda sight: pictures.queue(sight.now),
        pictures.queue,
        of_the_queue,
    )
    run(show(of_the_system(config), shown, watch=watch, as_json=as_json))


def _targets(config: Config) -> list[dict[str, Any]]:
    """Return every service of a system, up or down, and the supervisor's page, whose series have their own labels."""
    from microq.supervisor.topology import specs

    listed = [
        {"targets": [str(spec.address)], "labels": {"role": spec.role.value, "process": spec.name}}
        for spec in specs(config)
        if spec.role in SERVICES
    ]
    page = [{"targets": [str(config.dashboard.address)], "labels": {}}] if config.dashboard.enabled else []
    return [*listed, *page]


# -- once, or repeatedly until Ctrl-C ---------------------------------------------------------------------------------

LOOK_SECONDS = 1.0
"""Seconds between two snapshots while no event comes."""

ANSWER_SECONDS = 5.0
"""Seconds for a supervisor to send a snapshot; after that it counts as lost."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The forms of a view: on a screen, as one line, as a single picture, and as data."""

    screen: Callable[[Sight, int, int], Any]
    line: Callable[[Sight], Any]
    picture: Callable[[Snapshot], Any]
    data: Callable[[Snapshot], dict[str, Any]]


def everything(view: Snapshot) -> dict[str, Any]:
    """Return the whole snapshot as data."""
    from microq.caveats import caveats

    return {**view.to_json(), "cues": caveats(view, {})}


def of_the_queue(view: Snapshot) -> dict[str, Any]:
    """Return the queue of a snapshot as data."""
    found = view.to_json()
    return {key: found[key] for key in ("queue", "members", "brokers", "partitions", "taken_at")}


async def show(config: Config, shown: Shown, *, watch: bool, as_json: bool) -> None:
    """Show the running system; raises `NotRunningError` if none runs at the beginning."""
    from microq.supervisor import control, records
    from microq.terminal.screen import Sight

    async with control.connect(config) as operator:
        view = await operator.snapshot()
    if not watch:
        emit(shown.data(view), lambda: shown.picture(view), as_json=as_json)
        return
    sight = Sight(view)
    with _display(sight, shown, as_json=as_json) as display:
        while True:
            with contextlib.suppress(NotRunningError, DeadlineError, TimeoutError):
                await _watch(config, sight, display)
            sight.lose(time.time())
            display.lost()
            await asyncio.sleep(LOOK_SECONDS)
            while records.supervisor_pid(config) is None:  # noqa: ASYNC110 - its start sends no event
                await asyncio.sleep(LOOK_SECONDS)


async def _watch(config: Config, sight: Sight, display: Display) -> None:
    """Take snapshots and events until the supervisor ends."""
    from microq.aio import task_group
    from microq.supervisor import control

    changed = asyncio.Event()

    async with control.connect(config) as operator, task_group() as tasks:

        async def listen() -> None:
            async for event in operator.events():
                sight.hear(event)
                display.heard(event)
                changed.set()

        listening = tasks.create_task(listen())
        try:
            while not listening.done():
                changed.clear()
                async with asyncio.timeout(ANSWER_SECONDS):
                    view = await operator.snapshot()
                sight.look(view)
                display.looked()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await changed.wait()
        finally:
            listening.cancel()


class Display:
    """Shows a watched system; this class as data, one JSON object for each snapshot."""

    def __init__(self, sight: Sight, shown: Shown) -> None:
        self.sight, self.shown = sight, shown

    def looked(self) -> None:
        """Show the new snapshot."""
        emit_line(self.shown.data(self.sight.now))

    def heard(self, event: Event) -> None:
        """Show a new event."""

    def lost(self) -> None:
        """Show that the supervisor does not answer."""
        note("The supervisor does not answer; waiting for it.")


class Lines(Display):
    """Prints a line for each snapshot and each event, for output that is not a terminal."""

    def __init__(self, sight: Sight, shown: Shown) -> None:
        super().__init__(sight, shown)
        self._console = console()

    def looked(self) -> None:
        """Show the new snapshot."""
        self._console.print(self.shown.line(self.sight))

    def heard(self, event: Event) -> None:
        """Show a new event."""
        from microq.terminal.logs import event_line

        self._console.print(event_line(event))


class Screen(Display):
    """Draws on the whole screen of a terminal. `_display` makes it."""

    def __init__(self, sight: Sight, shown: Shown, live: Any) -> None:
        super().__init__(sight, shown)
        self._live = live

    def looked(self) -> None:
        """Show the new snapshot."""
        size = self._live.console.size
        self._live.update(self.shown.screen(self.sight, size.width, size.height), refresh=True)

    def heard(self, event: Event) -> None:  # noqa: ARG002 - the sight has it already
        """Show a new event at once."""
        self.looked()

    def lost(self) -> None:
        """Show that the supervisor does not answer."""
        self.looked()


@contextmanager
def _display(sight: Sight, shown: Shown, *, as_json: bool) -> Iterator[Display]:
    screen = console()
    if as_json:
        yield Display(sight, shown)
    elif not screen.is_terminal or screen.is_dumb_terminal:
        yield Lines(sight, shown)
    else:
        from rich.live import Live

        first = shown.screen(sight, screen.width, screen.height)
        with Live(first, console=screen, screen=True, auto_refresh=False) as live:
            yield Screen(sight, shown, live)
