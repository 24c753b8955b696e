"""Fences: before a copy is stored that may not be the only one, the others are revoked in every other journal.

A fence is appended to a store journal by the same compare-and-set as a batch. On the way to the first absent slot its
writer reads what was stored since the message was accepted. If the message is found, the copy in hand is a duplicate.
If not, the messages-service of that journal finds the fence in the slot that it wants to write, and drops what it
revokes. Either comes first; so of two copies one is stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from microq.backends.hazelcast.journal import NEVER, Rank, Replay, Slot, SlotMap
from microq.clock import Clock
from microq.services.deliveries import Marks
from microq.services.takeover import until_answered

DEAD = "~"
"""The name of the rank of a dead letter: no messages-service has a higher one."""


class Fences:
    """Looks into store journals, and appends fences to them, for the process `name`. Waits until the map answers."""

    def __init__(self, slots: SlotMap, journals: Sequence[str], name: str, marks: Marks, clock: Clock) -> None:
        self._slots, self._journals, self._name = slots, journals, name
        self._marks, self._clock = marks, clock

    async def raise_for(self, ranks: Mapping[str, Rank], places: Mapping[str, int]) -> set[str]:
        """Revoke all lower ranks in all journals; return the ids that were found in one, which need no fence there.

        `places` says for each journal from which slot on to look.
        """
        found: set[str] = set()
        for journal in self._journals:
            if left := {message_id: rank for message_id, rank in ranks.items() if message_id not in found}:
                found |= await self._raise_in(journal, left, places.get(journal, 0))
        return found

    async def _raise_in(self, journal: str, ranks: Mapping[str, Rank], number: int) -> set[str]:
        replay = Replay(journal)
        while True:
            async for slot in self._read(journal, number):
                replay.add(slot)
                number = slot.number + 1
            found = {message_id for message_id in ranks if replay.rank(message_id) != NEVER}
            left = {message_id: rank for message_id, rank in ranks.items() if message_id not in found}
            if not left:
                return found
            fence = Slot(journal, number, next(self._marks), self._name, self._clock.wall(), revoked=left)
            there = await until_answered(self._slots.append, fence)
            if there.mark == fence.mark:
                return found

    async def _read(self, journal: str, number: int) -> AsyncIterator[Slot]:
        while (slot := await until_answered(self._slots.get, f"{journal}/{number}")) is not None:
            yield slot
            number += 1

    async def find(self, ids: Iterable[str], places: Mapping[str, int]) -> set[str]:
        """Return the ids of messages that a journal has."""
        ids, found = set(ids), set[str]()
        for journal in self._journals:
            replay = Replay(journal)
            async for slot in self._read(journal, places.get(journal, 0)):
                replay.add(slot)
            found |= {message_id for message_id in ids if replay.rank(message_id) != NEVER}
        return found


def earliest(places: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the places that are at or before all given ones; what one does not know is unknown."""
    first, *others = places
    known = {journal for journal in first if all(journal in other for other in others)}
    return {journal: min([first[journal], *(other[journal] for other in others)]) for journal in known}
