"""messages-service: receives messages from the queue, stores them, and shows them from its memory."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aiohttp import web

from microq import tracing
from microq.aio import poll_until, running
from microq.backends import QueueOpener, open_queue
from microq.backends.base import MessageQueue, Refused
from microq.client import listens, open_session
from microq.config import Address, Config, Limits
from microq.errors import MessageError, QueueError
from microq.log import Foreign, Ignored, Took, flush
from microq.message import DeadLetter, Message
from microq.services.app import BESIDE, HEALTH, TRACING, reply
from microq.services.app import make_app as make_service
from microq.services.health import Health
from microq.services.inbox import Inbox
from microq.services.paging import LIST, PARAMETERS, Part, stream
from microq.services.room import Guard
from microq.services.routes import TEXT, Parameter, Route, add, as_json, listed, record
from microq.services.takeover import PAUSE_SECONDS, Claims, Tenancy, say_received, until_answered
from microq.store import Store, StoreOpener, open_store
from microq.tracing import Tracing

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
"""Seconds that one receive waits on the server; a stop takes no longer."""

ACK_SECONDS = 0.1
"""Minimum seconds between two acknowledgements: each is a write on several servers, and covers all earlier messages."""

LARGEST_BATCH = 256

BESIDE_SECONDS = 5.0
"""Seconds that a consumer waits for others that start together with it, before it takes waiting messages alone."""

_LOOK = 0.02
"""Seconds between two checks whether they listen."""

GATHER_SECONDS = 0.02
"""Minimum seconds between two receives unless a batch was full: messages that arrive meanwhile form one batch."""

MOST_RAW = 10_000
"""Characters that a dead letter keeps of an item that is not a message."""


class Consumer:
    """Moves messages from the queue into memory, each id once in the whole system, up to its bounds."""

    inbox_type = Inbox

    def __init__(
        self,
        queue: MessageQueue,
        store: Store,
        health: Health,
        limits: Limits,
        guard: Guard,
        traces: Tracing = tracing.OFF,
    ) -> None:
        self._guard = guard
        self._queue, self._store, self._health, self._limits = queue, store, health, limits
        self._clock = health.clock
        self._traces, self._taken_at = traces, 0
        self._stopping = False
        self._unacked = False
        self._acked_at = -math.inf
        self._changed = asyncio.Event()
        self.held = self.inbox_type(health.name)
        self.claims = Claims(store, health, self.held, self._changed.set)

    @property
    def room(self) -> int:
        """How many more messages it may hold; negative after a restart with a lower bound."""
        return self._limits.max_held - len(self.held)

    @property
    def full(self) -> bool:
        """Whether no more messages may be held, or written into the members' memory."""
        return self.room <= 0 or self._guard.full

    def look_again(self) -> None:
        """Check again whether there is room."""
        self._changed.set()

    async def run_beside(self, others: Sequence[Address]) -> None:
        """Receive until stopped, after all others listen: the first consumer would take all waiting messages."""

        async def all_listen() -> bool:
            return self._stopping or all([await listens(other) for other in others])

        await poll_until(all_listen, _LOOK, BESIDE_SECONDS)
        await self.run()

    def stop(self) -> None:
        """Make `run` end after the current batch."""
        self._stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Receive until stopped.

        Batches start at one message. A full batch doubles the size, another one sets it to the number that came: so
        consumers share a short queue and empty a long one quickly. Batches of large messages have fewer of them.
        """
        batch = 1
        while not self._stopping:
            if self.full:
                await self._wait_for_room()
                continue
            if self._guard.left <= 0:
                await self._next_look()
                continue
            most = min(batch, self.room, self._guard.batch)
            try:
                items = await self._queue.receive(most, ACK_SECONDS if self._unacked else WAIT_SECONDS)
            except QueueError as error:
                log.warning("the queue is unavailable: %s", error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            received_at = self._clock.monotonic()
            batch = min(batch * 2, LARGEST_BATCH) if len(items) == most else max(1, len(items))
            self._guard.write([each for each in items if isinstance(each, Message)])
            await self.handle(items)
            if 0 < len(items) < LARGEST_BATCH:
                await asyncio.sleep(received_at + GATHER_SECONDS - self._clock.monotonic())
        await self.ack()

    async def _next_look(self) -> None:
        """Wait until the members have reported their memory again."""
        self._changed.clear()
        if not self._stopping:
            await self._changed.wait()

    async def _wait_for_room(self) -> None:
        """Receive nothing while there is no room: the messages stay in the queue, for others or for later.

        If the queue is full too, the facade accepts no more, so no accepted message is lost.
        """
        await self.ack()
        if self.room <= 0:
            why = f"[limits] max-held is {self._limits.max_held}"
        else:
            why = "the members' memory, [hazelcast] heap, has no room for more"
        log.warning("full: %d messages are held, and %s; other messages stay in the queue", len(self.held), why)
        try:
            await self._queue.leave()
        except QueueError as error:
            log.warning("the queue may reserve messages for this instance: %s", error)
        while self.full and not self._stopping:
            self._changed.clear()
            await self._changed.wait()
        if not self._stopping:
            log.info("there is room again, for %d messages", self.room)

    async def handle(self, items: Sequence[Message | Refused]) -> None:
        """Store items from the queue, and only then, from time to time, acknowledge them to the queue."""
        if items:
            await self.keep(self.note(items))
            self._unacked = True
        if not items or self._clock.monotonic() - self._acked_at >= ACK_SECONDS:
            await self.ack()

    async def ack(self) -> None:
        """Acknowledge all received items to the queue; without that, it may deliver them again."""
        if not self._unacked:
            return
        try:
            await self._queue.ack()
            self._unacked = False
        except QueueError as error:
            log.warning("the queue may deliver messages again: %s", error)
        self._acked_at = self._clock.monotonic()

    def note(self, items: Sequence[Message | Refused]) -> list[Message | Refused]:
        """Log the ids of items from the queue before anything else: the log of a killed consumer shows what it took.

        Return the items, with those refused that no facade would have accepted.
        """
        items = [self._checked(item) for item in items]
        if ids := [item.id for item in items if isinstance(item, Message)]:
            self._taken_at = time.time_ns()
            self.claims.in_progress = ids
            log.info(Took.of(ids))
            flush()
        return items

    async def keep(self, items: Sequence[Message | Refused]) -> None:
        """Store the messages among noted items, and make dead letters of the others.

        The items have left the queue: this process retries until they are stored.
        """
        messages = [item for item in items if isinstance(item, Message)]
        if messages:
            await until_answered(self.store, messages)
            self.claims.in_progress = ()
        for item in items:
            if isinstance(item, Refused):
                await until_answered(self._store.dead.write, self._dead_letter_of(item))

    def _checked(self, item: Message | Refused) -> Message | Refused:
        """Refuse a message that no facade would have accepted: another program put it there."""
        if isinstance(item, Message) and len(item.text) > self._limits.max_body:
            return Refused(f"longer than {self._limits.max_body} characters", item.text)
        return item

    async def store(self, messages: Sequence[Message]) -> None:
        """Claim messages in the `stored` map, and hold those whose claims belong to this instance."""
        began = time.time_ns()
        stored = await self._store.stored.add(messages)
        kept = [_received(entry.message, message) for entry, message in zip(stored, messages, strict=True)]
        for message, claim, new in zip(messages, kept, self._hold(kept), strict=True):
            with (
                self._traces.entry("receive", message.trace, "consumer", self._taken_at) as span,
                tracing.span("store", "client", began),
            ):
                span.set("messaging.message.id", message.id)
                if new:
                    say_received(claim)
                else:
                    log.info(Ignored(claim.id, claim.by))

    def _hold(self, claims: Sequence[Message]) -> list[bool]:
        """Hold the messages whose claims belong to this instance; return for each claim whether it does and is new."""
        name = self._health.name
        added = iter(self.held.add([claim for claim in claims if claim.by == name]))
        new = [claim.by == name and next(added) for claim in claims]
        self._health.count("messages_received", sum(new))
        self._health.count("duplicates_ignored", len(new) - sum(new))
        return new

    def _dead_letter_of(self, item: Refused) -> DeadLetter:
        self._health.count("items_refused")
        letter = DeadLetter(
            id=f"refused-{uuid.uuid4()}",
            text=item.raw[:MOST_RAW],
            reason=item.reason,
            by=self._health.name,
            at=self._clock.wall(),
            replayable=False,
        )
        log.error(Foreign(letter.id, item.reason))
        return letter


def _received(claim: Message, message: Message) -> Message:
    """Return the claim of a message with the message's partition, which is only known from the queue."""
    return claim if message.partition is None else replace(claim, partition=message.partition)


CONSUMER = web.AppKey("consumer", Consumer)

TENANCY = web.AppKey("tenancy", Tenancy)


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
        beside: tuple[Address, ...] = app.get(BESIDE, ())
        async with queue_opener(config, name) as queue, store_opener(config, name) as store:
            guard = Guard(config)
            consumer = app[CONSUMER] = consumer_type(queue, store, health, config.limits, guard, app[TRACING])
            guard.on_look = consumer.look_again
            tenancy = Tenancy(config, store, health, consumer.held, consumer.claims, lambda: consumer.room)
            app[TENANCY] = tenancy
            await load(consumer, tenancy)
            health.ready = lambda: store.connected
            health.held = lambda: len(consumer.held)
            health.full = lambda: consumer.full
            health.merging = lambda: consumer.claims.merges.in_doubt and len(consumer.held) > 0
            async with open_session() as session:
                await guard.look(session)
                async with at_work(consumer, tenancy, beside), running(guard.watch(session)):
                    yield

    app.cleanup_ctx.append(cluster)
    add(app, *_ROUTES)
    return app


async def load(consumer: Consumer, tenancy: Tenancy) -> None:
    """Take the lease of this instance, and load the messages that it stored before."""
    await tenancy.begin()
    async with running(tenancy.renew()):
        await consumer.claims.refill()


@asynccontextmanager
async def at_work(consumer: Consumer, tenancy: Tenancy, beside: Sequence[Address] = ()) -> AsyncIterator[None]:
    """Receive messages and keep the lease while the body runs; then finish the current batch and end the lease."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run_beside(beside))
        async with running(tenancy.keep(), tenancy.take_over(), consumer.claims.reconcile_after_joins()):
            yield
        consumer.stop()
    await tenancy.end()


async def _list(request: web.Request) -> web.StreamResponse:
    part = Part.of(request)
    await request.app[TENANCY].confirm()
    return await stream(request, part, _pages(request.app[CONSUMER].held, part, request.app[TENANCY]))


async def _pages(held: Inbox, part: Part, tenancy: Tenancy) -> AsyncIterator[Sequence[Message]]:
    for page in held.pages(part.after, part.limit):
        tenancy.check()  # this process may have been paused since the last page
        yield tuple(page.values())


async def _arrivals(request: web.Request) -> web.Response:
    place = request.query.get("after", "0")
    if not (place.isascii() and place.isdigit()):
        raise MessageError('"after" must be a whole number')
    return reply(arrivals(request.app[CONSUMER], request.query.get("epoch", ""), int(place)))


def arrivals(consumer: Consumer, epoch: str, place: int) -> dict[str, Any]:
    """Return what arrived since a place of an epoch, and the ids that the consumer is storing now."""
    arrived = consumer.held.arrivals(epoch, place)
    # Read after the arrivals: an id in neither list is certainly not here.
    return {**arrived, "taken": list(consumer.claims.in_progress)}


_ROUTES = (
    Route(
        "GET",
        "/messages",
        _list,
        "The texts that this instance received, in order of arrival.",
        as_json(LIST, ["hello"]),
        PARAMETERS,
        example="curl 'URL/messages?full=true'",
    ),
    Route(
        "GET",
        "/arrivals",
        _arrivals,
        "The ids that were stored since a place of the epoch, which is the life of a process.",
        as_json(
            record(
                {
                    "epoch": TEXT,
                    "next": {"type": "integer"},
                    "ids": listed(TEXT),
                    "more": {"type": "boolean"},
                    "taken": listed(TEXT),
                },
                taken=listed(TEXT),
            )
        ),
        [
            Parameter("epoch", "query", "The epoch; without one there are no ids.", TEXT),
            Parameter("after", "query", "The place.", {"type": "integer", "minimum": 0}),
        ],
    ),
)
