"""Succession: takeover of the store journals of a dead messages-service, by a slot in each that says who has them now.

The lease of the dead instance decides who may show, as in `takeover`. The slot is appended by the same compare-and-set
as a batch: if the owner is back it has written the slot first, and nothing is taken over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from microq.backends.hazelcast.journal import Replay, Slot
from microq.config import Config
from microq.services.deliveries import JournalStore, Marks
from microq.services.health import Health
from microq.services.inbox import Inbox
from microq.services.takeover import Holdings, Tenancy
from microq.store import Lease, Store


class Succession(Tenancy):
    """The lease of one messages-service, and its takeovers of others, with journals."""

    def __init__(
        self,
        config: Config,
        store: tuple[Store, JournalStore],
        health: Health,
        held: Inbox,
        holdings: Holdings,
        room: Callable[[], int],
    ) -> None:
        leases, self._journals = store
        super().__init__(config, leases, health, held, holdings, room)
        self._marks = Marks(health)

    async def _move(self, lease: Lease, began: float) -> tuple[int, int]:
        """Take over whole journals; return how many messages were, and how many are left as far as known."""
        taken = left = 0
        for replay in (await self._journals.stored.replay()).values():
            theirs = sum(owner == lease.id for _, owner in replay.live())
            if not theirs:
                continue
            if theirs > self._room():
                left += theirs
                continue
            if not await self._move_one(replay, lease.id, began):
                return taken, max(1, lease.held)
            mine = [each for each, owner in replay.live() if owner == self._name and each.id not in self._held]
            self._held.add(mine)
            self._health.count("messages_taken_over", len(mine))
            taken += len(mine)
            known = replace(lease, beat=lease.beat + 1, held=max(0, lease.held - theirs), at=self._clock.wall())
            began = self._clock.monotonic()
            if not await self._store.leases.swap(lease, known):
                return taken, max(1, known.held)  # its owner is back and asks for it
            lease = known
        return taken, left

    async def _move_one(self, replay: Replay, source: str, began: float) -> bool:
        """Append the slot that moves the messages of `source` here; return False if their owner may be back."""
        while self._clock.monotonic() - began < self._seconds:
            mark, at = next(self._marks), self._clock.wall()
            slot = Slot(replay.journal, replay.next, mark, self._name, at, moved=(source, self._name))
            there = await self._journals.stored.append(slot)
            replay.add(there)
            if there.mark == mark:
                return True
            if there.by == source:
                return False
        return False
