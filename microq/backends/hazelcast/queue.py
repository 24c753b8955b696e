"""The queue as a Hazelcast `IQueue` with synchronous backups."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from hazelcast.errors import HazelcastError, IllegalStateError

from microq.allowance import Allowance
from microq.backends.base import EMPTY, Head, Refused
from microq.backends.hazelcast import client as hz
from microq.config import Config
from microq.errors import MessageError, QueueError, QueueFullError, QueueIndeterminateError, QueueUnavailableError
from microq.message import Message

log = logging.getLogger(__name__)


class HazelcastQueue:
    """A `MessageQueue` in one `IQueue`; the whole queue is in one partition."""

    gathers = False

    def __init__(self, cluster: hz.Cluster, queue: Any) -> None:
        self._cluster, self._queue = cluster, queue

    async def put(self, messages: Sequence[Message]) -> None:
        """Append with `offer` or `add_all`; on a full queue the first returns false and the second fails."""
        items = [message.to_json() for message in messages]
        if not items:
            return
        retries = self._cluster.retries
        try:
            accepted = await self._cluster.call(
                self._queue.offer(items[0]) if len(items) == 1 else self._queue.add_all(items)
            )
        except hz.UnavailableError as error:
            raise QueueUnavailableError("no member of the queue's cluster can be reached") from error
        except hz.IndeterminateError as error:
            if _is_full(error.__cause__):
                raise self._full(retries) from error
            raise QueueIndeterminateError(f"the queue did not confirm the message: {error}") from error
        if not accepted:
            raise self._full(retries)

    def _full(self, retries: int) -> QueueError:
        """Return the error of a put that found no room; `retries` is how many the client had made before it."""
        if self._cluster.retries == retries:
            return QueueFullError("the queue is full")
        # Perhaps this put was repeated: its first try may have been carried out, and may have filled the queue.
        return QueueIndeterminateError("the queue is full, and may have the message already")

    async def receive(self, most: int, seconds: float) -> list[Message | Refused]:
        """Wait for the first item with `poll`, then take more with `drain_to`."""
        if not self._cluster.connected:
            raise QueueUnavailableError("no member of the queue's cluster can be reached")
        taken: list[Any] = []
        try:
            # Neither call has a deadline here: a call that is cancelled would lose the items that it took.
            first = await self._queue.poll(seconds)
            if first is None:
                return []
            taken.append(first)
            if most > 1:
                await self._queue.drain_to(taken, most - 1)
        except (HazelcastError, OSError) as error:
            if not taken:
                raise QueueIndeterminateError(f"the queue did not answer: {hz.described(error)}") from error
            log.warning("the queue delivered one message, then did not answer: %s", hz.described(error))
        return [_read(item) for item in taken]

    async def ack(self) -> None:
        """Do nothing: the queue does not keep delivered messages; redelivery compares the log with the store."""

    async def leave(self) -> None:
        """Do nothing: each message goes to the first consumer that asks."""

    async def head(self) -> Head | None:
        """Peek at the next item."""
        item = await self._ask(self._queue.peek())
        if item is None:
            return EMPTY
        message = _read(item)
        return Head(message.at, message.since, message.epoch) if isinstance(message, Message) else None

    async def size(self) -> int:
        """Return the size of the `IQueue`."""
        return int(await self._ask(self._queue.size()))

    async def _ask(self, request: Awaitable[Any]) -> Any:
        try:
            return await self._cluster.call(request)
        except hz.UnavailableError as error:
            raise QueueUnavailableError("no member of the queue's cluster can be reached") from error
        except hz.IndeterminateError as error:
            raise QueueIndeterminateError(str(error)) from error

    async def owner(self) -> str | None:
        """Return the owner of the queue's partition, from the client's partition table."""
        address = await self._cluster.owner(self._queue.name)
        return str(address) if address else None


def _is_full(cause: BaseException | None) -> bool:
    """Return whether `add_all` failed because the queue is full (`AddAllOperation`, 5.7.0)."""
    return isinstance(cause, IllegalStateError) and "Queue full" in str(cause)


def _read(item: Any) -> Message | Refused:
    if isinstance(item, hz.Foreign):
        return Refused(f"an item of type {item.type_id}, not text")
    try:
        return Message.from_json(item)
    except MessageError as error:
        return Refused(str(error), item if isinstance(item, str) else "")


@asynccontextmanager
async def open_queue(
    config: Config,
    name: str,
    bound: Allowance | None = None,  # noqa: ARG001 - for queues that do not enforce `max-size` themselves
) -> AsyncIterator[HazelcastQueue]:
    """Connect and open the configured queue; the members enforce its `max-size`."""
    async with hz.connect(config, name) as cluster:
        yield HazelcastQueue(cluster, await cluster.queue(config.queue.name))


async def put_raw(config: Config, items: Sequence[str]) -> None:
    """Append texts to the queue as they are. Raises as `MessageQueue.put` does, and `DeadlineError`."""
    async with hz.connect(config, "chaos") as cluster:
        queue = await cluster.queue(config.queue.name)
        for item in items:
            try:
                taken = await cluster.call(queue.offer(item))
            except (hz.UnavailableError, hz.IndeterminateError) as error:
                raise QueueIndeterminateError(f"an item could not be planted: {error}") from error
            if not taken:
                raise QueueFullError("the queue is full, nothing can be planted")
