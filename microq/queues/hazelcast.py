"""The queue as a Hazelcast IQueue with synchronous backups."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from hazelcast.errors import HazelcastError, IllegalStateError

from microq import hz
from microq.config import Config
from microq.errors import MessageError, QueueAwayError, QueueFullError, QueueUncertainError
from microq.message import Message
from microq.queues.base import Refused

log = logging.getLogger(__name__)


class HazelcastQueue:
    """A `MessageQueue` over one IQueue; the whole queue lives in one partition."""

    gathers = False

    def __init__(self, cluster: hz.Cluster, queue: Any) -> None:
        self._cluster, self._queue = cluster, queue

    async def put(self, messages: Sequence[Message]) -> None:
        """Append; see `MessageQueue.put`. `offer` and `add_all` answer false, or fail, on a full queue."""
        items = [message.to_json() for message in messages]
        if not items:
            return
        try:
            accepted = await self._cluster.call(
                self._queue.offer(items[0]) if len(items) == 1 else self._queue.add_all(items)
            )
        except hz.AwayError as error:
            raise QueueAwayError("no member of the queue's cluster can be reached") from error
        except hz.UncertainError as error:
            if _is_full(error.__cause__):
                raise QueueFullError("the queue is full") from error
            raise QueueUncertainError(f"the queue did not confirm the message: {error}") from error
        if not accepted:
            raise QueueFullError("the queue is full")

    async def receive(self, most: int, seconds: float) -> list[Message | Refused]:
        """Take a batch; see `MessageQueue.receive`."""
        if not self._cluster.connected:
            raise QueueAwayError("no member of the queue's cluster can be reached")
        taken: list[Any] = []
        try:
            # Neither call has a deadline here: given up, it would eat what it took.
            first = await self._queue.poll(seconds)
            if first is None:
                return []
            taken.append(first)
            if most > 1:
                await self._queue.drain_to(taken, most - 1)
        except (HazelcastError, OSError) as error:
            if not taken:
                raise QueueUncertainError(f"the queue did not answer: {hz.told(error)}") from error
            log.warning("the queue gave one message, then did not answer: %s", hz.told(error))
        return [_read(item) for item in taken]

    async def ack(self) -> None:
        """Do nothing: the queue has forgotten what it gave, and redelivery looks in the store."""

    async def leave(self) -> None:
        """Do nothing: whoever asks first gets what waits."""

    async def waiting_since(self) -> float | None:
        """Look at the next item; see `MessageQueue.waiting_since`."""
        item = await self._ask(self._queue.peek())
        if item is None:
            return math.inf
        message = _read(item)
        return message.at if isinstance(message, Message) else None

    async def size(self) -> int:
        """Return the number of waiting messages; see `MessageQueue.size`."""
        return int(await self._ask(self._queue.size()))

    async def _ask(self, request: Awaitable[Any]) -> Any:
        try:
            return await self._cluster.call(request)
        except hz.AwayError as error:
            raise QueueAwayError("no member of the queue's cluster can be reached") from error
        except hz.UncertainError as error:
            raise QueueUncertainError(str(error)) from error

    async def owner(self) -> str | None:
        """Return the address of the queue's primary owner, from the client's partition table."""
        address = await self._cluster.owner(self._queue.name)
        return str(address) if address else None


def _is_full(cause: BaseException | None) -> bool:
    """Return whether `add_all` was refused: where `offer` answers false, it fails (`AddAllOperation`, 5.7.0)."""
    return isinstance(cause, IllegalStateError) and "Queue full" in str(cause)


def _read(item: Any) -> Message | Refused:
    if isinstance(item, hz.Foreign):
        return Refused(f"an item of type {item.type_id}, not text")
    try:
        return Message.from_json(item)
    except MessageError as error:
        return Refused(str(error), item if isinstance(item, str) else "")


@asynccontextmanager
async def open_queue(config: Config, name: str) -> AsyncIterator[HazelcastQueue]:
    """Connect and open the configured queue."""
    async with hz.connect(config, name) as cluster:
        yield HazelcastQueue(cluster, await cluster.queue(config.queue.name))


async def put_raw(config: Config, items: Sequence[str]) -> None:
    """Append texts to the queue as they are. Raises as `MessageQueue.put` does, and `DeadlineError`."""
    async with hz.connect(config, "chaos") as cluster:
        queue = await cluster.queue(config.queue.name)
        for item in items:
            try:
                taken = await cluster.call(queue.offer(item))
            except (hz.AwayError, hz.UncertainError) as error:
                raise QueueUncertainError(f"an item could not be planted: {error}") from error
            if not taken:
                raise QueueFullError("the queue is full, nothing can be planted")
