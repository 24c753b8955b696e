"""How `status` and `queue` show a system: once, or repeatedly until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from microq.aio import task_group
from microq.caveats import caveats
from microq.cli.output import console, emit, emit_line, note
from microq.config import Config
from microq.errors import DeadlineError, NotRunningError
from microq.fleet import Event, Snapshot
from microq.supervisor import control, records
from microq.terminal.logs import event_line
from microq.terminal.screen import Sight

LOOK_SECONDS = 1.0
"""Seconds between two snapshots while no event comes."""

ANSWER_SECONDS = 5.0
"""Seconds for a supervisor to send a snapshot; after that it counts as lost."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The forms of a view: on a screen, as a line, once, and as data."""

    screen: Callable[[Sight, int, int], Any]
    line: Callable[[Sight], Any]
    picture: Callable[[Snapshot], Any]
    data: Callable[[Snapshot], dict[str, Any]]


def everything(view: Snapshot) -> dict[str, Any]:
    """Return the whole snapshot as data."""
    return {**view.to_json(), "cues": caveats(view, {})}


def of_the_queue(view: Snapshot) -> dict[str, Any]:
    """Return the queue of a snapshot as data."""
    found = view.to_json()
    return {key: found[key] for key in ("queue", "members", "brokers", "partitions", "taken_at")}


async def show(config: Config, shown: Shown, *, watch: bool, as_json: bool) -> None:
    """Show the running system; raises `NotRunningError` if none runs at the beginning."""
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
    something = asyncio.Event()

    async with control.connect(config) as operator, task_group() as tasks:

        async def listen() -> None:
            async for event in operator.events():
                sight.hear(event)
                display.heard(event)
                something.set()

        listening = tasks.create_task(listen())
        try:
            while not listening.done():
                something.clear()
                async with asyncio.timeout(ANSWER_SECONDS):
                    view = await operator.snapshot()
                sight.look(view)
                display.looked()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await something.wait()
        finally:
            listening.cancel()


class Display:
    """Shows a watched system; this class as data, one JSON object for each snapshot."""

    def __init__(self, sight: Sight, shown: Shown) -> None:
        self.sight, self.shown = sight, shown

    def looked(self) -> None:
        """Show a new look."""
        emit_line(self.shown.data(self.sight.now))

    def heard(self, event: Event) -> None:
        """Show what happened."""

    def lost(self) -> None:
        """Show that the supervisor does not answer."""
        note("The supervisor does not answer; waiting for it.")


class Lines(Display):
    """Prints a line for each snapshot and each event, for output that is not a terminal."""

    def __init__(self, sight: Sight, shown: Shown) -> None:
        super().__init__(sight, shown)
        self._console = console()

    def looked(self) -> None:
        """Show a new look."""
        self._console.print(self.shown.line(self.sight))

    def heard(self, event: Event) -> None:
        """Show what happened."""
        self._console.print(event_line(event))


class Screen(Display):
    """Draws on the whole screen of a terminal. `_display` makes it."""

    def __init__(self, sight: Sight, shown: Shown, live: Any) -> None:
        super().__init__(sight, shown)
        self._live = live

    def looked(self) -> None:
        """Show a new look."""
        size = self._live.console.size
        self._live.update(self.shown.screen(self.sight, size.width, size.height), refresh=True)

    def heard(self, event: Event) -> None:  # noqa: ARG002 - the sight has it already
        """Show what happened, at once."""
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
