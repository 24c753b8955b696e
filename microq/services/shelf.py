"""The shelf: what one messages-service stores and shows, in its journal and in its memory.

A copy from the queue is stored so: what is held already is dropped; a copy that may not be the only one (its number is
above 1, or it was accepted before members joined) is fenced; then the batch is appended, and only then shown.

After a join of members, which may be a merge of the two halves of a split cluster, the shelf is compared with the
journals; also after a start, because a join just before it was not noticed. It holds what they give it. A message that
they give to another one too is given up by the lower rank, by a fence in its own journal. What it has shown and no
journal has any more, it stores again, as a copy with a new number; it drops a message only when it sees it in another's
journal.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from microq.aio import task_group
from microq.backends.hazelcast.journal import NEVER, Rank, Replay, Slot
from microq.config import Config
from microq.fleet import Role, name_of
from microq.message import Message
from microq.services.deliveries import FIRST, Deliveries, Era, JournalStore, Marks
from microq.services.fences import Fences, earliest
from microq.services.health import Health
from microq.services.inbox import Inbox
from microq.services.merges import Merges
from microq.services.takeover import Claims, until_answered

log = logging.getLogger(__name__)

LATE_LOOKS, LATE_SECONDS = 3, 10.0
"""Further looks after a join or a start, and the seconds before each: a merge may bring entries for 20 s and longer."""

ERA = "era"
"""The key of the only record of its map."""


def journals(config: Config) -> list[str]:
    """Return the names of all store journals: those of all configured messages-services, which are all there can be."""
    return [name_of(config, Role.MESSAGES, address) for address in config.service_ips.messages_service]


async def current_era(store: JournalStore) -> int:
    """Return the era. Raises as the methods of `RecordMap` do."""
    found = await store.eras.get(ERA)
    return found.number if found else 0


class Shelf:
    """Stores and holds the messages of the messages-service of `health`. `held` is its memory."""

    spread_seconds = Claims.spread_seconds
    inbox_type = Inbox

    def __init__(self, config: Config, store: JournalStore, health: Health, held: Inbox) -> None:
        self._store, self._health, self._clock = store, health, health.clock
        self.name, self.held = health.name, held
        self._marks = Marks(health)
        others = [name for name in journals(config) if name != self.name]
        self._fences = Fences(store.stored, others, self.name, self._marks, self._clock)
        self._deliveries = Deliveries(store.deliveries, self._marks, self._clock.wall)
        self._lock = asyncio.Lock()
        self._next = 0
        # From the own journal: what is revoked, and what others took over from it.
        self._revoked: dict[str, Rank] = {}
        self._moved: set[str] = set()
        # A start counts as a join: one just before it was not noticed.
        self._era, self._joins = 0, -1
        self.merges = Merges(store.joins.event)
        self.in_progress: Sequence[str] = ()
        """The ids that are being stored now."""

    # -- storing ------------------------------------------------------------------------------------------------------

    async def store(self, copies: Sequence[Message]) -> None:
        """Store copies from the queue, and hold those that are this instance's then. Waits until the maps answer."""
        async with self._lock:
            await self._note_joins(copies)
            hand = [copy for copy in self.distinct(copies) if self._is_new(copy)]
            doubtful = [copy for copy in hand if copy.delivery > FIRST or copy.era != self._era]
            found = await self._fence(doubtful)
            await self._append([copy for copy in hand if copy.id not in found])

    def distinct(self, copies: Sequence[Message]) -> list[Message]:
        """Return one copy of each message, that with the highest number."""
        best: dict[str, Message] = {}
        for copy in copies:
            if copy.id not in best or best[copy.id].delivery < copy.delivery:
                best[copy.id] = copy
        return list(best.values())

    def _is_new(self, copy: Message) -> bool:
        return copy.id not in self.held and copy.id not in self._moved and not self.is_revoked(copy)

    def is_revoked(self, copy: Message) -> bool:
        """Return whether a fence of the own journal revokes a copy."""
        return (copy.delivery, self.name) < self._revoked.get(copy.id, NEVER)

    async def _fence(self, copies: Sequence[Message]) -> Collection[str]:
        if not copies:
            return ()
        ranks = {copy.id: (copy.delivery, self.name) for copy in copies}
        return await self._fences.raise_for(
            ranks, earliest(copy.places if copy.era == self._era else {} for copy in copies)
        )

    async def _append(self, hand: Sequence[Message]) -> list[Message]:
        """Append a batch to the own journal; what comes in between decides what is left of it. Return what is stored.

        What is stored is held then.
        """
        while hand:
            now = self._clock.wall()
            batch = tuple(replace(copy, at=now, by=self.name) for copy in hand)
            slot = Slot(self.name, self._next, next(self._marks), self.name, now, batch)
            there = await until_answered(self._store.stored.append, slot)
            self._next += 1
            if there.mark == slot.mark:
                self._hold(batch)
                return list(batch)
            self._learn(there)
            hand = [copy for copy in hand if copy.id not in self._moved and not self.is_revoked(copy)]
        return []

    def _hold(self, messages: Sequence[Message]) -> None:
        new = self.held.add(messages)
        self._health.count("messages_received", sum(new))

    def _learn(self, slot: Slot) -> None:
        """Note what another process, or an earlier one of this name, wrote into the own journal."""
        for message_id, rank in slot.revoked.items():
            self._revoked[message_id] = max(rank, self._revoked.get(message_id, NEVER))
        if slot.moved[0] == self.name:
            self._moved.update(self._discard(lambda _message: True))
        self._hold([message for message in slot.messages if not self.is_revoked(message)])

    def _discard(self, which: Callable[[Message], bool]) -> list[str]:
        """Discard held messages; return their ids."""
        gone = [(place, each.id) for page in self.held.pages() for place, each in page.items() if which(each)]
        for place, _ in gone:
            self.held.discard(place)
        return [message_id for _, message_id in gone]

    # -- the start, and joins -----------------------------------------------------------------------------------------

    async def refill(self) -> None:
        """Load what the journals give this instance, and the fences of its own one."""
        await self._note_joins()
        replays = await until_answered(self._store.stored.replay)
        self._take(replays)
        self.held.restore(list(self._given(replays).values()))
        self.held.arrange()

    def _take(self, replays: Mapping[str, Replay]) -> None:
        mine = replays.get(self.name) or Replay(self.name)
        self._next = max(self._next, mine.next)
        self._revoked = self.remembered(mine)
        self._moved = {message.id for message, owner in mine.live() if owner != self.name}

    def remembered(self, mine: Replay) -> dict[str, Rank]:
        """Return the fences of the own journal that count from now on."""
        return mine.revoked

    def _given(self, replays: Mapping[str, Replay]) -> dict[str, Message]:
        """Return what the journals say that this instance has, by id."""
        live = (each for replay in replays.values() for each in replay.live())
        return {message.id: message for message, owner in live if owner == self.name}

    async def _note_joins(self, copies: Iterable[Message] = ()) -> None:
        """Begin a new era if members have joined; a copy of a later one tells that another process has begun it."""
        while self._joins != self._store.joins.count:
            joins = self._store.joins.count
            await until_answered(self._begin_era)
            self._joins = joins
        self._era = max([self._era, *(copy.era for copy in copies)])

    async def _begin_era(self) -> None:
        found = await self._store.eras.get(ERA)
        new = Era(ERA, (found.number if found else 0) + 1, self._clock.wall())
        await self._store.eras.swap(found, new)
        self._era = await current_era(self._store)

    async def reconcile_after_joins(self) -> None:
        """After each join of members, reconcile until nothing differs; until cancelled."""
        async with task_group() as tasks:
            tasks.create_task(self.merges.follow(self._reconcile_in_turn))
            await self._look_late()

    async def _look_late(self) -> None:
        joins = looks = -1
        while True:
            await asyncio.sleep(LATE_SECONDS)
            if joins != self._store.joins.count:
                joins, looks = self._store.joins.count, LATE_LOOKS
            if looks > 0:
                looks -= 1
                await self.reconcile()

    async def _reconcile_in_turn(self) -> int:
        await asyncio.sleep(random.uniform(0, self.spread_seconds))
        return await self.reconcile()

    async def fence(self) -> None:
        """Append an empty slot to each journal that gives this instance messages: it has its lease again.

        A process that was taking over may have been paused before it appended. Its call fails from now on, and it
        finds this slot.
        """
        async with self._lock:
            replays = await until_answered(self._store.stored.replay)
            owners = {name for name, replay in replays.items() for _, owner in replay.live() if owner == self.name}
            for name in sorted({self.name, *owners}):
                await self._append_to(Slot(name, replays[name].next if name in replays else 0, "", self.name))

    async def _append_to(self, slot: Slot) -> None:
        """Append a slot to any journal, at the first absent place from its number on."""
        while True:
            slot = replace(slot, mark=next(self._marks), at=self._clock.wall())
            there = await until_answered(self._store.stored.append, slot)
            if there.mark == slot.mark:
                return
            slot = replace(slot, number=slot.number + 1)

    async def reconcile(self) -> int:
        """Hold exactly what the journals give this instance; return how many messages differed."""
        async with self._lock:
            await self._note_joins()
            replays = await until_answered(self._store.stored.replay)
            self._take(replays)
            yielded = await self._yield(replays)
            given = self._given(replays)
            live = {message.id for replay in replays.values() for message, _ in replay.live()}
            gone = self._discard(lambda each: each.id in live and each.id not in given)
            missing = [each for page in self.held.pages() for each in page.values() if each.id not in given]
            new = self.held.add([each for message_id, each in given.items() if message_id not in yielded])
            again = [*missing, *(given[message_id] for message_id in yielded)]
            if again:
                await self._store_again(again)
            return len(gone) + sum(new) + len(again)

    async def _yield(self, replays: Mapping[str, Replay]) -> Mapping[str, None]:
        """Revoke what another journal has with a higher rank than one that gives it to this instance; return the ids.

        Both halves of a split cluster deliver the items that waited before it.
        """
        yielded: dict[str, None] = {}
        for name, replay in replays.items():
            lower: dict[str, Rank] = {}
            for message, owner in replay.live():
                if owner == self.name:
                    highest = max(other.rank(message.id) for other in replays.values())
                    if highest > replay.rank(message.id):
                        lower[message.id] = highest
            if lower:
                await self._append_to(Slot(name, replay.next, "", self.name, revoked=lower))
                yielded |= dict.fromkeys(lower)
        return yielded

    async def _store_again(self, messages: Sequence[Message]) -> None:
        """Store messages that no journal has, or had until now; drop those that another journal has after all."""
        copies = []
        for message in messages:
            above = max(self._revoked.get(message.id, NEVER)[0], message.delivery)
            taken = await until_answered(self._deliveries.next, message.id, above=above)
            copies.append(replace(message, delivery=taken.number, places={}))
        found = await self._fence(copies)
        self._discard(lambda each: each.id in found)
        await self._append([copy for copy in copies if copy.id not in found])
