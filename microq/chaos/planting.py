"""Put items straight into the queue, past the facade: what only a fault does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from microq import queues
from microq.config import Config

Planter = Callable[[Config, Sequence[str]], Awaitable[None]]
"""What plants; a test gives another."""


async def plant(config: Config, items: Sequence[str]) -> None:
    """Append texts to the queue as they are. Raises `QueueError` or `DeadlineError`."""
    await queues.put_raw(config, items)
