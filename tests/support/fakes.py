"""Small classes that stand where the cluster would be, and a way to serve an application on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import aiohttp
from aiohttp import web

from microq.backends import QueueOpener
from microq.backends.base import EMPTY, Head, MessageQueue, Refused
from microq.backends.hazelcast import client as hz
from microq.backends.hazelcast.client import START, Page
from microq.backends.hazelcast.maps import LogMap, MessageMap, RecordMap
from microq.client import open_session
from microq.config import Address, Config, Limits, ServiceIps
from microq.errors import QueueFullError, QueueUnavailableError
from microq.message import DeadLetter, Message, Redelivery
from microq.services import config, limits, logging, messages
from microq.services.app import LIMITS
from microq.services.facade import make_app as make_facade
from microq.services.health import Health
from microq.services.inbox import Inbox
from microq.services.redelivery import Watch
from microq.services.room import Guard
from microq.store import Lease, Store, StoreOpener

PLAIN = Config("the test", Path())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that nobody announces; the test's timeout is the deadline."""
    while not condition():  # noqa: ASYNC110 - what is waited for is a plain value
        await asyncio.sleep(0.005)


class FakeClient:
    """What `hz.Cluster` asks of the Hazelcast client."""

    def __init__(self) -> None:
        self.up = True
        self.retries = 0

    def connection_manager_connections(self) -> dict[str, object]:
        return {"member": self} if self.up else {}


class FakeMap:
    """A distributed map's proxy over a dict; each error in `errors` fails one call, before or after it took effect."""

    def __init__(self, entries: dict[str, Any] | None = None) -> None:
        self.entries = entries if entries is not None else {}
        self.errors: deque[Exception] = deque()
        self.late_errors: deque[Exception] = deque()
        self.late_page_errors: deque[Exception] = deque()
        """Each fails one reading of all pages, at the first page of the last partition."""
        self.lookups = 0
        """How often entries of some ids were asked for."""

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.popleft()

    async def put_if_absent(self, key: str, value: Any) -> Any:
        await self._turn()
        before = self.entries.get(key)
        self.entries.setdefault(key, value)
        if self.late_errors:
            raise self.late_errors.popleft()
        return before

    async def set(self, key: str, value: Any) -> None:
        await self._turn()
        self.entries[key] = value

    async def remove(self, key: str) -> Any:
        await self._turn()
        return self.entries.pop(key, None)

    async def remove_if_same(self, key: str, value: Any) -> bool:
        await self._turn()
        if key not in self.entries or self.entries[key] != value:
            return False
        del self.entries[key]
        return True

    async def replace_if_same(self, key: str, old: Any, new: Any) -> bool:
        await self._turn()
        if key not in self.entries or self.entries[key] != old:
            return False
        self.entries[key] = new
        return True

    async def get(self, key: str) -> Any:
        await self._turn()
        return self.entries.get(key)

    async def get_all(self, keys: Sequence[str]) -> dict[str, Any]:
        self.lookups += 1
        await self._turn()
        return {key: self.entries[key] for key in keys if key in self.entries}

    async def values(self) -> list[Any]:
        await self._turn()
        return list(self.entries.values())

    def partitions(self) -> int:
        return 3

    async def page_of_keys(self, partition: int, place: hz.Place, most: int) -> Page:
        return await self._page(partition, place, most, lambda key: key)

    async def page_of_values(self, partition: int, place: hz.Place, most: int) -> Page:
        return await self._page(partition, place, most, self.entries.__getitem__)

    async def _page(self, partition: int, place: hz.Place, most: int, show: Callable[[str], Any]) -> Page:
        await self._turn()
        if self.late_page_errors and partition == self.partitions() - 1:
            raise self.late_page_errors.popleft()
        begin = 0 if place == START else place[0][0]
        keys = [key for key in self.entries if crc32(key.encode()) % self.partitions() == partition]
        end = begin + most
        return Page([show(key) for key in keys[begin:end]], ((end, -1),) if end < len(keys) else None)

    async def size(self) -> int:
        await self._turn()
        return len(self.entries)


def message_map(proxy: FakeMap, name: str = "logging-1", client: FakeClient | None = None) -> MessageMap:
    """The real `MessageMap` over a fake proxy."""
    return MessageMap(hz.Cluster(client or FakeClient()), proxy, name)


@dataclass
class FakeStore:
    """The cluster's maps, each a fake; `real` is the store of one instance over them."""

    log: FakeMap = field(default_factory=FakeMap)
    stored: FakeMap = field(default_factory=FakeMap)
    redelivered: FakeMap = field(default_factory=FakeMap)
    dead: FakeMap = field(default_factory=FakeMap)
    leases: FakeMap = field(default_factory=FakeMap)
    client: FakeClient = field(default_factory=FakeClient)

    def real(self, name: str) -> Store:
        cluster = hz.Cluster(self.client)
        return Store(
            LogMap(cluster, self.log, name),
            MessageMap(cluster, self.stored, name),
            RecordMap(cluster, self.redelivered, Redelivery),
            RecordMap(cluster, self.dead, DeadLetter),
            RecordMap(cluster, self.leases, Lease),
        )

    def opener(self) -> StoreOpener:
        """What a service opens its maps with: these."""

        @asynccontextmanager
        async def open_fake(_config: Config, name: str) -> AsyncIterator[Store]:
            yield self.real(name)

        return open_fake


class FakeQueue:
    """A `MessageQueue` in memory; each error in `errors` fails one put or receive."""

    gathers = False

    def __init__(self, items: Sequence[Message | Refused] = (), most: int = 1000) -> None:
        self.items: deque[Message | Refused] = deque(items)
        self.most = most
        self.errors: deque[Exception] = deque()
        self.late_errors: deque[Exception] = deque()
        """Each fails one put that took effect."""
        self.repeated = 0
        """Messages that were put although they had been in the queue before."""
        self._seen: set[str] = set()
        self.acks = 0
        """How often a consumer said that it stored everything."""
        self.leaves = 0
        """How often a consumer said that others may have what waits."""
        self.longest_wait = 0.01
        """Tests that are not about waiting do not wait."""
        self.up = True

    async def put(self, messages: Sequence[Message]) -> None:
        await self._turn()
        if len(self.items) + len(messages) > self.most:
            raise QueueFullError("the queue is full")
        self.items.extend(messages)
        ids = {message.id for message in messages}
        self.repeated += len(ids & self._seen)
        self._seen |= ids
        if self.late_errors:
            raise self.late_errors.popleft()

    async def receive(self, most: int, seconds: float) -> list[Message | Refused]:
        await self._turn()
        waited = 0.0
        while not self.items and waited < min(seconds, self.longest_wait):
            await asyncio.sleep(0.01)
            waited += 0.01
        return [self.items.popleft() for _ in range(min(most, len(self.items)))]

    async def ack(self) -> None:
        await self._turn()
        self.acks += 1

    async def leave(self) -> None:
        await self._turn()
        self.leaves += 1

    async def head(self) -> Head | None:
        await self._turn()
        first = self.items[0] if self.items else None
        if first is None:
            return EMPTY
        return Head(first.at, first.since, first.epoch) if isinstance(first, Message) else None

    async def size(self) -> int:
        await self._turn()
        return len(self.items)

    async def owner(self) -> str | None:
        return "127.0.0.1:5701" if self.up else None

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if not self.up:
            raise QueueUnavailableError("no member of the queue's cluster can be reached")
        if self.errors:
            raise self.errors.popleft()


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[Address]:
    """Serve an application on a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(*listener.getsockname()[:2])
        async with limits.serving(app, listener, app.get(LIMITS, PLAIN.limits), 0.1):
            yield address


@dataclass(frozen=True)
class Consuming:
    """A consumer, what it counts, and its connection to the cluster, which a test may cut."""

    consumer: messages.Consumer
    health: Health
    client: FakeClient
    store: Store
    """Its `joined` is set where a member would join."""


def consumer(
    queue: FakeQueue,
    stored: FakeMap,
    name: str = "messages-1",
    dead: FakeMap | None = None,
    limits: Limits = PLAIN.limits,
) -> Consuming:
    health, store = Health(name), FakeStore(stored=stored, dead=dead or FakeMap())
    real = store.real(name)
    found = messages.Consumer(queue, real, health, limits, Guard(PLAIN))
    return Consuming(found, health, store.client, real)


def queue_opener(queue: FakeQueue) -> QueueOpener:
    """What a service opens its queue with: always this one."""

    @asynccontextmanager
    async def opener(config: Config, name: str) -> AsyncIterator[MessageQueue]:
        yield queue

    return opener


def logging_app(entries: FakeMap, name: str = "logging-1", client: FakeClient | None = None) -> web.Application:
    """The real logging-service over a fake map."""
    return logging.make_app(PLAIN, name, FakeStore(log=entries, client=client or FakeClient()).opener())


def messages_app(
    queue: FakeQueue, stored: FakeMap, name: str = "messages-1", config: Config = PLAIN
) -> web.Application:
    """The real messages-service over a fake queue and a fake map."""
    return messages.make_app(config, name, queue_opener(queue), FakeStore(stored=stored).opener())


def ids_of(held: Inbox) -> list[str]:
    """The ids that a messages-service holds, in order."""
    return [message.id for page in held.pages() for message in page.values()]


class Stub:
    """A service that answers everything with one status, or hangs."""

    def __init__(self, status: int = 200, *, hangs: bool = False) -> None:
        self.status, self.hangs, self.calls = status, hangs, 0
        self.app = web.Application()
        self.app.router.add_route("*", "/{path:.*}", self._answer)

    async def _answer(self, _request: web.Request) -> web.Response:
        self.calls += 1
        if self.hangs:
            await asyncio.sleep(60)
        return web.json_response({"status": "failure", "message": "a stub"}, status=self.status)


@dataclass
class Caller:
    """A client of one service over real HTTP."""

    address: Address
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Return the status and the decoded body."""
        async with self.session.request(method, self.address.url + path, **options) as response:
            return response.status, await response.json()

    async def post(self, body: Any, path: str = "/facade", **options: Any) -> tuple[int, Any]:
        return await self.call("POST", path, json=body, **options)

    async def get(self, path: str) -> tuple[int, Any]:
        return await self.call("GET", path)


@asynccontextmanager
async def calling(app: web.Application) -> AsyncIterator[Caller]:
    """Serve an application and yield a client of it."""
    async with serving(app) as address, open_session() as session:
        yield Caller(address, session)


Place = Address | web.Application
"""Where a replica is, or what is to be served as one."""


@asynccontextmanager
async def facade(
    queue: FakeQueue,
    loggers: Sequence[Place],
    consumers: Sequence[Place] = (),
    config: Config = PLAIN,
    store: FakeStore | None = None,
    watch_type: type[Watch] = Watch,
) -> AsyncIterator[Caller]:
    """Serve the real facade over a fake queue, with these services behind it, and yield a client of it."""
    async with AsyncExitStack() as stack:

        async def places(services: Sequence[Place]) -> tuple[Address, ...]:
            return tuple(
                [s if isinstance(s, Address) else await stack.enter_async_context(serving(s)) for s in services]
            )

        ips = ServiceIps(messages_service=await places(consumers), logging_service=await places(loggers))
        config = replace(config, service_ips=ips)
        opener = (store or FakeStore()).opener()
        app = make_facade(config, "facade-1", queue_opener(queue), opener, watch_type)
        yield await stack.enter_async_context(calling(app))


@asynccontextmanager
async def every_service() -> AsyncIterator[dict[str, Caller]]:
    """Serve one of each service over fakes, and yield a client of each by its role."""
    queue, log = FakeQueue(), FakeMap()
    async with (
        calling(logging_app(log)) as loggers,
        calling(messages_app(queue, FakeMap())) as consumers,
        calling(config.make_app(PLAIN, "config-1")) as configuration,
        facade(queue, [loggers.address], [consumers.address]) as front,
    ):
        yield {"facade": front, "logging": loggers, "messages": consumers, "config": configuration}
