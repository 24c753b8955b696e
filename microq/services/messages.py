"""messages-service: receives from the queue and keeps what it received in its memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from microq.config import Config
from microq.errors import QueueError, StoreError
from microq.log import quoted
from microq.message import Message
from microq.queues import QueueOpener, open_queue
from microq.queues.base import MessageQueue, Refused
from microq.services.app import HEALTH, Health, listing
from microq.services.app import make_app as make_service
from microq.store import STORED_MAP, MapOpener, MessageMap, open_map

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
"""How long one receive waits on the server; a stop takes no longer than that."""

LARGEST_BATCH = 256

PAUSE_SECONDS = 0.2
"""Pause after the cluster did not answer."""


class Consumer:
    """Moves messages from the queue into memory, each id once in the whole system."""

    def __init__(self, queue: MessageQueue, stored: MessageMap, health: Health) -> None:
        self._queue, self._stored, self._health = queue, stored, health
        self._stopping = False
        self.held: dict[str, Message] = {}

    async def refill(self) -> None:
        """Take back into memory what this instance stored before it was stopped."""
        self.held = {m.id: m for m in await self._stored.all() if m.by == self._health.name}
        if self.held:
            log.info("took %d messages back into memory", len(self.held))

    def stop(self) -> None:
        """Let `run` end after the batch under way."""
        self._stopping = True

    async def run(self) -> None:
        """Receive until stopped.

        Batches start at one message and double while they come full, so that consumers share a short queue and
        empty a long one quickly.
        """
        batch = 1
        while not self._stopping:
            try:
                items = await self._queue.receive(batch, WAIT_SECONDS)
            except QueueError as error:
                log.warning("the queue is away: %s", error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            batch = min(batch * 2, LARGEST_BATCH) if len(items) == batch else 1
            await self._keep(items)

    async def _keep(self, items: Sequence[Message | Refused]) -> None:
        for item in items:
            if isinstance(item, Refused):
                self._health.count("items_refused")
                log.error("dropped an item of the queue: %s", item.reason)
        messages = [item for item in items if isinstance(item, Message)]
        while messages:
            try:
                kept = await self._stored.add(messages)
            except StoreError as error:
                # They have left the queue: as long as this process lives, it does not give up on them.
                log.warning("could not store %d messages, trying again: %s", len(messages), error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            for entry in kept:
                self._hold(entry.message)
            return

    def _hold(self, message: Message) -> None:
        if message.by != self._health.name or message.id in self.held:
            self._health.count("duplicates_ignored")
            log.info("ignored %s, which %s has already", message.id, message.by)
            return
        self.held[message.id] = message
        self._health.count("messages_received")
        log.info("received %s %s", message.id, quoted(message.text))


CONSUMER = web.AppKey("consumer", Consumer)


def make_app(
    config: Config, name: str, queue_opener: QueueOpener = open_queue, map_opener: MapOpener = open_map
) -> web.Application:
    """Return the messages-service called `name`."""
    app = make_service(config, name)

    async def cluster(app: web.Application) -> AsyncIterator[None]:
        health = app[HEALTH]
        async with queue_opener(config, name) as queue, map_opener(config, name, STORED_MAP) as stored:
            consumer = app[CONSUMER] = Consumer(queue, stored, health)
            await consumer.refill()
            health.ready = lambda: stored.connected
            health.held = lambda: len(consumer.held)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(consumer.run())
                yield
                consumer.stop()

    app.cleanup_ctx.append(cluster)
    app.router.add_get("/messages", _list)
    return app


async def _list(request: web.Request) -> web.Response:
    return listing(request, list(request.app[CONSUMER].held.values()))
