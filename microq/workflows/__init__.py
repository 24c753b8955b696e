"""The functions behind commands and page: start, end, run a trial, send, check the machine, open a finished run.

A workflow takes a configuration and returns its result. It prints nothing: it passes notes for people to a `Terminal`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from microq.fleet import Event

if TYPE_CHECKING:  # for a type only
    from microq.backends.jars import Progress as Downloads


class Starting(AbstractContextManager["Starting"], Protocol):
    """Shows processes while they start or stop; as a context it may draw on a screen."""

    def hear(self, event: Event) -> None:
        """Show an event of one of them, also before the context is entered and after it is left."""
        ...


class Terminal(Protocol):
    """Shows people the progress of a workflow."""

    def note(self, text: str) -> None:
        """Show a line."""
        ...

    def downloads(self) -> AbstractContextManager[Downloads]:
        """Show the progress of downloads."""
        ...

    def starting(self, names: Sequence[str], *, lines: bool) -> Starting:
        """Show these processes; without `lines` only on a screen."""
        ...
