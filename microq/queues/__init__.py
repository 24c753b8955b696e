"""The backends of the queue. To add one: its module here and its line in `BACKENDS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Any, cast

from microq.config import Config
from microq.queues.base import MessageQueue

BACKENDS = {"hazelcast": "microq.queues.hazelcast", "kafka": "microq.queues.kafka"}
"""Name in the configuration -> module with `open_queue` and `put_raw`; imported only when chosen."""


QueueOpener = Callable[[Config, str], AbstractAsyncContextManager[MessageQueue]]
"""What a service opens its queue with; a test gives it another."""


def open_queue(config: Config, name: str) -> AbstractAsyncContextManager[MessageQueue]:
    """Open the configured queue as the client `name`."""
    return cast("AbstractAsyncContextManager[MessageQueue]", _module(config).open_queue(config, name))


async def put_raw(config: Config, items: Sequence[str]) -> None:
    """Put texts into the configured queue as they are: what a fault plants. Raises as `MessageQueue.put` does."""
    await _module(config).put_raw(config, items)


def _module(config: Config) -> Any:
    return import_module(BACKENDS[config.queue.backend])
