"""What happens to the processes, told to everybody who listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from microq.fleet import Event


class News:
    """Passes events on to its listeners until it ends."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[Event | None]] = set()

    def tell(self, event: Event) -> None:
        """Pass an event on."""
        for listener in self._listeners:
            listener.put_nowait(event)

    async def events(self) -> AsyncIterator[Event]:
        """Yield what is told from now on."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            while event := await queue.get():
                yield event
        finally:
            self._listeners.discard(queue)

    def end(self) -> None:
        """End the streams of all listeners."""
        for listener in self._listeners:
            listener.put_nowait(None)
