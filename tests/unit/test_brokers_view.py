"""What the brokers say together, from what each of them says."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from aiokafka.protocol.metadata import MetadataRequest
from support.fakes import PLAIN

from microq.backends.kafka.client import Brokers, UnavailableError
from microq.backends.kafka.layout import Layout, Partition, Span
from microq.backends.kafka.monitor import Found, read_all
from microq.config import Address

A, B, C = (Address("127.0.0.1", port) for port in (9091, 9092, 9093))
ALL = (A, B, C)


class FakeBrokers(Brokers):
    """Each broker has its own view of the cluster, or does not answer."""

    def __init__(self, layouts: Mapping[Address, Layout], waiting: Mapping[int, int | None] | None) -> None:
        self._layouts, self._waiting = layouts, waiting

    async def layout(self, _topic: str, at: Address | None = None) -> Layout:
        if at is None or at not in self._layouts:
            raise UnavailableError("it is frozen")
        return self._layouts[at]

    async def consumers(self, _topic: str) -> dict[int, str]:
        if self._waiting is None:
            raise UnavailableError("nobody coordinates them")
        return {0: "messages-5001"}

    async def settings(self, _topic: str) -> dict[str, str]:
        return {"min.insync.replicas": "2"}

    async def spans(self, _topic: str, _layout: Layout) -> dict[int, Span]:
        if self._waiting is None:
            raise UnavailableError("what is confirmed is unknown")
        return {n: Span(5, None if count is None else 5 + count) for n, count in self._waiting.items()}


def layout(servers: Sequence[Address], *leaders: Address | None, in_sync: Sequence[Address] = ALL) -> Layout:
    partitions = tuple(Partition(n, leader, tuple(in_sync), 3) for n, leader in enumerate(leaders))
    return Layout(tuple(servers), partitions, all(partition.whole for partition in partitions))


async def read(
    layouts: Mapping[Address, Layout], waiting: Mapping[int, int | None] | None, up: Sequence[Address] = ALL
) -> Found:
    return await read_all(FakeBrokers(layouts, waiting), PLAIN, up, lambda at: f"kafka-{at.port}")


async def test_broker_owns_led_and_backs_up_followed_partitions() -> None:
    figures, partitions = await read(dict.fromkeys(ALL, layout(ALL, A, B)), {0: 30, 1: 12})
    assert [(each.name, each.items, each.backups) for each in figures] == [
        ("kafka-9091", 30, 12),
        ("kafka-9092", 12, 30),
        ("kafka-9093", 0, 42),
    ]
    assert [(each.leads, each.follows) for each in figures] == [((0,), (1,)), ((1,), (0,)), ((), (0, 1))]
    assert all(each.cluster_safe and each.members_seen == 3 for each in figures)
    assert [(p.leader, p.waiting, p.in_sync) for p in partitions] == [
        ("kafka-9091", 30, ("kafka-9091", "kafka-9092", "kafka-9093")),
        ("kafka-9092", 12, ("kafka-9091", "kafka-9092", "kafka-9093")),
    ]


async def test_a_topic_that_is_not_there_yet_is_safe() -> None:
    figures, partitions = await read(dict.fromkeys(ALL, Layout(ALL, (), whole=True)), {})
    assert [each.cluster_safe for each in figures] == [True] * 3
    assert partitions == ()


@pytest.mark.parametrize(
    ("layouts", "up"),
    [
        # One of them sees only two; one that is up does not answer; a copy is not in sync; nobody leads.
        ({A: layout(ALL, A), B: layout(ALL, A), C: layout((A, C), A)}, ALL),
        ({A: layout(ALL, A), B: layout(ALL, A)}, ALL),
        (dict.fromkeys(ALL, layout(ALL, A, in_sync=(A, B))), ALL),
        ({A: layout((A, B), A), B: layout((A, B), A)}, (A,)),
    ],
)
async def test_what_is_not_whole_is_not_safe(layouts: Mapping[Address, Layout], up: Sequence[Address]) -> None:
    figures, _ = await read(layouts, {0: 3}, up)
    assert figures
    assert not any(each.cluster_safe for each in figures)


async def test_who_sees_fewer_has_heard_the_news() -> None:
    old, new = layout(ALL, C), layout((A, B), A, in_sync=(A, B))
    figures, partitions = await read({A: old, B: new}, {0: 7}, (A, B))
    assert [(each.members_seen, each.items, each.backups) for each in figures] == [(3, 7, 0), (2, 0, 7)]
    assert partitions[0].leader == "kafka-9091"


async def test_what_is_not_known_is_missing_and_never_zero() -> None:
    layouts = {A: layout((A, B), None, A, in_sync=(A, B)), B: layout((A, B), None, A, in_sync=(A, B))}
    figures, partitions = await read(layouts, {0: None, 1: 4}, (A, B))
    assert [(each.items, each.backups) for each in figures] == [(4, None), (0, None)]
    assert [(p.leader, p.waiting) for p in partitions] == [(None, None), ("kafka-9091", 4)]
    figures, partitions = await read(dict.fromkeys(ALL, layout(ALL, A)), None)
    assert [(each.items, each.backups) for each in figures] == [(None, 0), (0, None), (0, None)]
    assert [(p.leader, p.waiting) for p in partitions] == [("kafka-9091", None)]
    assert await read({}, {0: 4}) == ((), ())


class BrokenConnection:
    """A connection whose socket broke a moment ago, over uvloop: the client does not know that word for it."""

    closed = False

    async def send(self, _request: object) -> object:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    def close(self, _reason: object) -> None:
        self.closed = True


class BrokenBrokers(Brokers):
    """Brokers to which every connection has just broken."""

    async def _connection(self, address: Address) -> Any:
        return self._connections.setdefault(address, BrokenConnection())


async def test_broken_socket_counts_as_silent_broker() -> None:
    brokers = BrokenBrokers(ALL, "the test", {})
    connection = await brokers._connection(A)
    with pytest.raises(UnavailableError, match="does not answer"):
        await brokers.ask(A, None)
    assert connection.closed


async def test_why_a_broker_does_not_answer_is_said_in_words() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", silent.getsockname()[1])
        with pytest.raises(UnavailableError, match="does not answer: Connect") as caught:
            await Brokers([address], "test", {}).ask(address, MetadataRequest([]))
    assert "Errno" not in str(caught.value)
