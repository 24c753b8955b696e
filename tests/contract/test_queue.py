"""What every queue promises: one suite, for the queue in memory that other tests rest on, and for each backend."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Protocol, TypeVar

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.protocol.offset import OffsetRequest
from support.fakes import FakeQueue
from support.memory_backend import Memory as MemoryTable
from support.memory_backend.server import RunningNodes, open_servers
from support.plug import plugged_in
from support.project import Project, free_ports, make_project

from microq.aio import poll_until
from microq.allowance import Allowance
from microq.backends import open_queue, put_raw
from microq.backends.base import EMPTY, Head, MessageQueue, Refused, Seat
from microq.backends.hazelcast import client as hz
from microq.backends.kafka import client as kfk
from microq.backends.kafka import monitor as brokers
from microq.client import open_session
from microq.config import Address, Config, Queue
from microq.errors import QueueError, QueueFullError, QueueUnavailableError, UsageError
from microq.message import Message
from microq.supervisor import control

T = TypeVar("T")

JOINING = 10.0
"""Seconds that a first receive may wait: a consumer of Kafka joins its group before."""

MOST = 8
"""The queue holds no more."""


class Bomb:
    """Whoever unpickles it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self.path,)


class Backend(Protocol):
    """A queue to test, empty at first."""

    def open(self) -> AbstractAsyncContextManager[MessageQueue]:
        """Open it as one more client."""
        ...

    async def plant(self, item: object) -> None:
        """Put in what is none of ours."""
        ...

    async def cut(self) -> None:
        """Take all its servers away."""
        ...


class Memory:
    def __init__(self) -> None:
        self._queue = FakeQueue(most=MOST)
        self._queue.longest_wait = inf

    @asynccontextmanager
    async def open(self) -> AsyncIterator[MessageQueue]:
        yield self._queue

    async def plant(self, item: object) -> None:
        self._queue.items.append(Refused(f"a {type(item).__name__}"))

    async def cut(self) -> None:
        self._queue.up = False


class Kafka:
    """One partition, so that first in is first out; each test has a topic of its own."""

    def __init__(self, project: Project, topic: str) -> None:
        config = project.config
        self.project = project
        self.config = replace(
            config.with_settings("kafka", partitions=1),
            queue=replace(config.queue, backend="kafka", name=topic, max_size=MOST),
        )

    def open(self) -> AbstractAsyncContextManager[MessageQueue]:
        return open_queue(self.config, "the test")

    async def plant(self, item: object) -> None:
        raw = item.encode() if isinstance(item, str) else pickle.dumps(item)
        client = AIOKafkaProducer(bootstrap_servers=[str(each) for each in self.config.servers])
        async with client:
            await client.send_and_wait(self.config.queue.name, raw)

    async def cut(self) -> None:
        async with control.connect(self.project.config) as operator:
            await operator.kill(["kafka"])

    async def mend(self) -> None:
        async with control.connect(self.project.config) as operator:
            await operator.start(["kafka"])


class Plugged:
    """The third backend: its nodes alone, without any system around them."""

    def __init__(self, folder: Path) -> None:
        addresses = tuple(Address("127.0.0.1", port) for port in free_ports(3))
        config = Config("the test", folder, queue=Queue(backend="memory", max_size=MOST))
        self.config = replace(config, backends={**config.backends, "memory": MemoryTable(memory_nodes=addresses)})
        self._folder, self._running = folder, list[subprocess.Popen[bytes]]()

    @asynccontextmanager
    async def servers(self) -> AsyncIterator[RunningNodes]:
        seats = [Seat(f"memory-{address.port}", address) for address in self.config.servers]
        async with open_servers(self.config, self._folder, None, seats, free_ports) as found:
            yield found

    def _started(self, commands: Sequence[Sequence[str]]) -> list[subprocess.Popen[bytes]]:
        with (self._folder / "nodes.log").open("ab") as log:
            return [subprocess.Popen(command, stdout=log, stderr=log) for command in commands]

    async def mend(self) -> None:
        """Start the nodes, and wait until they are one cluster."""
        async with self.servers() as servers, open_session() as session:
            names = [f"memory-{address.port}" for address in self.config.servers]
            self._running = self._started([servers.argv(name, alone=False) for name in names])

            async def joined() -> bool:
                return [each.members_seen for each in (await servers.ask(session, names)).figures] == [3, 3, 3]

            assert await poll_until(joined, 0.05, 60)

    async def cut(self) -> None:
        for each in self._running:
            each.kill()
        for each in self._running:
            each.wait()

    def open(self) -> AbstractAsyncContextManager[MessageQueue]:
        return open_queue(self.config, "the test")

    async def plant(self, item: object) -> None:
        await put_raw(self.config, [item if isinstance(item, str) else repr(item)])

    async def clear(self) -> None:
        async with self.open() as queue:
            await queue.receive(MOST, 0)


class Hazelcast:
    def __init__(self, project: Project) -> None:
        self.project = project

    @property
    def config(self) -> Config:
        return self.project.config

    def open(self) -> AbstractAsyncContextManager[MessageQueue]:
        return open_queue(self.config, "the test")

    async def plant(self, item: object) -> None:
        async with hz.connect(self.config, "a stranger") as cluster:
            await (await cluster.queue(self.config.queue.name)).put(item)

    async def clear(self) -> None:
        async with hz.connect(self.config, "the test") as cluster:
            await (await cluster.queue(self.config.queue.name)).clear()

    async def cut(self) -> None:
        async with control.connect(self.config) as operator:
            await operator.kill(["hazelcast"])

    async def mend(self) -> None:
        async with control.connect(self.config) as operator:
            await operator.start(["hazelcast"])


@pytest.fixture(scope="module")
def hazelcast(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Iterator[Hazelcast]:
    project = make_project(tmp_path_factory.mktemp("queue"), extra=f"[queue]\nmax-size = {MOST}\n")
    started = project.microq("up", "-d", "--no-messages", "--set", "members=2", "--set", "logging=1")
    assert started.returncode == 0, started.stderr
    yield Hazelcast(project)
    assert project.microq("down").returncode == 0


@pytest.fixture(scope="module")
def brokers_project(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Iterator[Project]:
    project = make_project(tmp_path_factory.mktemp("topic"), extra='[queue]\nbackend = "kafka"\n')
    started = project.microq("up", "-d", "--no-messages", "--set", "members=1", "--set", "logging=1")
    assert started.returncode == 0, started.stderr
    yield project
    assert project.microq("down").returncode == 0


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugged]:
    with plugged_in(tmp_path_factory.mktemp("installed")):
        found = Plugged(tmp_path_factory.mktemp("nodes"))
        asyncio.run(found.mend())
        yield found
        asyncio.run(found.cut())


@pytest.fixture
def kafka(brokers_project: Project) -> Kafka:
    return Kafka(brokers_project, f"topic-{uuid.uuid4()}")


@pytest.fixture(params=["plugged", "hazelcast", "kafka"])
def real(request: pytest.FixtureRequest) -> Plugged | Hazelcast | Kafka:
    found: Plugged | Hazelcast | Kafka = request.getfixturevalue(request.param)
    if not isinstance(found, Kafka):
        asyncio.run(found.clear())
    return found


@pytest.fixture(params=["memory", "plugged", "hazelcast", "kafka"])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "memory":
        return Memory()
    if request.param == "kafka":
        found: Kafka = request.getfixturevalue("kafka")
        return found
    real: Hazelcast | Plugged = request.getfixturevalue(request.param)
    asyncio.run(real.clear())
    return real


def messages(*names: str) -> list[Message]:
    return [Message(name, f"text of {name}", 12.5) for name in names]


async def take(queue: MessageQueue, most: int = 1) -> list[Message | Refused]:
    """Receive what is there, and say that it is stored."""
    taken = await queue.receive(most, JOINING)
    await queue.ack()
    return taken


async def take_all(queue: MessageQueue, first: float = JOINING) -> list[Message | Refused]:
    taken = await queue.receive(100, first)
    while batch := await queue.receive(100, 0.5):
        taken += batch
    await queue.ack()
    return taken


async def complete(look: Callable[[], Awaitable[T]], all_answer: Callable[[T], bool]) -> T:
    """Look until all answer, and return what is seen then: one that is busy for a moment does not."""
    looks: list[T] = []

    async def answered() -> bool:
        looks.append(await look())
        return all_answer(looks[-1])

    assert await poll_until(answered, 0.05, 60)
    return looks[-1]


async def test_what_was_put_comes_out_first_in_first_out(backend: Backend) -> None:
    async with backend.open() as queue:
        await queue.put(messages("z"))
        await queue.put(messages("m", "a", "b"))
        await queue.put(messages("c"))
        assert await queue.size() == 5
        assert await take(queue) == messages("z")
        assert await take(queue, 2) == messages("m", "a")
        assert await take_all(queue) == messages("b", "c")
        assert await queue.size() == 0


async def test_a_message_comes_out_as_it_went_in(backend: Backend) -> None:
    odd = Message("id \u2028 \U0001f600", "line\nline\0 \u00e9\U0001f680" * 1000, 1700000000.125, "logging-5003")
    async with backend.open() as queue:
        await queue.put([odd])
        assert await take(queue) == [odd]


async def test_the_next_item_says_since_when_it_waits_and_stays(backend: Backend) -> None:
    async with backend.open() as queue:
        assert await queue.head() == EMPTY
        first, second = (Message(i, i, at, since=at + 7, epoch="e") for i, at in (("a", 1.5), ("b", 2.5)))
        await queue.put([first, second])
        assert [await queue.head() for _ in range(2)] == [Head(1.5, 8.5, "e")] * 2
        assert await take(queue) == [first]
        assert await queue.head() == Head(2.5, 9.5, "e")
        await take(queue)
        assert await queue.head() == EMPTY


@pytest.mark.parametrize("item", ["hello", '{"id": 1}', 7, {"a": b"pickled"}], ids=["text", "json", "number", "pickle"])
async def test_what_is_no_message_says_nothing_of_when(backend: Backend, item: object) -> None:
    async with backend.open() as queue:
        await backend.plant(item)
        await queue.put(messages("a"))
        assert await queue.head() is None
        await take(queue)
        assert await queue.head() == Head(12.5, 0.0)


async def test_nothing_put_is_nothing_in(backend: Backend) -> None:
    async with backend.open() as queue:
        await queue.put([])
        assert await queue.size() == 0


async def test_receive_takes_no_more_than_it_was_asked_to(backend: Backend) -> None:
    async with backend.open() as queue:
        await queue.put(messages(*"abcdef"))
        assert len(await take(queue, 4)) == 4
        assert await queue.size() == 2
        assert len(await take(queue, 4)) == 2


async def test_receive_waits_for_the_first_message(backend: Backend) -> None:
    async with backend.open() as queue, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(queue.receive(5, 60.0))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        async with backend.open() as other:
            await other.put(messages("a"))
        async with asyncio.timeout(30):
            assert await waiting == messages("a")


async def test_receive_gives_up_after_its_time(backend: Backend) -> None:
    async with backend.open() as queue:
        began = asyncio.get_running_loop().time()
        assert await queue.receive(5, 0.4) == []
        assert asyncio.get_running_loop().time() - began >= 0.35


async def test_no_message_comes_out_twice(backend: Backend) -> None:
    async with backend.open() as queue, backend.open() as other:
        for each in (queue, other):
            # So that nobody joins any more, which would let messages come again.
            await each.receive(1, 5.0 if isinstance(backend, Kafka) else 0.1)
        await queue.put(messages(*"abcdefgh"))
        batches = await asyncio.gather(*(each.receive(2, 0.5) for each in (queue, other) * 4))
        taken = [item for batch in batches for item in batch] + await take_all(queue, 0.5)
        assert sorted(item.id for item in taken if isinstance(item, Message)) == list("abcdefgh")


async def test_left_consumer_gives_messages_to_others(backend: Backend) -> None:
    async with backend.open() as queue:
        await queue.put(messages(*"abcd"))
        assert await take(queue, 2) == messages("a", "b")
        await queue.leave()
        await queue.leave()
        async with backend.open() as other:
            assert await take(other, 1) == messages("c")
            await other.leave()
        assert await queue.size() == 1
        assert await take(queue, 2) == messages("d")


async def test_a_full_queue_refuses_and_takes_nothing_in(backend: Backend) -> None:
    async with backend.open() as queue:
        await queue.put(messages(*"abcdef"))
        with pytest.raises(QueueFullError):
            await queue.put(messages("x", "y", "z"))
        assert await queue.size() == 6
        await queue.put(messages("g", "h"))
        with pytest.raises(QueueFullError):
            await queue.put(messages("x"))
        assert await take(queue) == messages("a")
        await queue.put(messages("i"))
        assert await take_all(queue) == messages(*"bcdefghi")


async def test_several_clients_of_one_facade_keep_the_bound_together(real: Plugged | Hazelcast | Kafka) -> None:
    bound, taken = Allowance(), 0
    async with AsyncExitStack() as stack:
        opened = [open_queue(real.config, f"worker-{n}", bound) for n in range(4)]
        queues = [await stack.enter_async_context(each) for each in opened]

        async def fill(name: str, queue: MessageQueue) -> None:
            nonlocal taken
            for number in range(MOST):
                with contextlib.suppress(QueueFullError):
                    await queue.put(messages(f"{name}{number}"))
                    taken += 1

        await asyncio.gather(*(fill(name, queue) for name, queue in zip("abcd", queues, strict=True)))
        assert await queues[0].size() == MOST
        assert len(await take_all(queues[0])) == MOST
        await queues[0].ack()
        await queues[1].put(messages("again"))
        assert await take_all(queues[0]) == messages("again")
        await queues[0].ack()
    assert taken == MOST


async def test_somebody_owns_the_queue(backend: Backend) -> None:
    async with backend.open() as queue:
        await queue.put(messages("a"))
        owner = await queue.owner()
        assert owner is not None
        if isinstance(backend, Plugged | Hazelcast | Kafka):
            assert owner in map(str, backend.config.servers)


@pytest.mark.parametrize("item", ["hello", "", "{}", '{"id": 1, "text": "a", "at": 0, "by": ""}', 7, None])
async def test_what_is_none_of_ours_is_refused_and_blocks_nothing(backend: Backend, item: object) -> None:
    planted = item if item is not None else {"a": ("dict", b"pickled")}
    async with backend.open() as queue:
        await queue.put(messages("a"))
        await backend.plant(planted)
        await queue.put(messages("b"))
        first, second, third = await take_all(queue)
        assert [first, third] == messages("a", "b")
        assert isinstance(second, Refused)
        assert second.reason


async def test_an_item_that_would_run_code_does_not(backend: Backend, tmp_path: Path) -> None:
    mark = tmp_path / "exploded"
    pickle.loads(pickle.dumps(Bomb(mark)))  # noqa: S301 - to see that it would
    assert mark.exists()
    mark.unlink()
    async with backend.open() as queue:
        await backend.plant(Bomb(mark))
        await queue.put(messages("a"))
        refused, message = await take_all(queue)
        assert isinstance(refused, Refused)
        assert [message] == messages("a")
    assert not mark.exists()


async def test_a_put_returns_when_the_backup_has_it(hazelcast: Hazelcast) -> None:
    await hazelcast.clear()
    async with hazelcast.open() as queue:
        await queue.put(messages("a"))
        await queue.put(messages("b", "c"))
        async with control.connect(hazelcast.config) as operator:
            view = await complete(operator.snapshot, lambda view: len(view.members) == 2 and bool(view.owner))
        assert view.queue
        owned = {figures.name: figures.items for figures in view.members}
        backed = {figures.name: figures.backups for figures in view.members}
        assert {0, 3} == {*owned.values()} == {*backed.values()}
        assert owned[view.queue.owner or ""] == 3


# -- what a topic of Kafka promises beyond that -----------------------------------------------------------------------


async def test_a_put_returns_when_the_followers_have_it(kafka: Kafka) -> None:
    async with kafka.open() as queue:
        await queue.put(messages("a", "b", "c"))
        async with kfk.connect(kafka.config.servers, "the test") as client:

            def look() -> Awaitable[brokers.Found]:
                return brokers.read_all(client, kafka.config, kafka.config.servers, lambda at: f"kafka-{at.port}")

            figures, partitions = await complete(look, lambda found: [f.items is None for f in found[0]] == [False] * 3)
        assert [(partition.waiting, len(partition.in_sync)) for partition in partitions] == [(3, 3)]
        assert sorted((each.items, each.backups) for each in figures) == [(0, 3), (0, 3), (3, 0)]
        assert all(each.cluster_safe and each.members_seen == 3 for each in figures)
        assert [each.name for each in figures if each.items] == [partitions[0].leader]


async def test_only_unacknowledged_items_are_delivered_again(kafka: Kafka) -> None:
    async with kafka.open() as queue:
        await queue.put(messages("a", "b", "c"))
        assert await take(queue) == messages("a")
        assert await queue.receive(1, JOINING) == messages("b")
        assert await queue.size() == 2
    async with kafka.open() as other:
        assert await take(other, 2) == messages("b", "c")
        assert await other.size() == 0


async def test_what_is_confirmed_is_deleted_and_nothing_else(kafka: Kafka) -> None:
    async def begin() -> int:
        """Where the partition begins now."""
        async with kfk.connect(kafka.config.servers, "the test") as client:
            (partition,) = (await client.layout(kafka.config.queue.name)).partitions
            assert partition.leader is not None
            request = OffsetRequest(-1, 0, [(kafka.config.queue.name, [(0, -2)])])
            answer = await client.ask(partition.leader, request)
            return int(answer.topics[0][1][0][3])

    async with kafka.open() as queue:
        await queue.put(messages("a", "b"))
        assert await queue.receive(2, JOINING) == messages("a", "b")
        assert await begin() == 0  # they were taken, and are not stored yet
        await queue.put(messages("c"))
        await queue.ack()
        assert await begin() == 2
        assert await queue.size() == 1
        assert await take(queue) == messages("c")


async def test_when_others_put_is_not_known(kafka: Kafka) -> None:
    async with kafka.open() as queue, kafka.open() as other:
        await other.put([Message("a", "a", 1.5)])
        await queue.put([Message("b", "b", 2.5)])
        assert await other.head() == Head(1.5, 0.0)
        assert await queue.head() is None
        await take(queue)
        assert await queue.head() == Head(2.5, 0.0)


async def test_a_topic_with_too_few_copies_is_refused(kafka: Kafka) -> None:
    topic = kafka.config.queue.name
    async with kfk.connect(kafka.config.servers, "the test") as client:
        await client.create(topic, 1, 1, {})
    with pytest.raises(UsageError, match=f"the topic {topic} exists with 1 of 3 copies; delete it, or set"):
        async with kafka.open():
            pass


async def test_what_two_brokers_cannot_keep_is_refused_for_certain(kafka: Kafka, brokers_project: Project) -> None:
    names = [f"kafka-{address.port}" for address in kafka.config.servers]
    async with kafka.open() as queue:
        await queue.put(messages("a"))
        async with control.connect(brokers_project.config) as operator:
            await operator.kill(names[:2])
            try:
                async with asyncio.timeout(60):
                    with pytest.raises(
                        QueueUnavailableError, match="only 1 of 3 brokers can be reached, and 2 must have"
                    ):
                        await _once_noticed(lambda: queue.put(messages("b")))
            finally:
                await operator.start(names[:2])
        await queue.put(messages("c"))
        taken = await take_all(queue)
        assert taken[0] == messages("a")[0]
        assert taken[-1] == messages("c")[0]


async def test_without_a_server_it_is_away(backend: Backend) -> None:
    try:
        async with backend.open() as queue:
            await backend.cut()
            async with asyncio.timeout(60):
                for ask in (
                    lambda: queue.put(messages("a")),
                    lambda: queue.receive(1, 0.1),
                    queue.size,
                    queue.head,
                ):
                    with pytest.raises(QueueUnavailableError):
                        await _once_noticed(ask)
    finally:
        if isinstance(backend, Plugged | Hazelcast | Kafka):
            await backend.mend()


async def _once_noticed(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask until the client knows that its server is gone; before, it cannot know what became of a request."""
    while True:
        try:
            await ask()
        except QueueUnavailableError:
            raise
        except QueueError:
            await asyncio.sleep(0.1)
