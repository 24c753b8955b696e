"""Put items straight into the queue, past the facade: what only a fault does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from microq import hz
from microq.config import Config
from microq.errors import NotRunningError, QueueFullError

Planter = Callable[[Config, Sequence[str]], Awaitable[None]]
"""What plants; a test gives another."""


async def plant(config: Config, items: Sequence[str]) -> None:
    """Append texts to the queue as they are. Raises `QueueFullError`, `NotRunningError` or `DeadlineError`."""
    async with hz.connect(config, "chaos") as cluster:
        queue = await cluster.queue(config.queue.name)
        for item in items:
            try:
                taken = await cluster.call(queue.offer(item))
            except (hz.AwayError, hz.UncertainError) as error:
                raise NotRunningError(f"an item could not be planted: {error}") from error
            if not taken:
                raise QueueFullError("the queue is full, nothing can be planted")
