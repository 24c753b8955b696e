"""The producing side of a topic: put, know what is certain, keep the bound, remember which message lies where."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from microq.config import Config
from microq.errors import QueueAwayError, QueueError, QueueFullError, QueueUncertainError
from microq.kfk import Brokers
from microq.layout import largest_record, least_in_sync, replicas_of
from microq.message import Message

log = logging.getLogger(__name__)

ALL = "all"
"""Acknowledged is what every in-sync replica has."""

PUT_SECONDS = 10.0
"""How long the brokers may take to confirm a message, failover included, before it is uncertain."""

DOUBT_SECONDS = 0.5
"""After so long without a confirmation it is looked whether enough brokers are there before more is sent."""

STOP_SECONDS = 2.0
"""How long a producer may take to deliver what is under way at its end."""

Item = tuple[bytes | None, bytes, float]
"""The key, the value, and when it was put."""


class Heads:
    """Where in the topic the messages of this producer lie, and when each was put; those that wait, in order."""

    def __init__(self) -> None:
        self._places: dict[int, deque[tuple[int, float]]] = defaultdict(deque)

    def note(self, partition: int, offset: int, at: float) -> None:
        """Note where a message came to lie."""
        self._places[partition].append((offset, at))

    def forget(self, partition: int, confirmed: int) -> None:
        """Forget what consumers have confirmed: all before an offset."""
        places = self._places[partition]
        while places and places[0][0] < confirmed:
            places.popleft()

    def put_at(self, partition: int, offset: int) -> float | None:
        """Return when the message at an offset was put, or None if it is not this producer's first one."""
        places = self._places[partition]
        return places[0][1] if places and places[0][0] == offset else None


class Producer:
    """Appends to the topic, idempotently unless `acks` is fewer than all. Whoever has used one closes it.

    An idempotent producer of aiokafka never gives a message up: it sends it again until the brokers take it. So what is
    not confirmed in time is uncertain, and while too few brokers can be reached nothing more is handed to it.
    """

    def __init__(self, config: Config, name: str, brokers: Brokers, acks: str | int) -> None:
        self._config, self._name, self._brokers, self._acks = config, name, brokers, acks
        self._client: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self._doubt = False
        self._room = 0
        self._under_way = 0
        self.heads = Heads()

    async def put(self, messages: Sequence[Message], size: Callable[[], Awaitable[int]]) -> None:
        """Append messages, as `MessageQueue.put` promises; `size` tells how many wait."""
        if len(messages) > self._room:
            try:
                waiting = await size()
            except QueueError as error:
                raise QueueAwayError(f"how full the queue is cannot be seen: {error}") from error
            self._room = self._config.queue.max_size - waiting - self._under_way
            if len(messages) > self._room:
                raise QueueFullError("the queue is full")
        self._room -= len(messages)
        await self.append([(m.id.encode(), m.to_json().encode(), m.at) for m in messages])

    async def append(self, items: Sequence[Item]) -> None:
        """Append items and return when they are confirmed. Raises `QueueAwayError` or `QueueUncertainError`."""
        await self._check()
        client = await self._connected()
        self._under_way += len(items)
        try:
            await self._confirmed(await self._send(client, items))
        finally:
            self._under_way -= len(items)

    async def _check(self) -> None:
        """Refuse what cannot be confirmed, while that is certain."""
        if self._doubt and (problem := await self._too_few()):
            raise QueueAwayError(problem)

    async def _too_few(self) -> str:
        """Say if too few brokers can be reached to keep the copies; empty if they are enough."""
        listed = len(self._config.kafka.kafka_brokers)
        needed, there = least_in_sync(replicas_of(self._config, listed)), await self._brokers.reached()
        if there >= needed:
            return ""
        return f"only {there} of {listed} brokers can be reached, and {needed} must have a message"

    async def _send(self, client: AIOKafkaProducer, items: Sequence[Item]) -> list[asyncio.Future[Any]]:
        sent: list[asyncio.Future[Any]] = []
        try:
            async with asyncio.timeout(PUT_SECONDS):
                for key, value, at in items:
                    future = await client.send(self._config.queue.name, value, key=key)
                    future.add_done_callback(lambda done, at=at: self._note(done, at))
                    sent.append(future)
        except (KafkaError, TimeoutError) as error:
            self._doubt = True
            if sent:
                raise QueueUncertainError(f"the brokers took a part only: {_told(error)}") from error
            raise QueueAwayError(f"the brokers cannot be reached: {_told(error)}") from error
        return sent

    async def _confirmed(self, sent: Sequence[asyncio.Future[Any]]) -> None:
        """Wait for the confirmations. They are never cancelled: what comes late is noted all the same."""
        _, waiting = await asyncio.wait(sent, timeout=DOUBT_SECONDS)
        if waiting:
            self._doubt = True
            if problem := await self._too_few():
                raise QueueUncertainError(problem)
            _, waiting = await asyncio.wait(waiting, timeout=PUT_SECONDS - DOUBT_SECONDS)
        if waiting:
            raise QueueUncertainError(f"the brokers did not confirm the message in {PUT_SECONDS:g} s")
        errors = [error for future in sent if (error := future.exception())]
        if errors:
            # After an error that it does not mend the client's numbering may have a gap, and it accepts nothing more.
            self._doubt = True
            await self.close()
            raise QueueUncertainError(f"the brokers did not confirm the message: {_told(errors[0])}") from errors[0]
        self._doubt = False

    def _note(self, done: asyncio.Future[Any], at: float) -> None:
        if done.cancelled() or done.exception() or not (place := done.result()) or place.offset < 0:
            return
        self.heads.note(place.partition, place.offset, at)

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
                    raise QueueAwayError(f"the brokers cannot be reached: {_told(error)}") from error
                self._client = client
            return self._client

    def _make(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=[str(address) for address in self._config.kafka.kafka_brokers],
            client_id=self._name,
            acks=self._acks,
            enable_idempotence=self._acks == ALL,
            max_request_size=largest_record(self._config),
            retry_backoff_ms=50,
            metadata_max_age_ms=30_000,
            request_timeout_ms=round(PUT_SECONDS * 1000),
        )

    async def close(self) -> None:
        """End the connections, after what is under way for a while; the next message opens new ones."""
        client, self._client = self._client, None
        if client:
            await _stop(client)


async def _stop(client: AIOKafkaProducer) -> None:
    with contextlib.suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            await client.stop()
    await client.client.close()


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__
