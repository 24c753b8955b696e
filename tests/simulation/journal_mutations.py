"""Defects of the protocol with journals, planted one at a time: the simulation must find each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from simulation.journals import PUTS, JournalParts

from microq.backends.hazelcast.journal import Rank, Replay, Slot
from microq.message import Message
from microq.services.acceptance import UnacknowledgedError
from microq.services.deliverer import Deliverer
from microq.services.deliveries import FIRST, Deliveries, Delivery
from microq.services.inbox import Inbox
from microq.services.log_journal import LogJournal
from microq.services.shelf import Shelf
from microq.services.succession import Succession


class Unfenced(Shelf):
    """It stores a copy with a higher number as if it were the only one."""

    async def _fence(self, copies: Sequence[Message]) -> Collection[str]:
        del copies
        return ()


class Constant(Deliveries):
    """It counts, and gives each copy the number 1."""

    async def _change(self, message_id: str, change: Callable[[Delivery | None], Delivery]) -> Delivery:
        return replace(await super()._change(message_id, change), number=FIRST)


class ShownFirst(Shelf):
    """It shows a batch before it has appended it."""

    async def _append(self, hand: Sequence[Message]) -> list[Message]:
        self._hold(hand)
        return await super()._append(hand)


class Overwriting(Shelf):
    """It holds its batch whatever the slot has."""

    def _learn(self, slot: Slot) -> None:
        super()._learn(slot)
        self._hold(self._in_hand)

    async def _append(self, hand: Sequence[Message]) -> list[Message]:
        self._in_hand = hand
        return await super()._append(hand)


class Unmoved(Shelf):
    """It does not look what a fence in its journal revokes."""

    def is_revoked(self, copy: Message) -> bool:
        del copy
        return False


class Forgetful(Shelf):
    """It knows only the fences that it has met itself: none after a restart."""

    def remembered(self, mine: Replay) -> dict[str, Rank]:
        del mine
        return self._revoked


class Double(Inbox):
    """It holds a message twice if it comes twice at once."""

    def add(self, messages: Sequence[Message]) -> list[bool]:
        new = super().add(messages)
        if any(new):
            ids = [message.id for message in messages]
            super().add([replace(each, id=f"{each.id}\0") for n, each in enumerate(messages) if each.id in ids[:n]])
        return new

    def pages(self, *part: Any) -> Iterator[dict[int, Message]]:
        for page in super().pages(*part):
            yield {place: replace(each, id=each.id.rstrip("\0")) for place, each in page.items()}


class Twins(Shelf):
    """It keeps both of two copies in one hand."""

    inbox_type = Double

    def distinct(self, copies: Sequence[Message]) -> list[Message]:
        return list(copies)


class Sleeping(Shelf):
    """It does not look after a merge what is its own."""

    async def reconcile_after_joins(self) -> None:
        await asyncio.Event().wait()


class Timeless(Shelf):
    """It takes a copy from before a merge for the only one."""

    async def _note_joins(self, copies: object = ()) -> None:
        """Begin no era."""


class Unyielding(Shelf):
    """It keeps what another journal has too."""

    async def _yield(self, replays: Mapping[str, Replay]) -> Mapping[str, None]:
        del replays
        return {}


class Returned(Shelf):
    """It has its lease again, and does not tell its journal."""

    async def fence(self) -> None:
        """Append nothing."""


class Confident(Succession):
    """It shows what it holds whether or not it has its lease."""

    @property
    def valid(self) -> bool:
        return True


class EarlyAcknowledgement(Deliverer):
    """It acknowledges a message, and then writes the log."""

    async def accept(self, message: Message, *, keyed: bool) -> None:
        async def late() -> None:
            with suppress(UnacknowledgedError):
                await super(EarlyAcknowledgement, self).accept(message, keyed=keyed)

        self._late = asyncio.create_task(late())


class Blind(Deliverer):
    """It delivers nothing again."""

    async def _deliver_again(self, ids: Sequence[str]) -> None:
        """Do nothing."""


class Narrow(Deliverer):
    """It does not look into the lanes of other facades later."""

    async def _look_into_lanes(self) -> None:
        await asyncio.Event().wait()


class Careless(Narrow):
    """It does not ask what another facade left, at its start or later."""

    async def recover(self) -> bool:
        return True


class Unadopted(Deliverer):
    """It puts a message again while another facade may take it out of the log."""

    async def adopt(self, slot: str) -> Slot | None:
        return await self._store.log.get(slot)


class Burying(Deliverer):
    """It makes a dead letter of a message, and revokes nothing."""

    async def revoke_all(self, message_id: str, number: int) -> Collection[str]:
        del number
        return await self._fences.find([message_id], {})


class Keeping(LogJournal):
    """It leaves a refused message in the log."""

    async def take_out(self, slot_id: str, message_id: str) -> bool:
        del slot_id, message_id
        return True


class Doubtless(LogJournal):
    """It takes a slot without confirmation for not written."""

    async def _write(self, slot: Slot) -> str:
        try:
            async with asyncio.timeout(0.5):
                return await super()._write(slot)
        except TimeoutError:
            return "no answer"


JOURNAL_MUTATIONS: dict[str, JournalParts] = {
    "no fence": JournalParts(shelf=Unfenced),
    "number reused": JournalParts(deliveries=Constant),
    "puts repeated by client": JournalParts(repeated=frozenset(PUTS), rates={"carry out twice": 0.3}),
    "shown before appended": JournalParts(shelf=ShownFirst),
    "acknowledged before appended": JournalParts(deliverer=EarlyAcknowledgement),
    "slot overwritten": JournalParts(shelf=Overwriting),
    "fence ignored": JournalParts(shelf=Unmoved),
    "twins kept": JournalParts(shelf=Twins),
    "merge overlooked": JournalParts(shelf=Sleeping, splits=1.0),
    "nothing yielded": JournalParts(shelf=Unyielding, splits=1.0),
    "lease ignored": JournalParts(succession=Confident),
    "no redelivery": JournalParts(deliverer=Blind),
    "pending forgotten on restart": JournalParts(deliverer=Careless),
    "lanes overlooked": JournalParts(deliverer=Narrow),
    "refused left in log": JournalParts(log_journal=Keeping),
    "log write given up": JournalParts(log_journal=Doubtless),
}
"""Name of a defect -> the parts of a system that has it."""
