"""The numbers of deliveries, and the maps that the protocol of journals uses.

Each copy of a message in the queue has a number: 1 at first, and one more for every further put, whether it is a
redelivery, the retry of an indeterminate put, or the same id sent again. A number is taken by compare-and-set before
the put, so no two copies have the same, also if two facades put the same message. Only what is put again, and what a
client named itself (`Idempotency-Key`), has an entry.

The Hazelcast client must not repeat a put by itself: both copies would have one number. That of a member that leaves is
reported as indeterminate instead, and the next put has its own number.

Both halves of a split cluster have the items that waited before the split, so a copy with the number 1 is not the only
one then. Therefore a copy carries its era too: the number of joins of members that were noticed before it was accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from microq.backends.hazelcast.journal import SlotMap
from microq.backends.hazelcast.maps import RecordMap
from microq.errors import MicroqError
from microq.message import JsonRecord, Message, text_hash
from microq.services.health import Health
from microq.store import Lease

FIRST = 1


class AnotherTextError(MicroqError):
    """An id is in use for another text."""


@dataclass(frozen=True, slots=True)
class Delivery(JsonRecord):
    """What is known of the deliveries of a message. `number` is that of the last copy, `tries` counts redeliveries.

    `hash` is that of its text, if a client made the id. A `dead` one has its `text` and the `reason`; it is revived by
    taking a number. `mark` is unique: by it a writer recognises its own record.
    """

    id: str
    number: int = FIRST
    tries: int = 0
    at: float = 0.0
    mark: str = ""
    hash: str = ""
    dead: bool = False
    text: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Lane(JsonRecord):
    """A log journal: one facade writes it, one slot after another."""

    id: str
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Era(JsonRecord):
    """How many joins of members were noticed. A copy of an earlier era may be in both halves of a split cluster."""

    id: str
    number: int = 0
    at: float = 0.0


class Joins:
    """The joins of members that this process has noticed: each may be a merge of two halves."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.count = 0

    def note(self) -> None:
        """Note a join."""
        self.count += 1
        self.event.set()


@dataclass(frozen=True, slots=True)
class JournalStore:
    """The maps. `log` has the log journals of the facades, `stored` the store journals of the messages-services."""

    log: SlotMap
    stored: SlotMap
    deliveries: RecordMap[Delivery]
    lanes: RecordMap[Lane]
    eras: RecordMap[Era]
    leases: RecordMap[Lease]
    joins: Joins = field(default_factory=Joins)


class Marks(Iterator[str]):
    """Unique marks of one life of a process."""

    def __init__(self, health: Health) -> None:
        self.life = f"{health.name}.{health.epoch}.{health.worker}"
        self._numbers = count(1)

    def __next__(self) -> str:
        """Return the next one."""
        return f"{self.life}.{next(self._numbers)}"


class Deliveries:
    """Takes numbers. Its methods raise as those of `RecordMap` do; a number that may be taken is not used."""

    def __init__(self, records: RecordMap[Delivery], marks: Marks, wall: Callable[[], float]) -> None:
        self._records, self._marks, self._wall = records, marks, wall

    async def get(self, message_id: str) -> Delivery | None:
        """Return what is known."""
        return await self._records.get(message_id)

    async def claim(self, message: Message) -> Delivery:
        """Take the number of a message that a client named; raises `AnotherTextError`.

        Only the first one to do so gets the number 1.
        """
        digest = text_hash(message.text)

        def change(found: Delivery | None) -> Delivery:
            if found is None:
                return Delivery(message.id, hash=digest)
            if found.hash not in {"", digest}:
                raise AnotherTextError("an id is in use for another text; send it under a new id")
            tries = 0 if found.dead else found.tries
            return Delivery(message.id, found.number + 1, tries, hash=digest)

        return await self._change(message.id, change)

    async def next(self, message_id: str, *, tries: int = 0, above: int = FIRST) -> Delivery:
        """Take the next number, above another one; `tries` more redeliveries are counted."""

        def change(found: Delivery | None) -> Delivery:
            before = found or Delivery(message_id)
            number = max(before.number, above) + 1
            return replace(before, number=number, tries=before.tries + tries, dead=False, text="", reason="")

        return await self._change(message_id, change)

    async def swap(self, old: Delivery, new: Delivery) -> bool:
        """Replace a record if it is still the same; return whether it was."""
        return await self._records.swap(old, new)

    async def forget(self, record: Delivery) -> None:
        """Remove the record of a message that was refused, if no other process has changed it."""
        await self._records.remove_if_same(record)

    async def _change(self, message_id: str, change: Callable[[Delivery | None], Delivery]) -> Delivery:
        mark = next(self._marks)
        while True:
            found = await self._records.get(message_id)
            if found and found.mark == mark:
                return found  # an earlier attempt was carried out
            new = replace(change(found), mark=mark, at=self._wall())
            if await self._records.swap(found, new):
                return new
