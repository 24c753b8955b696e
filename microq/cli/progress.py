"""What is shown while processes start or stop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Self

from microq.cli.output import console
from microq.fleet import Event, ProcessState, Topic
from microq.views import terminal


class Progress:
    """The states of processes while they start or stop: a live table on a terminal, lines elsewhere."""

    def __init__(self, names: Sequence[str]) -> None:
        self._states = dict.fromkeys(names, (ProcessState.STOPPED, ""))
        self._began = time.monotonic()
        self._screen = console(error=True)
        self._live: Any = None

    def __enter__(self) -> Self:
        if self._screen.is_terminal:
            from rich.live import Live  # noqa: PLC0415 - pipes need none

            self._live = Live(get_renderable=self._picture, console=self._screen, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _picture(self) -> Any:
        return terminal.starting(self._states, self._began)

    def hear(self, event: Event) -> None:
        """Show an event of a process."""
        if event.topic is not Topic.PROCESS:
            return
        self.hear_quietly(event)
        if not self._live:
            self._screen.print(terminal.event(event))

    def hear_quietly(self, event: Event) -> None:
        """Show an event in the live table only."""
        if event.topic is Topic.PROCESS:
            self._states[event.name] = (ProcessState(event.kind), event.detail)

    @property
    def seconds(self) -> float:
        """For how long it has been shown."""
        return time.monotonic() - self._began
