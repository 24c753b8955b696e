"""The system of a run: the real classes of the services, as processes over the modelled members and network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from simulation.cluster import Link, MapProxy, Members, QueueProxy
from simulation.loop import WALL, Loop, Process
from simulation.network import Answered, Network, Session

from microq.aio import running, task_group
from microq.backends.hazelcast import client as hz
from microq.backends.hazelcast.maps import LogMap, MessageMap, RecordMap
from microq.backends.hazelcast.queue import HazelcastQueue
from microq.clock import Clock
from microq.config import Address, Config, ServiceIps
from microq.errors import MicroqError
from microq.message import DeadLetter, Message, Redelivery
from microq.replicas import open_replicas
from microq.services import logging, messages
from microq.services.acceptance import OK, Acceptance, UnacknowledgedError
from microq.services.app import STATUS
from microq.services.health import Health
from microq.services.redelivery import Watch
from microq.services.room import Guard, Room
from microq.services.takeover import Claims, Tenancy
from microq.store import Lease, Store

FACADES, CONSUMERS, LOGGERS = (5000, 5010), (5001, 5002, 5003), (5004, 5005, 5006)
"""Ports. A second facade stands for one that was taken for dead and is not."""


@dataclass(frozen=True)
class Parts:
    """The classes of the protocol; a mutation has others."""

    acceptance: type[Acceptance] = Acceptance
    watch: type[Watch] = Watch
    consumer: type[messages.Consumer] = messages.Consumer
    claims: type[Claims] = Claims
    tenancy: type[Tenancy] = Tenancy
    log: type[LogMap] = LogMap
    stored: type[MessageMap] = MessageMap
    splits: float = 0.2
    """The share of the runs in which the cluster splits."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Probabilities of faults that all its runs have, to find a defect that a random run rarely shows."""

    def open(self, loop: Loop, members: Members, network: Network, layout: Layout, tell: Callable[..., None]) -> System:
        """Return the processes of a system of these classes."""
        return System(loop, members, network, layout, self, tell)


@dataclass(frozen=True)
class Layout:
    """How many of each service there are, and their settings."""

    facades: int
    consumers: int
    loggers: int
    visibility_timeout: int
    take_over_after: int
    max_deliveries: int
    partitions: int

    def config(self) -> Config:
        """Return the configuration of such a system."""
        plain = Config("the simulation", Path())
        queue = replace(
            plain.queue,
            visibility_timeout=self.visibility_timeout,
            take_over_after=self.take_over_after,
            max_deliveries=self.max_deliveries,
        )
        ips = ServiceIps(
            messages_service=tuple(Address("127.0.0.1", port) for port in CONSUMERS[: self.consumers]),
            logging_service=tuple(Address("127.0.0.1", port) for port in LOGGERS[: self.loggers]),
        )
        return replace(plain, queue=queue, service_ips=ips)


class Request(NamedTuple):
    """A request to a service."""

    method: str
    query: dict[str, str]
    body: Any


class Service:
    """A service, whose process is started, killed, paused and started again."""

    def __init__(self, system: System, role: str, port: int) -> None:
        self.system, self.port = system, port
        self.name = f"{role}-{port}"
        self.process: Process | None = None
        self.drift = 0.0
        """Seconds by which the wall clock of its process is wrong."""

    def start(self) -> None:
        """Start a process of it; not if one lives."""
        if self.process and self.process.alive:
            return
        system = self.system
        process = self.process = Process(system.loop, self.name)
        link = Link(system.members, process)
        process.at_end += [lambda: system.members.forget(process), self.stopped]
        system.tell("starts", self.name)
        main = process.spawn(self.main(process, hz.Cluster(link)))
        main.add_done_callback(self._ended, context=system.loop.world.context)

    def _ended(self, main: asyncio.Task[None]) -> None:
        if not main.cancelled() and (error := main.exception()):
            self.system.errors.append(error)
            self.system.loop.stopped = True

    @property
    def up(self) -> bool:
        """Whether its process lives and is not paused."""
        return self.process is not None and self.process.alive and not self.process.paused

    def stopped(self) -> None:
        """Forget what only a running process has."""

    def health(self) -> Health:
        """Return the health of a new process, with the clocks of the simulation."""
        loop = self.system.loop
        return Health(self.name, clock=Clock(lambda: WALL + self.drift + loop.time(), lambda: 1000.0 + loop.time()))

    def store(self, cluster: hz.Cluster, clock: Clock) -> Store:
        """Open the maps; the event of a join is set as long as the process lives."""
        system = self.system

        def proxy(name: str) -> MapProxy:
            return MapProxy(system.members, name, system.layout.partitions)

        store = Store(
            system.parts.log(cluster, proxy("log"), self.name, clock),
            system.parts.stored(cluster, proxy("stored"), self.name, clock),
            RecordMap(cluster, proxy("redelivered"), Redelivery),
            RecordMap(cluster, proxy("dead"), DeadLetter),
            RecordMap(cluster, proxy("leases"), Lease),
        )
        system.members.listeners[self.name] = store.joined.set
        return store

    async def main(self, process: Process, cluster: hz.Cluster) -> None:
        """Run until the process ends."""
        raise NotImplementedError

    def listen(self, process: Process) -> None:
        """Answer requests from now on."""
        self.system.network.listen(f"127.0.0.1:{self.port}", process, self._answer)

    async def _answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Answered:
        if path == "/healthz":
            return OK, {}
        try:
            return await self.answer(Request(method, query, body))
        except MicroqError as error:
            return STATUS.get(type(error), 500), {"status": "failure", "message": str(error)}

    async def answer(self, request: Request) -> Answered:
        """Answer a request of the service's own."""
        raise NotImplementedError


class LoggingService(Service):
    async def main(self, process: Process, cluster: hz.Cluster) -> None:
        self._health = self.health()
        self._log = self.store(cluster, self._health.clock).log
        self.listen(process)
        await asyncio.Event().wait()

    async def answer(self, request: Request) -> Answered:
        if request.method == "DELETE":
            return await logging.take_back(self._log, request.query["uuid"], float(request.query["at"]))
        return await logging.write(self._log, self._health, [Message.from_wire(fields) for fields in request.body])


class MessagesService(Service):
    consumer: messages.Consumer | None = None
    tenancy: Tenancy
    _listed: tuple[tuple[messages.Consumer, int, int], list[tuple[str, str]]] | None = None
    """The messages that were held at the last look, and what tells whether they have changed since."""

    async def main(self, process: Process, cluster: hz.Cluster) -> None:
        health, parts, config = self.health(), self.system.parts, self.system.config
        store = self.store(cluster, health.clock)
        queue = HazelcastQueue(cluster, QueueProxy(self.system.members))
        consumer = parts.consumer(queue, store, health, config.limits, Guard(config))
        consumer.claims = parts.claims(store, health, consumer.held, consumer.look_again)
        self.tenancy = parts.tenancy(config, store, health, consumer.held, consumer.claims, lambda: consumer.room)
        await messages.load(consumer, self.tenancy)
        self.consumer = consumer
        async with messages.at_work(consumer, self.tenancy):
            self.listen(process)
            await asyncio.Event().wait()

    def stopped(self) -> None:
        self.consumer = None

    async def answer(self, request: Request) -> Answered:
        assert self.consumer
        return OK, messages.arrivals(self.consumer, request.query.get("epoch", ""), int(request.query["after"]))

    def shown(self) -> list[tuple[str, str]] | None:
        """Return what a reader would see now; None if it would be refused, or not answered."""
        if not self.up or self.consumer is None or not self.tenancy.valid:
            return None
        held = self.consumer.held
        state = self.consumer, held._end, len(held)
        if self._listed is None or self._listed[0] != state:
            # Messages of one time have, after a start, an order that depends on Python's hash seed.
            self._listed = state, sorted((m.id, m.text) for page in held.pages() for m in page.values())
        return self._listed[1]

    @property
    def merging(self) -> bool:
        """Whether it announces that its list may be incomplete."""
        return self.consumer is None or self.consumer.claims.merges.in_doubt


class Facade(Service):
    async def main(self, process: Process, cluster: hz.Cluster) -> None:
        health, parts, config = self.health(), self.system.parts, self.system.config
        store, session = self.store(cluster, health.clock), Session(self.system.network)
        queue, room = HazelcastQueue(cluster, QueueProxy(self.system.members)), Room(config)
        async with AsyncExitStack() as stack:
            loggers = await stack.enter_async_context(
                open_replicas(session, "logging-service", config.service_ips.logging_service)  # type: ignore[arg-type]
            )
            tasks = await stack.enter_async_context(task_group())
            watch = self._watch = parts.watch(config, session, queue, store, health)  # type: ignore[arg-type]
            self._acceptance = parts.acceptance(tasks, queue, watch, loggers, room, config.limits.max_body)
            watch.on_settle, watch.on_find = room.leave, room.owe
            await stack.enter_async_context(running(watch.run()))
            self.listen(process)
            await asyncio.Event().wait()

    async def answer(self, request: Request) -> Answered:
        message = self._watch.stamped(Message(request.body["uuid"], request.body["msg"]))
        try:
            await self._acceptance.accept(message)
        except UnacknowledgedError as error:
            return error.status, {"status": "failure", "message": str(error)}
        return OK, {"status": "success", "uuid": message.id}


class System:
    """All processes of a run."""

    facade_type: ClassVar[type[Facade]] = Facade
    consumer_type: ClassVar[type[MessagesService]] = MessagesService
    logger_type: ClassVar[type[LoggingService]] = LoggingService

    def __init__(
        self, loop: Loop, members: Members, network: Network, layout: Layout, parts: Parts, tell: Callable[..., None]
    ) -> None:
        self.loop, self.members, self.network = loop, members, network
        self.layout, self.parts, self.config, self.tell = layout, parts, layout.config(), tell
        self.errors: list[BaseException] = []
        """What ended a process although nobody killed it."""
        self.facades = [self.facade_type(self, "facade", port) for port in FACADES[: layout.facades]]
        self.consumers = [self.consumer_type(self, "messages", port) for port in CONSUMERS[: layout.consumers]]
        self.loggers = [self.logger_type(self, "logging", port) for port in LOGGERS[: layout.loggers]]

    @property
    def services(self) -> Sequence[Service]:
        """All services."""
        return [*self.facades, *self.consumers, *self.loggers]

    def shown(self) -> dict[str, Sequence[tuple[str, str]]]:
        """Return what readers would see now, by messages-service."""
        found = ((each.name, each.shown()) for each in self.consumers)
        return {name: messages for name, messages in found if messages is not None}

    def logged(self) -> dict[str, str]:
        """Return the texts in the log by id."""
        return self._texts("log")

    def stored(self) -> dict[str, str]:
        """Return the texts that are stored by id."""
        return self._texts("stored")

    def dead(self) -> list[str]:
        """Return the ids of the dead letters."""
        return list(self.members.whole.map("dead"))

    def _texts(self, name: str) -> dict[str, str]:
        return {key: Message.from_json(raw).text for key, raw in self.members.whole.map(name).items()}
