"""The backends of the queue. To add one: its module here and its line in `BACKENDS`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import cast

from microq.config import Config
from microq.queues.base import MessageQueue

BACKENDS = {"hazelcast": "microq.queues.hazelcast"}
"""Name in the configuration -> module with `open_queue`; imported only when chosen."""


QueueOpener = Callable[[Config, str], AbstractAsyncContextManager[MessageQueue]]
"""What a service opens its queue with; a test gives it another."""


def open_queue(config: Config, name: str) -> AbstractAsyncContextManager[MessageQueue]:
    """Open the configured queue as the client `name`."""
    module = import_module(BACKENDS[config.queue.backend])
    return cast("AbstractAsyncContextManager[MessageQueue]", module.open_queue(config, name))
