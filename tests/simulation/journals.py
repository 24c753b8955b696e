"""The system with journals: the classes of that protocol, as processes over the same members and network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from simulation.cluster import Call, MapProxy, Members, QueueProxy
from simulation.loop import Loop, Process
from simulation.network import Answered, Network, Session
from simulation.system import Facade, Layout, LoggingService, MessagesService, Parts, Request, System

from microq.aio import running, task_group
from microq.backends.hazelcast import client as hz
from microq.backends.hazelcast.journal import Replay, Slot, SlotMap
from microq.backends.hazelcast.maps import RecordMap
from microq.backends.hazelcast.queue import HazelcastQueue
from microq.message import Message
from microq.replicas import open_replicas
from microq.services import messages
from microq.services.acceptance import OK, UnacknowledgedError
from microq.services.deliverer import Deliverer
from microq.services.deliveries import Deliveries, Delivery, Era, Joins, JournalStore, Lane, Marks
from microq.services.health import Health
from microq.services.log_journal import LogJournal, write_slot
from microq.services.room import Guard
from microq.services.shelf import Shelf
from microq.services.succession import Succession
from microq.services.takeover import Claims
from microq.store import Lease, Store

PUTS = {"offer", "add_all"}
"""The calls that put into the queue. The client must not repeat them: both copies would have one number."""


@dataclass(frozen=True)
class JournalParts(Parts):
    """The classes of the protocol with journals; a mutation has others."""

    shelf: type[Shelf] = Shelf
    succession: type[Succession] = Succession
    deliverer: type[Deliverer] = Deliverer
    deliveries: type[Deliveries] = Deliveries
    log_journal: type[LogJournal] = LogJournal
    repeated: frozenset[str] = frozenset()
    """The calls that the client may repeat although it must not."""

    def open(self, loop: Loop, members: Members, network: Network, layout: Layout, tell: Callable[..., None]) -> System:
        return JournalSystem(loop, members, network, layout, self, tell)


class Receiver(messages.Consumer):
    """The receiving loop of a messages-service, which stores on a shelf."""

    shelf: Shelf

    async def store(self, messages: Sequence[Message]) -> None:
        await self.shelf.store(messages)


class _Opens:
    """What all services with journals do at their start."""

    lives = 0

    def _alive(self, health: Health, name: str) -> Health:
        self.lives += 1
        health.epoch = f"{name}-{self.lives}"
        return health

    def _journals(self, system: System, cluster: hz.Cluster, store: Store, name: str) -> JournalStore:
        def proxy(of: str) -> MapProxy:
            return MapProxy(system.members, of, system.layout.partitions)

        joins = Joins()
        joins.event = store.joined
        system.members.listeners[name] = joins.note
        return JournalStore(
            SlotMap(cluster, proxy("log slots"), Slot),
            SlotMap(cluster, proxy("stored slots"), Slot),
            RecordMap(cluster, proxy("deliveries"), Delivery),
            RecordMap(cluster, proxy("lanes"), Lane),
            RecordMap(cluster, proxy("eras"), Era),
            RecordMap(cluster, proxy("leases"), Lease),
            joins,
        )

    @staticmethod
    def _parts(system: System) -> JournalParts:
        return cast("JournalParts", system.parts)


class JournalLogging(LoggingService, _Opens):
    async def main(self, process: Process, cluster: hz.Cluster) -> None:
        self._health_now = self._alive(self.health(), self.name)
        store = self.store(cluster, self._health_now.clock)
        self._slots = self._journals(self.system, cluster, store, self.name)
        self.listen(process)
        await asyncio.Event().wait()

    async def answer(self, request: Request) -> Answered:
        return await write_slot(self._slots, self._health_now, request.body)


class JournalMessages(MessagesService, _Opens):
    shelf: Shelf

    async def main(self, process: Process, cluster: hz.Cluster) -> None:
        parts, config = self._parts(self.system), self.system.config
        health = self._alive(self.health(), self.name)
        store = self.store(cluster, health.clock)
        slots = self._journals(self.system, cluster, store, self.name)
        receiver = type("Receiver", (Receiver,), {"inbox_type": parts.shelf.inbox_type})
        consumer: Receiver = receiver(
            HazelcastQueue(cluster, QueueProxy(self.system.members)), store, health, config.limits, Guard(config)
        )
        self.shelf = consumer.shelf = parts.shelf(config, slots, health, consumer.held)
        consumer.claims = cast("Claims", self.shelf)
        both = store, slots
        self.tenancy = parts.succession(config, both, health, consumer.held, self.shelf, lambda: consumer.room)
        await messages.load(consumer, self.tenancy)
        self.consumer = consumer
        async with messages.at_work(consumer, self.tenancy):
            self.listen(process)
            await asyncio.Event().wait()


class JournalFacade(Facade, _Opens):
    async def main(self, process: Process, cluster: hz.Cluster) -> None:
        parts, config = self._parts(self.system), self.system.config
        health = self._alive(self.health(), self.name)
        session = Session(self.system.network)
        slots = self._journals(self.system, cluster, self.store(cluster, health.clock), self.name)
        queue, marks = HazelcastQueue(cluster, QueueProxy(self.system.members)), Marks(health)
        async with AsyncExitStack() as stack:
            loggers = await stack.enter_async_context(
                open_replicas(session, "logging-service", config.service_ips.logging_service)  # type: ignore[arg-type]
            )
            tasks = await stack.enter_async_context(task_group())
            log = parts.log_journal(tasks, loggers, slots, marks, health.clock)
            self._deliverer = parts.deliverer(tasks, config, queue, log, slots, health)
            self._deliverer.deliveries = parts.deliveries(slots.deliveries, marks, health.clock.wall)
            await stack.enter_async_context(running(self._deliverer.run()))
            self.listen(process)
            await asyncio.Event().wait()

    async def answer(self, request: Request) -> Answered:
        message = self._deliverer.stamped(Message(request.body["uuid"], request.body["msg"]))
        try:
            await self._deliverer.accept(message, keyed=request.body["keyed"])
        except UnacknowledgedError as error:
            return error.status, {"status": "failure", "message": str(error)}
        return OK, {"status": "success", "uuid": message.id}


class JournalSystem(System):
    """All processes of a run with journals."""

    facade_type: ClassVar[type[Facade]] = JournalFacade
    consumer_type: ClassVar[type[MessagesService]] = JournalMessages
    logger_type: ClassVar[type[LoggingService]] = JournalLogging

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        refused = PUTS - cast("JournalParts", self.parts).repeated
        self.members.repeats = lambda call: not self._refuses(call, refused)

    @staticmethod
    def _refuses(call: Call, refused: frozenset[str] | set[str]) -> bool:
        return call.what in refused

    def _slots(self, name: str) -> list[Slot]:
        return [Slot.from_json(raw) for raw in self.members.whole.map(name).values()]

    def logged(self) -> dict[str, str]:
        return {message.id: message.text for slot in self._slots("log slots") for message in slot.messages}

    def stored(self) -> dict[str, str]:
        journals: dict[str, list[Slot]] = {}
        for slot in self._slots("stored slots"):
            journals.setdefault(slot.journal, []).append(slot)
        replays = [Replay(name, slots) for name, slots in journals.items()]
        return {message.id: message.text for replay in replays for message, _ in replay.live()}

    def dead(self) -> list[str]:
        records = map(Delivery.from_json, self.members.whole.map("deliveries").values())
        return [record.id for record in records if record.dead]
