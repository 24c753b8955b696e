"""Whose a message is, says the `stored` map: what a messages-service holds of it after a start, and after a merge."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from microq.errors import StoreError
from microq.log import quoted
from microq.message import Message
from microq.services.health import Health
from microq.services.held import Held
from microq.store import Store

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

PAUSE_SECONDS = 0.2
"""Pause after the cluster did not answer."""


async def persist(call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the store again and again until it answers."""
    while True:
        try:
            return await call(*args, **kwargs)
        except StoreError as error:
            log.warning("the store does not answer, trying again: %s", error)
            await asyncio.sleep(PAUSE_SECONDS)


def say_received(message: Message) -> None:
    """Log that a message is held here from now on."""
    log.info("received %s %s", message.id, quoted(message.text))


class Claims:
    """Keeps what is held the same as what the cluster says that this instance has."""

    settle_seconds = 3.0
    """How long no member must have come or gone until it is looked whose the messages are: merges come after joins."""

    def __init__(self, store: Store, health: Health, held: Held, on_yield: Callable[[], None]) -> None:
        self._store, self._health, self._held, self._on_yield = store, health, held, on_yield
        self.under_way: Sequence[str] = ()
        """The ids that are being claimed now: whoever does that will hold those that become this instance's."""

    async def refill(self) -> None:
        """Take back into memory what this instance stored before it was stopped; waits for a cluster that answers."""
        await persist(self._restore)
        self._held.arrange()
        if self._held:
            log.info("took %d messages back into memory", len(self._held))

    async def _restore(self) -> None:
        async for page in self._store.stored.scan():
            self._held.restore([message for message in page if message.by == self._health.name])

    async def reconcile_after_joins(self) -> None:
        """Reconcile each time after members joined, until cancelled."""
        while True:
            await self._store.joined.wait()
            while self._store.joined.is_set():
                self._store.joined.clear()
                await asyncio.sleep(self.settle_seconds)
            await self.reconcile()

    async def reconcile(self) -> None:
        """Hold what the cluster says is this instance's and nothing else; waits for a cluster that answers."""
        await persist(self._regain)
        for page in self._held.pages():
            await persist(self._reconcile, page)

    async def _regain(self) -> None:
        """Hold what the cluster says is this instance's, and it does not hold.

        A claim that nobody confirmed may have been written in one half of a split cluster, while this instance learned
        from the other half that the message is somebody else's; or it was restarted, and saw one half only. When the
        claim is the one that remains, everybody else gives the message up.
        """
        name, held = self._health.name, self._held
        async for page in self._store.stored.scan():
            mine = [m for m in page if m.by == name and m.id not in held and m.id not in self.under_way]
            if not mine:
                continue
            held.add(mine)
            self._health.count("messages_received", len(mine))
            log.warning("took %d messages back into memory, which are this instance's since the merge", len(mine))
            for message in mine:
                say_received(message)

    async def _reconcile(self, page: Mapping[int, Message]) -> None:
        """Show only what the cluster says is this instance's, and give it back what it lost of the rest.

        While a cluster is split each half may give the same message away; when they merge one claim remains. What one
        half wrote just before may be lost altogether.
        """
        ids = [message.id for message in page.values()]
        claims, logged = await asyncio.gather(self._store.stored.some(ids), self._store.log.some(ids))
        unclaimed = [message for message in page.values() if message.id not in claims]
        claims |= {kept.message.id: kept.message for kept in await self._store.stored.add(unclaimed)}
        unlogged = [message for message in page.values() if message.id not in logged]
        await self._store.log.add(unlogged)
        if unclaimed or unlogged:
            log.warning("gave %d claims and %d log entries back to the cluster", len(unclaimed), len(unlogged))
        for place, message in page.items():
            claim = claims.get(message.id)
            if claim and claim.by != self._health.name:
                self._held.discard(place)
                self._health.count("messages_yielded")
                log.warning("gave up %s, which is %s's since the merge", message.id, claim.by)
                self._on_yield()
