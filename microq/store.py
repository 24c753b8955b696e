"""The maps of the system: `log` of the logging-services, `stored` of the messages-services, and smaller ones.

A message has one entry in each, under its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from microq.backends.hazelcast import client as hz
from microq.backends.hazelcast.maps import LogMap, MessageMap, RecordMap
from microq.clock import Clock
from microq.config import Config, Queue
from microq.message import DeadLetter, JsonRecord, Redelivery


@dataclass(frozen=True, slots=True)
class Lease(JsonRecord):
    """The right to show, or to take over, the messages that the messages-service `id` stored; `by` has the right.

    `beat` counts its changes; `at` is the time of the last one (seconds since the epoch, for people). `held` is how
    many messages `id` has stored, as far as `by` knows. `wanted`: `id` is back and asks for its lease; `done`: `by`
    has taken over as many as it could.
    """

    id: str
    by: str
    beat: int
    held: int
    at: float
    wanted: bool = False
    done: bool = False

    @property
    def over(self) -> bool:
        """Whether no message of `id` is left to take over."""
        return self.done and not self.held


class Silence:
    """Measures how long each lease has not changed, by the monotonic clock of this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[Lease | None, float]] = {}

    def note(self, name: str, lease: Lease | None) -> float:
        """Note a lease that was read just now; return for how many seconds it has not changed."""
        now = self._clock.monotonic()
        before = self._seen.get(name)
        if before is None or before[0] != lease:
            self._seen[name] = (lease, now)
            return 0.0
        return now - before[1]


class Names(NamedTuple):
    """The names of the maps in the cluster."""

    log: str
    stored: str
    redelivered: str
    dead: str
    leases: str


def names(queue: str) -> Names:
    """Return the names of the maps that belong to a queue; two queues of a cluster never share a map.

    The maps of the default queue have the names that existing users of the system know.
    """
    if queue == Queue().name:
        return Names("messages-map", "messages-stored", "messages-redelivered", "messages-dead", "messages-leases")
    return Names(*(f"{queue}.{kind}" for kind in Names._fields))


@dataclass(frozen=True, slots=True)
class Store:
    """The maps of the system. `redelivered` holds the records of redeliveries, `dead` the dead letters.

    `leases` holds the lease of each messages-service.
    """

    log: LogMap
    stored: MessageMap
    redelivered: RecordMap[Redelivery]
    dead: RecordMap[DeadLetter]
    leases: RecordMap[Lease]
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a member joins: it may come from the other half of a split, and change the maps."""

    @property
    def connected(self) -> bool:
        """Whether a member can be reached now."""
        return self.log.connected


StoreOpener = Callable[[Config, str], AbstractAsyncContextManager[Store]]
"""The function by which a service opens its maps; tests pass another one."""


@asynccontextmanager
async def open_store(config: Config, name: str) -> AsyncIterator[Store]:
    """Connect to the cluster and open the maps for the instance `name`."""
    async with hz.connect(config, name) as cluster:
        called = names(config.queue.name)
        store = Store(
            LogMap(cluster, await cluster.map(called.log), name),
            MessageMap(cluster, await cluster.map(called.stored), name),
            RecordMap(cluster, await cluster.map(called.redelivered), Redelivery),
            RecordMap(cluster, await cluster.map(called.dead), DeadLetter),
            RecordMap(cluster, await cluster.map(called.leases), Lease),
        )
        cluster.on_join(store.joined.set)
        yield store
