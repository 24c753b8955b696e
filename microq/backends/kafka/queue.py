"""The queue as a Kafka topic: replicated partitions, one consumer group, offsets committed after the store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.partitioner import DefaultPartitioner

from microq.allowance import Allowance
from microq.backends.base import EMPTY, Head, Refused
from microq.backends.kafka import client as kfk
from microq.backends.kafka import table_of
from microq.backends.kafka.client import Brokers, UnavailableError, group_of
from microq.backends.kafka.layout import Layout, Span, largest_record, least_in_sync, replicas_of, segment_bytes
from microq.config import Config
from microq.errors import (
    MessageError,
    QueueError,
    QueueFullError,
    QueueIndeterminateError,
    QueueUnavailableError,
    UsageError,
)
from microq.figures import fullest
from microq.message import Message

log = logging.getLogger(__name__)

ALL = "all"
"""The setting `acks`: a message is confirmed when every in-sync replica has it."""

PUT_SECONDS = 10.0
"""Seconds for the brokers to confirm a message, failover included; after that it is indeterminate."""

DOUBT_SECONDS = 0.5
"""Seconds without a confirmation after which it is checked how many brokers can be reached before more is sent."""

STOP_SECONDS = 2.0
"""Seconds for a producer to deliver the messages in flight when it is closed."""

Item = tuple[bytes | None, bytes, Head]
"""The key, the value, and when it was accepted."""


class Heads:
    """The offsets of this producer's waiting messages, in order, and when each was accepted."""

    def __init__(self) -> None:
        self._places: dict[int, deque[tuple[int, Head]]] = defaultdict(deque)

    def note(self, partition: int, offset: int, head: Head) -> None:
        """Note the offset of a message."""
        self._places[partition].append((offset, head))

    def forget(self, partition: int, confirmed: int) -> None:
        """Forget the messages before an offset: consumers have confirmed them."""
        places = self._places[partition]
        while places and places[0][0] < confirmed:
            places.popleft()

    def at(self, partition: int, offset: int) -> Head | None:
        """Return when the message at an offset was accepted; None if it is not the first one of this producer."""
        places = self._places[partition]
        return places[0][1] if places and places[0][0] == offset else None


class Producer:
    """Appends to the topic, idempotently unless `acks` is less than all. The caller closes it.

    aiokafka's idempotent producer never gives up a message: it retries until the brokers accept it. So a message that
    is not confirmed in time is indeterminate, and while too few brokers can be reached nothing more is passed to it.
    """

    def __init__(self, config: Config, name: str, brokers: Brokers, acks: str | int, bound: Allowance) -> None:
        self._config, self._name, self._brokers, self._acks, self._bound = config, name, brokers, acks, bound
        self._client: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self._doubt = False
        self.heads = Heads()

    async def put(self, messages: Sequence[Message], size: Callable[[], Awaitable[int]]) -> None:
        """Append messages as `MessageQueue.put` promises; `size` returns the number of waiting messages."""
        if not self._bound.take(len(messages)):
            await self._look_for_room(size)
            if not self._bound.take(len(messages)):
                raise QueueFullError("the queue is full")
        try:
            await self.append([(m.id.encode(), m.to_json().encode(), Head(m.at, m.since, m.epoch)) for m in messages])
        finally:
            self._bound.finish(len(messages))

    async def _look_for_room(self, size: Callable[[], Awaitable[int]]) -> None:
        """Allow as many puts as the queue has room for, by all processes that share the bound.

        A put that was finished before `size` was read is included in it, or consumed; another may not be included.
        """
        finished = self._bound.done
        try:
            waiting = await size()
        except QueueError as error:
            raise QueueUnavailableError(f"the number of waiting messages is unknown: {error}") from error
        self._bound.allow_more(finished + self._config.queue.max_size - waiting)

    async def append(self, items: Sequence[Item]) -> None:
        """Append items; return when they are confirmed.

        Raises `QueueUnavailableError` or `QueueIndeterminateError`.
        """
        await self._check()
        client = await self._connected()
        await self._confirmed(await self._send(client, items))

    async def _check(self) -> None:
        """Refuse messages while it is certain that the brokers cannot confirm them."""
        if self._doubt and (problem := await self._too_few()):
            raise QueueUnavailableError(problem)

    async def _too_few(self) -> str:
        """Return a sentence if fewer brokers can be reached than must confirm a message; else empty."""
        listed = len(table_of(self._config).kafka_brokers)
        needed, there = least_in_sync(replicas_of(self._config, listed)), await self._brokers.reached()
        if there >= needed:
            return ""
        return f"only {there} of {listed} brokers can be reached, and {needed} must have a message"

    async def _send(self, client: AIOKafkaProducer, items: Sequence[Item]) -> list[asyncio.Future[Any]]:
        sent: list[asyncio.Future[Any]] = []
        try:
            async with asyncio.timeout(PUT_SECONDS):
                for key, value, head in items:
                    future = await client.send(self._config.queue.name, value, key=key)
                    future.add_done_callback(lambda done, head=head: self._note(done, head))
                    sent.append(future)
        except (KafkaError, TimeoutError) as error:
            self._doubt = True
            if sent:
                raise QueueIndeterminateError(f"the brokers accepted only a part: {_described(error)}") from error
            raise QueueUnavailableError(f"the brokers cannot be reached: {_described(error)}") from error
        return sent

    async def _confirmed(self, sent: Sequence[asyncio.Future[Any]]) -> None:
        """Wait for the confirmations. They are never cancelled: a late one is noted too."""
        _, waiting = await asyncio.wait(sent, timeout=DOUBT_SECONDS)
        if waiting:
            self._doubt = True
            if problem := await self._too_few():
                raise QueueIndeterminateError(problem)
            _, waiting = await asyncio.wait(waiting, timeout=PUT_SECONDS - DOUBT_SECONDS)
        if waiting:
            raise QueueIndeterminateError(f"the brokers did not confirm the message in {PUT_SECONDS:g} s")
        errors = [error for future in sent if (error := future.exception())]
        if errors:
            # After such an error the client's sequence numbers may have a gap, and it would accept nothing more.
            self._doubt = True
            await self.close()
            raise QueueIndeterminateError(
                f"the brokers did not confirm the message: {_described(errors[0])}"
            ) from errors[0]
        self._doubt = False

    def _note(self, done: asyncio.Future[Any], head: Head) -> None:
        if done.cancelled() or done.exception() or not (place := done.result()) or place.offset < 0:
            return
        self.heads.note(place.partition, place.offset, head)

    async def _connected(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._client is None:
                client = self._make()
                try:
                    async with asyncio.timeout(PUT_SECONDS):
                        await client.start()
                except (KafkaError, TimeoutError) as error:
                    await client.client.close()
                    await _stop(client)
                    raise QueueUnavailableError(f"the brokers cannot be reached: {_described(error)}") from error
                self._client = client
            return self._client

    def _make(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=[str(address) for address in table_of(self._config).kafka_brokers],
            client_id=self._name,
            acks=self._acks,
            enable_idempotence=self._acks == ALL,
            max_request_size=largest_record(self._config),
            retry_backoff_ms=50,
            metadata_max_age_ms=30_000,
            request_timeout_ms=round(PUT_SECONDS * 1000),
        )

    async def close(self) -> None:
        """Deliver the messages in flight, for a limited time, and close the connections; a later put opens new ones."""
        client, self._client = self._client, None
        if client:
            await _stop(client)


async def _stop(client: AIOKafkaProducer) -> None:
    with contextlib.suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            await client.stop()
    await client.client.close()


def _described(error: BaseException) -> str:
    return str(error) or type(error).__name__


log = logging.getLogger(__name__)

CONNECT_SECONDS = 30.0
"""Seconds that `open_queue` waits for brokers that are still starting."""

GRACE_SECONDS = 0.5
"""Seconds that a receive may take longer than requested, while partitions are reassigned."""

JOIN_SECONDS = 10.0
"""Seconds that a consumer may take to find the brokers."""

ACK_SECONDS = 10.0
"""Seconds that the brokers may take to commit offsets, failover included."""

FORGET_SECONDS = 10.0
"""Seconds between two deletions of confirmed records."""

STOP_SECONDS = 2.0
"""Seconds that a consumer may take to leave its group."""

PAUSE = 0.05
"""Pause in seconds before brokers that are starting are asked again."""


class KafkaQueue:
    """A `MessageQueue` in one topic. Producer and consumer connect when they are used: few processes need both."""

    gathers = True

    def __init__(
        self, config: Config, name: str, brokers: Brokers, stack: AsyncExitStack, acks: str | int, bound: Allowance
    ) -> None:
        self._config, self._name, self._brokers = config, name, brokers
        self._topic = config.queue.name
        self._producer = Producer(config, name, brokers, acks, bound)
        stack.push_async_callback(self._producer.close)
        self._consumer: AIOKafkaConsumer | None = None
        self._forgot_at = -math.inf
        self._membership = AsyncExitStack()
        stack.push_async_callback(self._membership.aclose)
        self._joining = asyncio.Lock()

    async def put(self, messages: Sequence[Message]) -> None:
        """Append with the producer, which enforces the bound of the queue: a topic has none."""
        if messages:
            await self._producer.put(messages, self.size)

    async def receive(self, most: int, seconds: float) -> list[Message | Refused]:
        """Fetch a batch; the first call joins the consumer group."""
        consumer = await self._joined()
        found: dict[Any, list[Any]] = {}
        try:
            # While the group has no coordinator it would wait for ever. A call that ends here has taken nothing yet.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds + GRACE_SECONDS):
                    found = await consumer.getmany(timeout_ms=round(seconds * 1000), max_records=most)
        except KafkaError as error:
            raise QueueIndeterminateError(f"the brokers did not answer: {error}") from error
        records = [record for batch in found.values() for record in batch]
        if not records and not await self._brokers.reached():
            raise QueueUnavailableError("no broker of the queue can be reached")
        return [_read(record.value, record.partition) for record in records]

    async def ack(self) -> None:
        """Commit the offsets."""
        if self._consumer is None:
            return
        try:
            async with asyncio.timeout(ACK_SECONDS):
                await self._consumer.commit()
        except (CommitFailedError, IllegalStateError) as error:
            raise QueueIndeterminateError("the partitions went to another consumer meanwhile") from error
        except (KafkaError, TimeoutError) as error:
            raise QueueIndeterminateError(f"the brokers did not commit the offsets: {error}") from error
        await self._forget_confirmed()

    async def _forget_confirmed(self) -> None:
        """Make the brokers delete stored messages from time to time: a topic keeps them for seven days by default."""
        if time.monotonic() - self._forgot_at < FORGET_SECONDS:
            return
        self._forgot_at = time.monotonic()
        with contextlib.suppress(QueueUnavailableError):
            layout, spans = await self._look()
            await self._brokers.forget(self._topic, layout, spans)

    async def leave(self) -> None:
        """Leave the group: the other consumers get the partitions."""
        async with self._joining:
            self._consumer = None
            await self._membership.aclose()

    async def head(self) -> Head | None:
        """Return when the oldest waiting message was accepted.

        None also if another producer sent it: only the times of its own messages are known without reading them.
        """
        _, spans = await self._look()
        oldest = EMPTY
        for number, span in spans.items():
            if span.waiting is None:
                raise QueueIndeterminateError(f"partition {number} has no leader now")
            self._producer.heads.forget(number, span.confirmed)
            if span.waiting:
                head = self._producer.heads.at(number, span.confirmed)
                if head is None:
                    return None
                oldest = min(oldest, head, key=lambda each: each.since)
        return oldest

    async def size(self) -> int:
        """Return the number of messages that no consumer has confirmed."""
        _, spans = await self._look()
        waiting = [span.waiting for span in spans.values()]
        if None in waiting:
            raise QueueIndeterminateError("a partition has no leader now")
        return sum(count or 0 for count in waiting)

    async def owner(self) -> str | None:
        """Return the leader with the most messages."""
        try:
            layout, spans = await self._look()
        except QueueUnavailableError:
            return None
        return fullest((str(p.leader), spans[p.number].waiting) for p in layout.partitions if p.leader)

    async def _look(self) -> tuple[Layout, dict[int, Span]]:
        try:
            layout = await self._brokers.layout(self._topic)
            return layout, await self._brokers.spans(self._topic, layout)
        except UnavailableError as error:
            raise QueueUnavailableError(str(error)) from error

    async def _joined(self) -> AIOKafkaConsumer:
        async with self._joining:
            if self._consumer is None:
                try:
                    self._consumer = await self._membership.enter_async_context(_member(self._config, self._name))
                except (KafkaError, TimeoutError) as error:
                    raise QueueUnavailableError(f"no broker of the queue can be reached: {error}") from error
            return self._consumer


@asynccontextmanager
async def _member(config: Config, name: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer that joins the group; messages of a dead one go to the others after the visibility timeout."""
    timeout = config.queue.visibility_timeout * 1000
    consumer = AIOKafkaConsumer(
        bootstrap_servers=[str(address) for address in table_of(config).kafka_brokers],
        client_id=name,
        group_id=group_of(config.queue.name),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=timeout,
        heartbeat_interval_ms=max(100, timeout // 10),
        rebalance_timeout_ms=timeout,
        retry_backoff_ms=100,
        metadata_max_age_ms=30_000,
        request_timeout_ms=10_000,
        max_partition_fetch_bytes=4 << 20,
    )
    try:
        async with asyncio.timeout(JOIN_SECONDS):
            await consumer.start()
        consumer.subscribe([config.queue.name])
        yield consumer
    finally:
        with contextlib.suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(STOP_SECONDS):
                await consumer.stop()


def _read(value: Any, partition: int) -> Message | Refused:
    try:
        text = value.decode()
    except (AttributeError, UnicodeDecodeError):
        return Refused("an item that is not text")
    try:
        return replace(Message.from_json(text), partition=partition)
    except MessageError as error:
        return Refused(str(error), text)


@asynccontextmanager
async def open_queue(
    config: Config, name: str, acks: str | int = ALL, bound: Allowance | None = None
) -> AsyncIterator[KafkaQueue]:
    """Connect and open the configured topic, which is created if it does not exist.

    A topic has no bound: the processes that share a `bound` enforce `max-size` together.
    Raises `QueueUnavailableError` if no broker answers in time, `UsageError` if the topic has too few copies.
    """
    async with kfk.connect(table_of(config).kafka_brokers, name) as brokers, AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await _provide(config, brokers)
        except TimeoutError as error:
            listed = ", ".join(map(str, table_of(config).kafka_brokers))
            raise QueueUnavailableError(f"no brokers answered at {listed} in {CONNECT_SECONDS:g} s") from error
        yield KafkaQueue(config, name, brokers, stack, acks, bound or Allowance())


async def _provide(config: Config, brokers: Brokers) -> None:
    """Create the topic unless it exists, and wait until it can be used."""
    topic, wanted = config.queue.name, replicas_of(config, len(table_of(config).kafka_brokers))
    settings = {
        "min.insync.replicas": str(least_in_sync(wanted)),
        "unclean.leader.election.enable": "false",
        "segment.bytes": str(segment_bytes(config)),
    }
    made = False
    while True:
        try:
            layout = await brokers.layout(topic)
            if not layout.partitions:
                await brokers.create(topic, table_of(config).partitions, wanted, settings)
                made = True
                continue
            spans = await brokers.spans(topic, layout)  # this needs the consumers' coordinator
            if made and any(span.waiting is None for span in spans.values()):
                # A new topic may lack a leader for a moment; an existing one without a leader is not waited for.
                await asyncio.sleep(PAUSE)
                continue
        except UnavailableError as error:
            log.debug("the topic cannot be used yet: %s", error)
            await asyncio.sleep(PAUSE)
            continue
        fewest = min(partition.replicas for partition in layout.partitions)
        if fewest < wanted:
            raise UsageError(
                f"the topic {topic} exists with {fewest} of {wanted} copies; delete it, "
                f"or set queue.name to another one, or queue.backup-count to {fewest - 1}"
            )
        return


def partition_of(message_id: str, count: int) -> int:
    """Return the partition of a message, of `count` partitions: the client of the producer chooses it by the id."""
    return int(DefaultPartitioner()(message_id.encode(), range(count), ()))


async def put_raw(config: Config, items: Sequence[str]) -> None:
    """Append texts to the topic as they are. Raises as `MessageQueue.put` does."""
    async with kfk.connect(table_of(config).kafka_brokers, "chaos") as brokers:
        producer = Producer(config, "chaos", brokers, ALL, Allowance())
        try:
            await producer.append([(None, item.encode(), Head(0.0, 0.0)) for item in items])
        finally:
            await producer.close()


DEFECTS = {"one-ack": partial(open_queue, acks=1)}
"""Openers of a queue that breaks a promise: it acknowledges a message when the leader alone has it."""
