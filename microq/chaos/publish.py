"""Publish the events of a scenario while it runs, to all watchers of the system."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from microq.aio import task_group
from microq.chaos.faults.base import Say
from microq.chaos.history import Entry, Kind
from microq.errors import MicroqError
from microq.fleet import Event, Operator, Topic

PUBLISHED: frozenset[Kind] = frozenset({"begin", "copies", "fault", "struck", "step", "drained", "doubt", "end"})
"""The published events of a history: those about the system, not those about single messages."""

SECONDS = 5.0
"""Seconds that publishing the last events may take."""


class Publisher:
    """Publishes the events of the scenario `name`. `publishing` makes it."""

    def __init__(self, operator: Operator, name: str) -> None:
        self._operator, self._name = operator, name
        self._words: asyncio.Queue[Event | None] = asyncio.Queue()
        self._judged = False

    def note(self, entry: Entry) -> None:
        """Publish an event of the history, unless it is about a single message."""
        if entry.kind in PUBLISHED:
            self._tell(entry.kind, entry.wall, facts=entry.facts)

    def also(self, say: Say) -> Say:
        """Return a function that passes a line to `say` and publishes it."""

        def both(text: str) -> None:
            say(text)
            self._tell("says", time.time(), text.strip())

        return both

    def verdict(self, facts: dict[str, Any]) -> None:
        """Publish the verdict."""
        self._judged = True
        self._tell("verdict", time.time(), facts=facts)

    def _tell(self, kind: str, at: float, detail: str = "", facts: dict[str, Any] | None = None) -> None:
        self._words.put_nowait(Event(at, self._name, kind, detail, Topic.SCENARIO, facts or {}))

    def end(self) -> None:
        """Make `run` end when everything is published."""
        if not self._judged:
            self._tell("failed", time.time(), "it ended without a verdict")
        self._words.put_nowait(None)

    async def run(self) -> None:
        """Publish the events in order; if the system is gone, drop them."""
        with suppress(MicroqError):
            while event := await self._words.get():
                await self._operator.announce(event)


@asynccontextmanager
async def publishing(operator: Operator, name: str, seconds: float = SECONDS) -> AsyncIterator[Publisher]:
    """Yield a publisher of the scenario `name`; after the body, its last events are published, within a deadline."""
    publisher = Publisher(operator, name)
    async with task_group() as tasks:
        telling = tasks.create_task(publisher.run())
        try:
            yield publisher
        finally:
            publisher.end()
            await asyncio.wait([telling], timeout=seconds)
            telling.cancel()
