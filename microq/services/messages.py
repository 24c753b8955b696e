"""messages-service: receives from the queue and keeps what it received in its memory."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from microq import tracing
from microq.config import Config, Limits
from microq.errors import MessageError, QueueError
from microq.letters import DeadLetter
from microq.log import flush
from microq.message import Message
from microq.queues import QueueOpener, open_queue
from microq.queues.base import MessageQueue, Refused
from microq.services.app import HEALTH, TRACING, reply
from microq.services.app import make_app as make_service
from microq.services.claims import PAUSE_SECONDS, Claims, persist, say_received
from microq.services.health import Health
from microq.services.held import Held
from microq.services.listing import Part, stream
from microq.store import Store, StoreOpener, open_store
from microq.tracing import Tracing

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
"""How long one receive waits on the server; a stop takes no longer than that."""

ACK_SECONDS = 0.1
"""Least time between two acknowledgements: each is a write on several servers, and says all that was stored before."""

LARGEST_BATCH = 256

GATHER_SECONDS = 0.02
"""Least time between two receives, unless there is more than one can bring: what comes meanwhile is one batch."""

MOST_RAW = 10_000
"""Characters of an item that is no message which a dead letter keeps."""


class Consumer:
    """Moves messages from the queue into memory, each id once in the whole system, and no more than it may hold."""

    held_type = Held

    def __init__(
        self, queue: MessageQueue, store: Store, health: Health, limits: Limits, traces: Tracing = tracing.OFF
    ) -> None:
        self._queue, self._store, self._health, self._limits = queue, store, health, limits
        self._traces, self._taken_at = traces, 0
        self._stopping = False
        self._unacked = False
        self._acked_at = -math.inf
        self._changed = asyncio.Event()
        self.held = self.held_type(health.name)
        self.claims = Claims(store, health, self.held, self._changed.set)

    @property
    def room(self) -> int:
        """How many messages more may be held; after a restart with a lower bound less than none."""
        return self._limits.max_held - len(self.held)

    def stop(self) -> None:
        """Let `run` end after the batch under way."""
        self._stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Receive until stopped.

        Batches start at one message, double while they come full and are as large as what comes else, so that
        consumers share a short queue and empty a long one quickly.
        """
        batch = 1
        while not self._stopping:
            if self.room <= 0:
                await self._wait_for_room()
                continue
            most = min(batch, self.room)
            try:
                items = await self._queue.receive(most, ACK_SECONDS if self._unacked else WAIT_SECONDS)
            except QueueError as error:
                log.warning("the queue is away: %s", error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            received_at = time.monotonic()
            batch = min(batch * 2, LARGEST_BATCH) if len(items) == most else max(1, len(items))
            await self.handle(items)
            if 0 < len(items) < LARGEST_BATCH:
                await asyncio.sleep(received_at + GATHER_SECONDS - time.monotonic())
        await self.ack()

    async def _wait_for_room(self) -> None:
        """Take nothing until messages were given up: what cannot be held stays in the queue, for others or for later.

        When the queue is full as well, the facade accepts no more, so nothing that was accepted is lost.
        """
        await self.ack()
        log.warning(
            "full: %d messages are held, and [limits] max-held is %d; the rest stays in the queue",
            len(self.held),
            self._limits.max_held,
        )
        try:
            await self._queue.leave()
        except QueueError as error:
            log.warning("the queue may keep messages for this instance: %s", error)
        while self.room <= 0 and not self._stopping:
            self._changed.clear()
            await self._changed.wait()
        if not self._stopping:
            log.info("there is room again, for %d messages", self.room)

    async def handle(self, items: Sequence[Message | Refused]) -> None:
        """Store what came out of the queue, and only then, at times, let the queue forget it."""
        if items:
            await self.keep(items)
            self._unacked = True
        if not items or time.monotonic() - self._acked_at >= ACK_SECONDS:
            await self.ack()

    async def ack(self) -> None:
        """Tell the queue that all it gave is stored; if it does not hear that, it gives it again."""
        if not self._unacked:
            return
        try:
            await self._queue.ack()
            self._unacked = False
        except QueueError as error:
            log.warning("the queue may give messages again: %s", error)
        self._acked_at = time.monotonic()

    async def keep(self, items: Sequence[Message | Refused]) -> None:
        """Store what came out of the queue, and give up what is no message.

        The items have left the queue: as long as this process lives, it does not give up on them.
        """
        items = [self._checked(item) for item in items]
        messages = [item for item in items if isinstance(item, Message)]
        if messages:
            self._taken_at = time.time_ns()
            self.claims.under_way = [message.id for message in messages]
            # Before anything else: it is the trace of what a consumer held when it was killed.
            log.info("took %s", json.dumps(self.claims.under_way))
            flush()
            await persist(self.store, messages)
            self.claims.under_way = ()
        for item in items:
            if isinstance(item, Refused):
                await persist(self._store.dead.write, self._give_up(item))

    def _checked(self, item: Message | Refused) -> Message | Refused:
        """Refuse what no facade would have taken: such a message is planted."""
        if isinstance(item, Message) and len(item.text) > self._limits.max_body:
            return Refused(f"longer than {self._limits.max_body} characters", item.text)
        return item

    async def store(self, messages: Sequence[Message]) -> None:
        """Claim messages in the `stored` map, and hold those that are this instance's."""
        began = time.time_ns()
        kept = [entry.message for entry in await self._store.stored.add(messages)]
        for message, claim, new in zip(messages, kept, self._hold(kept), strict=True):
            with (
                self._traces.entry("receive", message.trace, "consumer", self._taken_at) as span,
                tracing.span("store", "client", began),
            ):
                span.set("messaging.message.id", message.id)
                if new:
                    say_received(claim)
                else:
                    log.info("ignored %s, which %s has already", claim.id, claim.by)

    def _hold(self, claims: Sequence[Message]) -> list[bool]:
        """Hold what is this instance's, and return for each whether it is that and new."""
        name = self._health.name
        added = iter(self.held.add([claim for claim in claims if claim.by == name]))
        new = [claim.by == name and next(added) for claim in claims]
        self._health.count("messages_received", sum(new))
        self._health.count("duplicates_ignored", len(new) - sum(new))
        return new

    def _give_up(self, item: Refused) -> DeadLetter:
        self._health.count("items_refused")
        letter = DeadLetter(
            id=f"refused-{uuid.uuid4()}",
            text=item.raw[:MOST_RAW],
            reason=item.reason,
            by=self._health.name,
            at=time.time(),
            replayable=False,
        )
        log.error("an item of the queue is a dead letter now, %s: %s", letter.id, item.reason)
        return letter


CONSUMER = web.AppKey("consumer", Consumer)


def make_app(
    config: Config,
    name: str,
    queue_opener: QueueOpener = open_queue,
    store_opener: StoreOpener = open_store,
    consumer_type: type[Consumer] = Consumer,
) -> web.Application:
    """Return the messages-service called `name`."""
    app = make_service(config, name)

    async def cluster(app: web.Application) -> AsyncIterator[None]:
        health = app[HEALTH]
        async with queue_opener(config, name) as queue, store_opener(config, name) as store:
            consumer = app[CONSUMER] = consumer_type(queue, store, health, config.limits, app[TRACING])
            await consumer.claims.refill()
            health.ready = lambda: store.connected
            health.held = lambda: len(consumer.held)
            health.full = lambda: consumer.room <= 0
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(consumer.run())
                reconciling = tasks.create_task(consumer.claims.reconcile_after_joins())
                yield
                reconciling.cancel()
                consumer.stop()

    app.cleanup_ctx.append(cluster)
    app.router.add_get("/messages", _list)
    app.router.add_get("/arrivals", _arrivals)
    return app


async def _list(request: web.Request) -> web.StreamResponse:
    part = Part.of(request)
    return await stream(request, part, _pages(request.app[CONSUMER].held, part))


async def _pages(held: Held, part: Part) -> AsyncIterator[Sequence[Message]]:
    for page in held.pages(part.after, part.limit):
        yield tuple(page.values())


async def _arrivals(request: web.Request) -> web.Response:
    place = request.query.get("after", "0")
    if not (place.isascii() and place.isdigit()):
        raise MessageError('"after" must be a whole number')
    return reply(request.app[CONSUMER].held.arrivals(request.query.get("epoch", ""), int(place)))
