"""Connections to the brokers of Kafka, and what they report about the topic: leaders, copies, waiting messages.

aiokafka's producer and consumer handle the messages; they do not report that a broker cannot be reached. Here each
request goes to one broker, with a deadline. Facts about the client are from aiokafka 0.14.0: read in its source, and
observed with Kafka 4.3.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason, create_conn
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import CoordinatorNotAvailableError, KafkaError, NoError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.admin import (
    CreateTopicsRequest,
    DeleteRecordsRequest,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from microq.backends.kafka.layout import Layout, Partition, Span
from microq.errors import reason
from microq.settings import Address


def group_of(topic: str) -> str:
    """Return the consumer group of a topic, in which every message goes to one consumer."""
    return f"{topic}-messages-service"


ANSWER_SECONDS = 1.0
"""Seconds that a broker may take to answer; a paused broker never answers."""

CREATE_SECONDS = 10.0
"""Seconds that the creation of a topic may take."""

OFFSETS_TOPIC = "__consumer_offsets"
"""The topic in which Kafka keeps the consumers' offsets; the queue needs it as much as its own topic."""

_TOPIC = 2
"""The resource type of a topic in requests for settings."""

SETTINGS_SECONDS = 10.0
"""Seconds for which the settings of a topic are kept: they change only by hand."""

_END = -1
"""The timestamp that stands for the end of a partition."""

_ANYTHING = -1
"""The replica id that a client sends."""

_GROUPS = 0
"""The type of the coordinator of consumer groups."""


# aiokafka logs every attempt to reach a broker, about twenty a second; their result is raised and logged once here.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class UnavailableError(Exception):
    """No broker answered, or the requested one did not."""


class Brokers:
    """Connections to brokers, opened when they are used. `connect` makes it.

    `doors` maps the address of a broker to the one at which it is reached, for instance past a detour.
    """

    def __init__(self, addresses: Sequence[Address], name: str, doors: Mapping[Address, Address]) -> None:
        self.addresses, self._name, self._doors = tuple(addresses), name, doors
        self._connections: dict[Address, AIOKafkaConnection] = {}
        self._opening: defaultdict[Address, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._coordinator: Address | None = None
        self._committed: dict[int, int] = {}
        self._ids: dict[int, Address] = {}
        self._settings: tuple[float, dict[str, str]] = (-math.inf, {})

    # -- connections --------------------------------------------------------------------------------------------------

    async def ask(self, address: Address, request: Any, seconds: float = ANSWER_SECONDS) -> Any:
        """Return a broker's answer; raises `UnavailableError`."""
        try:
            async with asyncio.timeout(seconds):
                connection = await self._connection(address)
                return await connection.send(request)
        except TimeoutError as error:
            self._close(address)  # it is paused or cut off: the answer is not waited for
            raise UnavailableError(f"{address} does not answer in {seconds:g} s") from error
        except (KafkaError, OSError, RuntimeError) as error:
            # RuntimeError: uvloop raises it for a socket that has just broken and that the client still uses.
            self._close(address)
            raise UnavailableError(f"{address} does not answer: {reason(error)}") from error

    async def ask_any(self, request: Any, seconds: float = ANSWER_SECONDS) -> Any:
        """Return the answer of the first broker that gives one; raises `UnavailableError`."""
        problem = "no broker is configured"
        for address in sorted(self.addresses, key=lambda a: not self._is_open(a)):
            try:
                return await self.ask(address, request, seconds)
            except UnavailableError as error:
                problem = str(error)
        raise UnavailableError(problem)

    async def reached(self) -> int:
        """Return the number of brokers that are connected, after an attempt to connect to the others."""
        results = await asyncio.gather(*(self._reach(address) for address in self.addresses))
        return sum(results)

    async def _reach(self, address: Address) -> bool:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._connection(address)
        except (KafkaError, OSError, TimeoutError):
            return False
        return True

    def _is_open(self, address: Address) -> bool:
        connection = self._connections.get(address)
        return connection is not None and connection.connected()

    async def _connection(self, address: Address) -> AIOKafkaConnection:
        door = self._doors.get(address, address)
        async with self._opening[address]:
            if not self._is_open(address):
                self._close(address)
                self._connections[address] = await create_conn(door.host, door.port, client_id=self._name)
            return self._connections[address]

    def _close(self, address: Address) -> None:
        if connection := self._connections.pop(address, None):
            connection.close(CloseReason.SHUTDOWN)

    def close(self) -> None:
        """Close every connection."""
        for address in list(self._connections):
            self._close(address)

    # -- the topic ----------------------------------------------------------------------------------------------------

    async def layout(self, topic: str, at: Address | None = None) -> Layout:
        """Return how a broker (by default any) sees the cluster; without partitions if the topic does not exist.

        Raises `UnavailableError`.
        """
        request = MetadataRequest([topic, OFFSETS_TOPIC], allow_auto_topic_creation=False)
        answer = await (self.ask(at, request) if at else self.ask_any(request))
        servers = {node: Address(host, port) for node, host, port, _ in answer.brokers}
        self._ids |= servers
        found = {
            name: tuple(sorted(map(self._partition, partitions), key=lambda p: p.number))
            for error, name, _, partitions in answer.topics
            if for_code(error) is NoError
        }
        whole = all(partition.whole for partitions in found.values() for partition in partitions)
        return Layout(tuple(sorted(servers.values())), found.get(topic, ()), whole)

    def _partition(self, row: Sequence[Any]) -> Partition:
        _, number, leader, replicas, in_sync, _ = row
        known = tuple(sorted(self._ids[node] for node in in_sync if node in self._ids))
        return Partition(number, self._ids.get(leader), known, len(replicas))

    async def create(self, topic: str, partitions: int, replicas: int, settings: Mapping[str, str]) -> None:
        """Create a topic unless it exists; raises `UnavailableError`, also if the brokers refuse it."""
        wanted: Any = (topic, partitions, replicas, [], list(settings.items()))
        request = CreateTopicsRequest([wanted], int(CREATE_SECONDS * 1000), validate_only=False)
        answer = await self.ask_any(request, CREATE_SECONDS)
        for _, code, *message in answer.topic_errors:
            error = for_code(code)
            if error not in (NoError, TopicAlreadyExistsError):
                raise UnavailableError(
                    f"the brokers did not create the topic {topic}: {(message and message[0]) or error.__name__}"
                )

    async def settings(self, topic: str) -> dict[str, str]:
        """Return the settings of a topic as the brokers have them; raises `UnavailableError`."""
        at, known = self._settings
        if time.monotonic() - at > SETTINGS_SECONDS:
            answer = await self.ask_any(DescribeConfigsRequest([(_TOPIC, topic, None)]))
            known = {row[0]: row[1] for resource in answer.resources for row in resource[4]}
            self._settings = (time.monotonic(), known)
        return known

    async def spans(self, topic: str, layout: Layout) -> dict[int, Span]:
        """Return the waiting offsets of each partition; raises `UnavailableError` if committed offsets are unknown."""
        numbers = [partition.number for partition in layout.partitions]
        confirmed, ends = await asyncio.gather(self._confirmed(topic, numbers), self._ends(topic, layout))
        return {number: Span(confirmed[number], ends.get(number)) for number in numbers}

    async def forget(self, topic: str, layout: Layout, spans: Mapping[int, Span]) -> None:
        """Delete the records of each partition that consumers have confirmed; skip a partition without a leader.

        The brokers free the disk by whole segments, so the newest segment stays.
        """
        led: dict[Address, list[tuple[int, int]]] = {}
        for partition in layout.partitions:
            span = spans.get(partition.number)
            if partition.leader and span and span.confirmed:
                led.setdefault(partition.leader, []).append((partition.number, span.confirmed))
        for leader, offsets in led.items():
            with contextlib.suppress(UnavailableError):
                await self.ask(leader, DeleteRecordsRequest([(topic, offsets)], int(ANSWER_SECONDS * 1000)))

    async def _confirmed(self, topic: str, numbers: Sequence[int]) -> dict[int, int]:
        """Return the offset up to which consumers have confirmed each partition.

        While the group's coordinator is unavailable no consumer can confirm, so the last known offsets are valid.
        """
        try:
            self._committed = await self._fetch_offsets(topic, numbers)
        except UnavailableError:
            self._coordinator = None
            if not self._committed.keys() >= set(numbers):
                raise
        return self._committed

    async def _fetch_offsets(self, topic: str, numbers: Sequence[int]) -> dict[int, int]:
        self._coordinator = self._coordinator or await self._find_coordinator(topic)
        answer = await self.ask(self._coordinator, OffsetFetchRequest(group_of(topic), [(topic, list(numbers))]))
        rows = [row for _, partitions in answer.topics for row in partitions]
        for code in (answer.error_code, *(row[3] for row in rows)):
            if (error := for_code(code)) is not NoError:
                raise UnavailableError(f"the coordinator of the consumers answers {error.__name__}")
        # Kafka says -1 where nothing was confirmed yet.
        return {row[0]: max(0, row[1]) for row in rows}

    async def consumers(self, topic: str) -> dict[int, str]:
        """Return the client name of the consumer of each partition; raises `UnavailableError`."""
        self._coordinator = self._coordinator or await self._find_coordinator(topic)
        answer = await self.ask(self._coordinator, DescribeGroupsRequest([group_of(topic)]))
        found = {}
        for _member, client, _host, _metadata, assigned in answer.groups[0][5]:
            # Empty while partitions are being reassigned.
            given = ConsumerProtocolMemberAssignment.decode(assigned).partitions() if assigned else []
            found.update({each.partition: client for each in given if each.topic == topic})
        return found

    async def _find_coordinator(self, topic: str) -> Address:
        answer = await self.ask_any(FindCoordinatorRequest(group_of(topic), _GROUPS))
        if (error := for_code(answer.error_code)) is CoordinatorNotAvailableError:
            raise UnavailableError("the consumers have no coordinator yet")
        if error is not NoError:
            raise UnavailableError(f"the brokers answer a request for the consumers' coordinator with {error.__name__}")
        return Address(answer.host, answer.port)

    async def _ends(self, topic: str, layout: Layout) -> dict[int, int]:
        """Return the end of each partition whose leader answers."""
        led: dict[Address, list[int]] = {}
        for partition in layout.partitions:
            if partition.leader:
                led.setdefault(partition.leader, []).append(partition.number)
        found: dict[int, int] = {}

        async def ask(leader: Address, numbers: list[int]) -> None:
            request = OffsetRequest(_ANYTHING, 0, [(topic, [(number, _END) for number in numbers])])
            with contextlib.suppress(UnavailableError):
                answer = await self.ask(leader, request)
                rows = [row for _, partitions in answer.topics for row in partitions]
                found.update({row[0]: row[3] for row in rows if for_code(row[1]) is NoError})

        await asyncio.gather(*(ask(leader, numbers) for leader, numbers in led.items()))
        return found


@asynccontextmanager
async def connect(
    addresses: Sequence[Address], name: str, doors: Mapping[Address, Address] | None = None
) -> AsyncIterator[Brokers]:
    """Yield connections as the client `name`, opened when they are used; close them at the end."""
    brokers = Brokers(addresses, name, doors or {})
    try:
        yield brokers
    finally:
        brokers.close()
