"""The queue of the nodes, as `MessageQueue` promises it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from support.memory_backend.client import Nodes, connect

from microq.aio import poll_until
from microq.allowance import Allowance
from microq.backends.base import EMPTY, Head, Refused
from microq.config import Config
from microq.errors import MessageError, QueueFullError, QueueUnavailableError
from microq.message import Message

CONNECT_SECONDS = 30.0
"""How long `open_queue` waits for nodes that are still starting."""

PAUSE = 0.05
"""Seconds before nodes that are starting are asked again."""


class MemoryQueue:
    """A `MessageQueue` on one primary, which has a bound."""

    gathers = False

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    async def put(self, messages: Sequence[Message]) -> None:
        """Append; see `MessageQueue.put`."""
        await put(self._nodes, [message.to_json() for message in messages])

    async def receive(self, most: int, seconds: float) -> list[Message | Refused]:
        """Take a batch; see `MessageQueue.receive`."""
        answer = await self._nodes.call("take", wait=seconds, most=most, seconds=seconds)
        return [_read(item) for item in answer["items"]]

    async def ack(self) -> None:
        """Do nothing: the queue has forgotten what it gave, and redelivery looks in the store."""

    async def leave(self) -> None:
        """Do nothing: the first consumer that asks gets the messages."""

    async def head(self) -> Head | None:
        """Look at the next item; see `MessageQueue.head`."""
        item = (await self._nodes.call("peek"))["item"]
        if item is None:
            return EMPTY
        message = _read(item)
        return Head(message.at, message.since, message.epoch) if isinstance(message, Message) else None

    async def size(self) -> int:
        """Return the number of waiting messages; see `MessageQueue.size`."""
        return int((await self._nodes.call("size"))["size"])

    async def owner(self) -> str | None:
        """Return the address of the primary; see `MessageQueue.owner`."""
        return await self._nodes.owner()


async def put(nodes: Nodes, items: Sequence[str]) -> None:
    """Append texts; raises as `MessageQueue.put` does."""
    if items and "full" in await nodes.call("put", items=[*items]):
        raise QueueFullError("the queue is full")


def _read(item: str) -> Message | Refused:
    try:
        return Message.from_json(item)
    except MessageError as error:
        return Refused(str(error), item)


@asynccontextmanager
async def open_queue(
    config: Config,
    name: str,
    bound: Allowance | None = None,
) -> AsyncIterator[MemoryQueue]:
    """Connect and open the queue; raises `QueueUnavailableError` if no primary is there in time."""
    async with connect(config.servers) as nodes:
        if not await poll_until(nodes.ready, PAUSE, CONNECT_SECONDS):
            raise QueueUnavailableError(f"no nodes answered in {CONNECT_SECONDS:g} s")
        yield MemoryQueue(nodes)


async def put_raw(config: Config, items: Sequence[str]) -> None:
    """Put texts into the queue as they are."""
    async with connect(config.servers) as nodes:
        await put(nodes, items)
