"""The queue as a topic of Kafka: replicated partitions, one group of consumers, offsets confirmed after the store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from microq import kfk
from microq.config import Config
from microq.errors import MessageError, QueueAwayError, QueueUncertainError, UsageError
from microq.kfk import GROUP, AwayError, Brokers
from microq.layout import Layout, Span, fullest, least_in_sync, replicas_of
from microq.message import Message
from microq.queues.base import Refused
from microq.queues.producer import ALL, Producer

log = logging.getLogger(__name__)

CONNECT_SECONDS = 30.0
"""How long `open_queue` waits for brokers that are still starting."""

GRACE_SECONDS = 0.5
"""How much longer than asked for a receive may take, while partitions are given to other consumers."""

JOIN_SECONDS = 10.0
"""How long a consumer may take to find the brokers."""

ACK_SECONDS = 10.0
"""How long the brokers may take to note how far a consumer is, failover included."""

STOP_SECONDS = 2.0
"""How long a consumer may take to say goodbye to its group."""

PAUSE = 0.05
"""Pause in seconds before brokers that are starting are asked again."""


class KafkaQueue:
    """A `MessageQueue` over one topic. Producer and consumer connect when they are needed: few need both."""

    gathers = True

    def __init__(self, config: Config, name: str, brokers: Brokers, stack: AsyncExitStack, acks: str | int) -> None:
        self._config, self._name, self._brokers = config, name, brokers
        self._topic = config.queue.name
        self._producer = Producer(config, name, brokers, acks)
        stack.push_async_callback(self._producer.close)
        self._consumer: AIOKafkaConsumer | None = None
        self._membership = AsyncExitStack()
        stack.push_async_callback(self._membership.aclose)
        self._joining = asyncio.Lock()

    async def put(self, messages: Sequence[Message]) -> None:
        """Append; see `MessageQueue.put`. The bound of the queue is kept here: a topic has none."""
        if messages:
            await self._producer.put(messages, self.size)

    async def receive(self, most: int, seconds: float) -> list[Message | Refused]:
        """Take a batch; see `MessageQueue.receive`. The first call joins the group."""
        consumer = await self._joined()
        found: dict[Any, list[Any]] = {}
        try:
            # While the group has no coordinator it would wait for ever. Given up, it has taken nothing yet.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds + GRACE_SECONDS):
                    found = await consumer.getmany(timeout_ms=round(seconds * 1000), max_records=most)
        except KafkaError as error:
            raise QueueUncertainError(f"the brokers did not answer: {error}") from error
        records = [record for batch in found.values() for record in batch]
        if not records and not await self._brokers.reached():
            raise QueueAwayError("no broker of the queue can be reached")
        return [_read(record.value) for record in records]

    async def ack(self) -> None:
        """Confirm the offsets; see `MessageQueue.ack`."""
        if self._consumer is None:
            return
        try:
            async with asyncio.timeout(ACK_SECONDS):
                await self._consumer.commit()
        except (CommitFailedError, IllegalStateError) as error:
            raise QueueUncertainError("the partitions went to another consumer meanwhile") from error
        except (KafkaError, TimeoutError) as error:
            raise QueueUncertainError(f"the brokers did not note what was stored: {error}") from error

    async def leave(self) -> None:
        """Leave the group, whose others get the partitions; see `MessageQueue.leave`."""
        async with self._joining:
            self._consumer = None
            await self._membership.aclose()

    async def waiting_since(self) -> float | None:
        """Return when the oldest waiting message was put; see `MessageQueue.waiting_since`.

        None as well if it is another producer's: only its own messages are known without reading them.
        """
        _, spans = await self._look()
        since = math.inf
        for number, span in spans.items():
            if span.waiting is None:
                raise QueueUncertainError(f"nobody leads partition {number} now")
            self._producer.heads.forget(number, span.confirmed)
            if span.waiting:
                put = self._producer.heads.put_at(number, span.confirmed)
                if put is None:
                    return None
                since = min(since, put)
        return since

    async def size(self) -> int:
        """Return the number of messages that no consumer has confirmed; see `MessageQueue.size`."""
        _, spans = await self._look()
        waiting = [span.waiting for span in spans.values()]
        if None in waiting:
            raise QueueUncertainError("a partition has no leader now")
        return sum(count or 0 for count in waiting)

    async def owner(self) -> str | None:
        """Return the leader with the most messages; see `MessageQueue.owner`."""
        try:
            layout, spans = await self._look()
        except QueueAwayError:
            return None
        return fullest((str(p.leader), spans[p.number].waiting) for p in layout.partitions if p.leader)

    async def _look(self) -> tuple[Layout, dict[int, Span]]:
        try:
            layout = await self._brokers.layout(self._topic)
            return layout, await self._brokers.spans(self._topic, layout)
        except AwayError as error:
            raise QueueAwayError(str(error)) from error

    async def _joined(self) -> AIOKafkaConsumer:
        async with self._joining:
            if self._consumer is None:
                try:
                    self._consumer = await self._membership.enter_async_context(_member(self._config, self._name))
                except (KafkaError, TimeoutError) as error:
                    raise QueueAwayError(f"no broker of the queue can be reached: {error}") from error
            return self._consumer


@asynccontextmanager
async def _member(config: Config, name: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer that joins the group; what a dead one held goes to the others after the visibility timeout."""
    timeout = config.queue.visibility_timeout * 1000
    consumer = AIOKafkaConsumer(
        bootstrap_servers=[str(address) for address in config.kafka.kafka_brokers],
        client_id=name,
        group_id=GROUP,
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


def _read(value: Any) -> Message | Refused:
    try:
        text = value.decode()
    except (AttributeError, UnicodeDecodeError):
        return Refused("an item that is no text")
    try:
        return Message.from_json(text)
    except MessageError as error:
        return Refused(str(error), text)


@asynccontextmanager
async def open_queue(config: Config, name: str, acks: str | int = ALL) -> AsyncIterator[KafkaQueue]:
    """Connect and open the configured topic, which is made if it is not there.

    Raises `QueueAwayError` if the brokers are not there in time, `UsageError` if the topic has too few copies.
    """
    async with kfk.connect(config.kafka.kafka_brokers, name) as brokers, AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await _provide(config, brokers)
        except TimeoutError as error:
            listed = ", ".join(map(str, config.kafka.kafka_brokers))
            raise QueueAwayError(f"no brokers answered at {listed} in {CONNECT_SECONDS:g} s") from error
        yield KafkaQueue(config, name, brokers, stack, acks)


async def _provide(config: Config, brokers: Brokers) -> None:
    """Make the topic unless it is there, and wait until it can be used."""
    topic, wanted = config.queue.name, replicas_of(config, len(config.kafka.kafka_brokers))
    settings = {"min.insync.replicas": str(least_in_sync(wanted)), "unclean.leader.election.enable": "false"}
    made = False
    while True:
        try:
            layout = await brokers.layout(topic)
            if not layout.partitions:
                await brokers.create(topic, config.kafka.partitions, wanted, settings)
                made = True
                continue
            spans = await brokers.spans(topic, layout)  # which needs the consumers' coordinator
            if made and any(span.waiting is None for span in spans.values()):
                # What is new may lack a leader for a moment; of what was there before that is no reason to wait.
                await asyncio.sleep(PAUSE)
                continue
        except AwayError as error:
            log.debug("the topic cannot be used yet: %s", error)
            await asyncio.sleep(PAUSE)
            continue
        fewest = min(partition.replicas for partition in layout.partitions)
        if fewest < wanted:
            raise UsageError(
                f"the topic {topic} is there with {fewest} of {wanted} copies; delete it, "
                f"or set queue.name to another one, or queue.backup-count to {fewest - 1}"
            )
        return


async def put_raw(config: Config, items: Sequence[str]) -> None:
    """Append texts to the topic as they are. Raises as `MessageQueue.put` does."""
    async with kfk.connect(config.kafka.kafka_brokers, "chaos") as brokers:
        producer = Producer(config, "chaos", brokers, ALL)
        try:
            await producer.append([(None, item.encode(), 0.0) for item in items])
        finally:
            await producer.close()
