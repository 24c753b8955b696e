"""Those who watch: each gets what is told from now on, and one that is too slow is let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

Told = tuple[str, Any]
"""What is told: the name of the server-sent event, and what it says."""

WAITING = 200
"""Told things that may wait for one watcher; who has more to fetch is gone, or begins anew."""


class Watchers:
    """Passes what is told to everybody who watches; `arrived` is called when one more does."""

    def __init__(self, arrived: Callable[[], None] = lambda: None) -> None:
        self._arrived = arrived
        self._queues: set[asyncio.Queue[Told | None]] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._queues)

    def tell(self, name: str, body: Any) -> None:
        """Tell everybody."""
        for queue in list(self._queues):
            if queue.qsize() < WAITING:
                queue.put_nowait((name, body))
            else:
                self._queues.discard(queue)
                queue.put_nowait(None)

    async def watch(self) -> AsyncIterator[Told]:
        """Yield what is told from now on, until the end."""
        queue: asyncio.Queue[Told | None] = asyncio.Queue()
        if self._ended:
            return
        self._queues.add(queue)
        self._arrived()
        try:
            while told := await queue.get():
                yield told
        finally:
            self._queues.discard(queue)

    def end(self) -> None:
        """Let everybody go."""
        self._ended = True
        for queue in self._queues:
            queue.put_nowait(None)
