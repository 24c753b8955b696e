"""The brokers of Kafka: a connection to each, and what they say of the topic: leaders, copies, what waits.

aiokafka's producer and consumer do the work on the messages; they tell nothing of a broker that is gone until they have
it back. Here each question goes to one broker, under a deadline. Facts about the client are from aiokafka 0.14.0, read
in its source and seen here with Kafka 4.3.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason, create_conn
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import CoordinatorNotAvailableError, KafkaError, NoError, TopicAlreadyExistsError, for_code
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from microq.layout import Layout, Partition, Span
from microq.values import Address

GROUP = "messages-service"
"""The group of consumers: every message goes to one of them."""

ANSWER_SECONDS = 1.0
"""How long a broker may take to answer; one that is paused answers never."""

CREATE_SECONDS = 10.0
"""How long a topic may take to come to be."""

OFFSETS_TOPIC = "__consumer_offsets"
"""Where Kafka keeps how far the consumers are: as much a part of the queue as its topic."""

_END = -1
"""The time that means the end of a partition."""

_ANYTHING = -1
"""The replica number of a client."""

_GROUPS = 0
"""The kind of coordinator that looks after groups of consumers."""


# It tells of every try at a broker that is gone, some twenty a second; what comes of them is raised, and told once.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def partition_of(message_id: str, count: int) -> int:
    """Return in which of so many partitions a message lies: the producer's client chooses it by the id alone."""
    return int(DefaultPartitioner()(message_id.encode(), range(count), ()))


class AwayError(Exception):
    """No broker answered, or the one that was asked did not."""


class Brokers:
    """Connections to brokers, opened when one is asked. Made by `connect`.

    Where a broker cannot be reached at its own address, as behind a detour, `doors` says where it can.
    """

    def __init__(self, addresses: Sequence[Address], name: str, doors: Mapping[Address, Address]) -> None:
        self.addresses, self._name, self._doors = tuple(addresses), name, doors
        self._connections: dict[Address, AIOKafkaConnection] = {}
        self._opening: defaultdict[Address, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._coordinator: Address | None = None
        self._committed: dict[int, int] = {}
        self._ids: dict[int, Address] = {}

    # -- connections --------------------------------------------------------------------------------------------------

    async def ask(self, address: Address, request: Any, seconds: float = ANSWER_SECONDS) -> Any:
        """Return a broker's answer; raises `AwayError`."""
        try:
            async with asyncio.timeout(seconds):
                connection = await self._connection(address)
                return await connection.send(request)
        except TimeoutError as error:
            self._close(address)  # it is frozen, or cut off: the answer is not waited for
            raise AwayError(f"{address} does not answer in {seconds:g} s") from error
        except (KafkaError, OSError) as error:
            self._close(address)
            raise AwayError(f"{address} does not answer: {error}") from error

    async def ask_any(self, request: Any, seconds: float = ANSWER_SECONDS) -> Any:
        """Return the answer of the first broker that gives one; raises `AwayError`."""
        problem = "no broker is configured"
        for address in sorted(self.addresses, key=lambda a: not self._is_open(a)):
            try:
                return await self.ask(address, request, seconds)
            except AwayError as error:
                problem = str(error)
        raise AwayError(problem)

    async def reached(self) -> int:
        """Return how many brokers have a connection now, after a try at those that have none."""
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
        """Return how a broker, any one unless told, sees the cluster; without partitions where there is no topic.

        Raises `AwayError`.
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
        """Create a topic unless it is there; raises `AwayError`, also where the brokers refuse it."""
        wanted: Any = (topic, partitions, replicas, [], list(settings.items()))
        request = CreateTopicsRequest([wanted], int(CREATE_SECONDS * 1000), validate_only=False)
        answer = await self.ask_any(request, CREATE_SECONDS)
        for _, code, *message in answer.topic_errors:
            error = for_code(code)
            if error not in (NoError, TopicAlreadyExistsError):
                raise AwayError(f"the brokers make no topic {topic}: {(message and message[0]) or error.__name__}")

    async def spans(self, topic: str, layout: Layout) -> dict[int, Span]:
        """Return what of each partition waits; raises `AwayError` if nobody knows what consumers have confirmed."""
        numbers = [partition.number for partition in layout.partitions]
        confirmed, ends = await asyncio.gather(self._confirmed(topic, numbers), self._ends(topic, layout))
        return {number: Span(confirmed[number], ends.get(number)) for number in numbers}

    async def _confirmed(self, topic: str, numbers: Sequence[int]) -> dict[int, int]:
        """Return the offset up to which consumers have confirmed each partition.

        While the group's coordinator is away nobody can confirm, so what was known last holds.
        """
        try:
            self._committed = await self._fetch_offsets(topic, numbers)
        except AwayError:
            self._coordinator = None
            if not self._committed.keys() >= set(numbers):
                raise
        return self._committed

    async def _fetch_offsets(self, topic: str, numbers: Sequence[int]) -> dict[int, int]:
        self._coordinator = self._coordinator or await self._find_coordinator()
        answer = await self.ask(self._coordinator, OffsetFetchRequest(GROUP, [(topic, list(numbers))]))
        rows = [row for _, partitions in answer.topics for row in partitions]
        for code in (answer.error_code, *(row[3] for row in rows)):
            if (error := for_code(code)) is not NoError:
                raise AwayError(f"the coordinator of the consumers answers {error.__name__}")
        # Kafka says -1 where nothing was confirmed yet.
        return {row[0]: max(0, row[1]) for row in rows}

    async def consumers(self, topic: str) -> dict[int, str]:
        """Return who consumes which partition, by the name that it gave itself; raises `AwayError`."""
        self._coordinator = self._coordinator or await self._find_coordinator()
        answer = await self.ask(self._coordinator, DescribeGroupsRequest([GROUP]))
        found = {}
        for _member, client, _host, _metadata, assigned in answer.groups[0][5]:
            # Empty while partitions are being given out anew.
            given = ConsumerProtocolMemberAssignment.decode(assigned).partitions() if assigned else []
            found.update({each.partition: client for each in given if each.topic == topic})
        return found

    async def _find_coordinator(self) -> Address:
        answer = await self.ask_any(FindCoordinatorRequest(GROUP, _GROUPS))
        if (error := for_code(answer.error_code)) is CoordinatorNotAvailableError:
            raise AwayError("the consumers have no coordinator yet")
        if error is not NoError:
            raise AwayError(f"asked for the coordinator of the consumers, the brokers answer {error.__name__}")
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
            with contextlib.suppress(AwayError):
                answer = await self.ask(leader, request)
                rows = [row for _, partitions in answer.topics for row in partitions]
                found.update({row[0]: row[3] for row in rows if for_code(row[1]) is NoError})

        await asyncio.gather(*(ask(leader, numbers) for leader, numbers in led.items()))
        return found


@asynccontextmanager
async def connect(
    addresses: Sequence[Address], name: str, doors: Mapping[Address, Address] | None = None
) -> AsyncIterator[Brokers]:
    """Open connections as they are needed, as the client `name`; close them at the end."""
    brokers = Brokers(addresses, name, doors or {})
    try:
        yield brokers
    finally:
        brokers.close()
