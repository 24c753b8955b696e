"""The maps of the system: `log`, what the logging-services keep; `stored`, what the consumers took; the exceptions.

One entry per message, under its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from microq import hz
from microq.config import Config
from microq.letters import DeadLetter, Redelivery
from microq.maps import LogMap, MessageMap, RecordMap

LOG_MAP = "messages-map"
STORED_MAP = "messages-stored"
REDELIVERED_MAP = "messages-redelivered"
DEAD_MAP = "messages-dead"
MAPS = (LOG_MAP, STORED_MAP, REDELIVERED_MAP, DEAD_MAP)


@dataclass(frozen=True, slots=True)
class Store:
    """The maps of the system. `redelivered` counts what was put into the queue again, `dead` holds the dead letters."""

    log: LogMap
    stored: MessageMap
    redelivered: RecordMap[Redelivery]
    dead: RecordMap[DeadLetter]
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a member joins: it may be of the other half of a split, which changes what the maps hold."""

    @property
    def connected(self) -> bool:
        """Whether there is a member to ask now."""
        return self.log.connected


StoreOpener = Callable[[Config, str], AbstractAsyncContextManager[Store]]
"""What a service opens its maps with; a test gives it another."""


@asynccontextmanager
async def open_store(config: Config, name: str) -> AsyncIterator[Store]:
    """Connect and open the maps for the instance `name`."""
    async with hz.connect(config, name) as cluster:
        store = Store(
            LogMap(cluster, await cluster.map(LOG_MAP), name),
            MessageMap(cluster, await cluster.map(STORED_MAP), name),
            RecordMap(cluster, await cluster.map(REDELIVERED_MAP), Redelivery),
            RecordMap(cluster, await cluster.map(DEAD_MAP), DeadLetter),
        )
        cluster.on_join(store.joined.set)
        yield store
