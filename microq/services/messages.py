"""messages-service: receives from the queue and keeps what it received in its memory."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import ParamSpec, TypeVar

from aiohttp import web

from microq import tracing
from microq.config import Config
from microq.errors import MessageError, QueueError, StoreError
from microq.letters import DeadLetter
from microq.log import flush, quoted
from microq.message import Message
from microq.queues import QueueOpener, open_queue
from microq.queues.base import MessageQueue, Refused
from microq.services.app import HEALTH, TRACING, reply
from microq.services.app import make_app as make_service
from microq.services.arrivals import Arrivals
from microq.services.health import Health
from microq.services.listing import Part, at_once, stream
from microq.store import Store, StoreOpener, open_store
from microq.tracing import Tracing

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

WAIT_SECONDS = 0.5
"""How long one receive waits on the server; a stop takes no longer than that."""

ACK_SECONDS = 0.1
"""Least time between two acknowledgements: each is a write on several servers, and says all that was stored before."""

LARGEST_BATCH = 256

GATHER_SECONDS = 0.02
"""Least time between two receives, unless there is more than one can bring: what comes meanwhile is one batch."""

PAUSE_SECONDS = 0.2
"""Pause after the cluster did not answer."""

MOST_RAW = 10_000
"""Characters of an item that is no message which a dead letter keeps."""


class Consumer:
    """Moves messages from the queue into memory, each id once in the whole system."""

    settle_seconds = 3.0
    """How long no member must have come or gone until it is looked whose the messages are: merges come after joins."""

    def __init__(
        self, queue: MessageQueue, store: Store, health: Health, longest: int, traces: Tracing = tracing.OFF
    ) -> None:
        self._queue, self._store, self._health, self._longest = queue, store, health, longest
        self._traces, self._taken_at = traces, 0
        self._stopping = False
        self._unacked = False
        self._acked_at = -math.inf
        self.held: dict[str, Message] = {}
        self.arrivals = Arrivals()

    async def refill(self) -> None:
        """Take back into memory what this instance stored before it was stopped; waits for a cluster that answers."""
        stored = await _persist(self._store.stored.all)
        self.held = {m.id: m for m in stored if m.by == self._health.name}
        if self.held:
            log.info("took %d messages back into memory", len(self.held))

    async def reconcile_after_joins(self) -> None:
        """Reconcile each time after members joined, until cancelled."""
        while True:
            await self._store.joined.wait()
            while self._store.joined.is_set():
                self._store.joined.clear()
                await asyncio.sleep(self.settle_seconds)
            held = list(self.held.values())
            for begin in range(0, len(held), LARGEST_BATCH):
                await _persist(self._reconcile, held[begin : begin + LARGEST_BATCH])

    async def _reconcile(self, messages: Sequence[Message]) -> None:
        """Show only what the cluster says is this instance's, and give it back what it lost of the rest.

        While a cluster is split each half may give the same message away; when they merge one claim remains. What one
        half wrote just before may be lost altogether.
        """
        ids = [message.id for message in messages]
        claims, logged = await asyncio.gather(self._store.stored.some(ids), self._store.log.some(ids))
        unclaimed = [message for message in messages if message.id not in claims]
        claims |= {kept.message.id: kept.message for kept in await self._store.stored.add(unclaimed)}
        unlogged = [message for message in messages if message.id not in logged]
        await self._store.log.add(unlogged)
        if unclaimed or unlogged:
            log.warning("gave %d claims and %d log entries back to the cluster", len(unclaimed), len(unlogged))
        for message_id, claim in claims.items():
            if claim.by != self._health.name and message_id in self.held:
                del self.held[message_id]
                self._health.count("messages_yielded")
                log.warning("gave up %s, which is %s's since the merge", message_id, claim.by)

    def stop(self) -> None:
        """Let `run` end after the batch under way."""
        self._stopping = True

    async def run(self) -> None:
        """Receive until stopped.

        Batches start at one message, double while they come full and are as large as what comes else, so that
        consumers share a short queue and empty a long one quickly.
        """
        batch = 1
        while not self._stopping:
            try:
                items = await self._queue.receive(batch, ACK_SECONDS if self._unacked else WAIT_SECONDS)
            except QueueError as error:
                log.warning("the queue is away: %s", error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            received_at = time.monotonic()
            batch = min(batch * 2, LARGEST_BATCH) if len(items) == batch else max(1, len(items))
            await self.handle(items)
            if 0 < len(items) < LARGEST_BATCH:
                await asyncio.sleep(received_at + GATHER_SECONDS - time.monotonic())
        await self.ack()

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
            # Before anything else: it is the trace of what a consumer held when it was killed.
            log.info("took %s", json.dumps([message.id for message in messages]))
            flush()
            await _persist(self.store, messages)
        for item in items:
            if isinstance(item, Refused):
                await _persist(self._store.dead.write, self._give_up(item))

    def _checked(self, item: Message | Refused) -> Message | Refused:
        """Refuse what no facade would have taken: such a message is planted."""
        if isinstance(item, Message) and len(item.text) > self._longest:
            return Refused(f"longer than {self._longest} characters", item.text)
        return item

    async def store(self, messages: Sequence[Message]) -> None:
        """Claim messages in the `stored` map, and hold those that are this instance's."""
        began = time.time_ns()
        kept = await self._store.stored.add(messages)
        for message, entry in zip(messages, kept, strict=True):
            with (
                self._traces.entry("receive", message.trace, "consumer", self._taken_at) as span,
                tracing.span("store", "client", began),
            ):
                span.set("messaging.message.id", message.id)
                self._hold(entry.message)

    def _hold(self, message: Message) -> None:
        if message.by != self._health.name or message.id in self.held:
            self._health.count("duplicates_ignored")
            log.info("ignored %s, which %s has already", message.id, message.by)
            return
        self.held[message.id] = message
        self.arrivals.add(message.id)
        self._health.count("messages_received")
        log.info("received %s %s", message.id, quoted(message.text))

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


async def _persist(call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the store again and again until it answers."""
    while True:
        try:
            return await call(*args, **kwargs)
        except StoreError as error:
            log.warning("the store does not answer, trying again: %s", error)
            await asyncio.sleep(PAUSE_SECONDS)


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
            consumer = app[CONSUMER] = consumer_type(queue, store, health, config.limits.max_body, app[TRACING])
            await consumer.refill()
            health.ready = lambda: store.connected
            health.held = lambda: len(consumer.held)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(consumer.run())
                reconciling = tasks.create_task(consumer.reconcile_after_joins())
                yield
                reconciling.cancel()
                consumer.stop()

    app.cleanup_ctx.append(cluster)
    app.router.add_get("/messages", _list)
    app.router.add_get("/arrivals", _arrivals)
    return app


async def _list(request: web.Request) -> web.StreamResponse:
    part = Part.of(request)
    return await stream(request, part, at_once(part.of_all(list(request.app[CONSUMER].held.values()))))


async def _arrivals(request: web.Request) -> web.Response:
    place = request.query.get("after", "0")
    if not (place.isascii() and place.isdigit()):
        raise MessageError('"after" must be a whole number')
    return reply(request.app[CONSUMER].arrivals.after(request.query.get("epoch", ""), int(place)))
