"""The herald: it tells whoever watches the system what a scenario does, while it does it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from microq.chaos.faults.base import Say
from microq.chaos.history import Entry, Kind
from microq.errors import MicroqError
from microq.fleet import Event, Operator, Topic
from microq.tasks import task_group

TOLD: frozenset[Kind] = frozenset({"begin", "copies", "fault", "struck", "step", "drained", "doubt", "end"})
"""What of a history is told: what happens to the system, not what becomes of each message."""

SECONDS = 5.0
"""How long the last words may take; the watchers are not worth more waiting."""


class Herald:
    """Passes on what the scenario `name` does. Made by `heralding`."""

    def __init__(self, operator: Operator, name: str) -> None:
        self._operator, self._name = operator, name
        self._words: asyncio.Queue[Event | None] = asyncio.Queue()
        self._judged = False

    def note(self, entry: Entry) -> None:
        """Tell what is noted in the history, if it is not about a single message."""
        if entry.kind in TOLD:
            self._tell(entry.kind, entry.wall, facts=entry.facts)

    def also(self, say: Say) -> Say:
        """Return who says a line to people here, and to those who watch."""

        def both(text: str) -> None:
            say(text)
            self._tell("says", time.time(), text.strip())

        return both

    def verdict(self, facts: dict[str, Any]) -> None:
        """Tell how it ended."""
        self._judged = True
        self._tell("verdict", time.time(), facts=facts)

    def _tell(self, kind: str, at: float, detail: str = "", facts: dict[str, Any] | None = None) -> None:
        self._words.put_nowait(Event(at, self._name, kind, detail, Topic.SCENARIO, facts or {}))

    def end(self) -> None:
        """Let `run` end when all is told."""
        if not self._judged:
            self._tell("failed", time.time(), "it ended without a verdict")
        self._words.put_nowait(None)

    async def run(self) -> None:
        """Pass on, in order; a system that is gone hears nothing."""
        with suppress(MicroqError):
            while event := await self._words.get():
                await self._operator.announce(event)


@asynccontextmanager
async def heralding(operator: Operator, name: str, seconds: float = SECONDS) -> AsyncIterator[Herald]:
    """Yield a herald of the scenario `name`; when the body is through, its last words are told, in time."""
    herald = Herald(operator, name)
    async with task_group() as tasks:
        telling = tasks.create_task(herald.run())
        try:
            yield herald
        finally:
            herald.end()
            await asyncio.wait([telling], timeout=seconds)
            telling.cancel()
