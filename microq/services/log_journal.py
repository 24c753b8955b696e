"""The log journals of a facade: it names the slot, and any logging-service writes it.

So a retry through another logging-service cannot write a batch twice. A lane is one log journal of one life of a
facade; its slots are written one after another. While it is unknown whether one is written, the lane is not used, and
the slot is written again until that is known. It is never given up: what may be in the log is delivered. No other
process writes a slot of a lane, so the two halves of a split cluster never write the same one.

What the queue refused is taken out of its slot by the facade that wrote it. That this facade alone may do it is not
enough: it may have been killed or paused after it sent the call, which is carried out late. So a facade that delivers
a message of another's lane adopts the slot first: it changes the mark by compare-and-set, and a call for the slot as it
was fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from microq.backends.hazelcast.journal import Slot
from microq.clock import Clock
from microq.errors import MicroqError, StoreError
from microq.message import Message
from microq.replicas import Replicas, ReplicasUnavailableError
from microq.services.deliveries import JournalStore, Lane, Marks
from microq.services.health import Health
from microq.services.takeover import PAUSE_SECONDS, until_answered

log = logging.getLogger(__name__)

OK = 200

WRITE_SECONDS = 2.0
"""Seconds after which the sender of a message hears that it is unknown whether it is in the log."""


class LogRefusedError(MicroqError):
    """The messages are certainly not in the log."""


class LogIndeterminateError(MicroqError):
    """The messages will be in the slot `slot_id` if this facade lives long enough; they may be there already."""

    def __init__(self, reason: str, slot_id: str) -> None:
        self.slot_id = slot_id
        super().__init__(reason)


class LogJournal:
    """Writes batches into the lanes of this facade. `tasks` is a group that lives as long as the facade."""

    def __init__(
        self, tasks: asyncio.TaskGroup, services: Replicas, store: JournalStore, marks: Marks, clock: Clock
    ) -> None:
        self._tasks, self._services, self._store, self.marks, self._clock = tasks, services, store, marks, clock
        self._free: list[tuple[str, int]] = []
        self._lanes = 0
        self._changing = asyncio.Lock()

    def owns(self, slot: Slot) -> bool:
        """Return whether this facade wrote a slot, and no other one has adopted it."""
        return slot.mark.startswith(f"{self.marks.life}.")

    def wrote(self, lane: str) -> bool:
        """Return whether a lane is one of this facade."""
        return lane.startswith(f"{self.marks.life}-")

    async def write(self, messages: Sequence[Message]) -> str:
        """Write a batch; return the id of its slot. Raises `LogRefusedError` or `LogIndeterminateError`."""
        lane, number = self._free.pop() if self._free else await self._open()
        slot = Slot(lane, number, next(self.marks), messages=tuple(messages), at=self._clock.wall())
        writing = self._tasks.create_task(self._write(slot))
        await asyncio.wait((writing,), timeout=WRITE_SECONDS)
        if not writing.done():
            raise LogIndeterminateError("the logging-services did not confirm the message", slot.id)
        if reason := writing.result():
            raise LogRefusedError(reason)
        return slot.id

    async def _open(self) -> tuple[str, int]:
        """Register a new lane: others look into the registered ones for what its facade left."""
        lane = f"{self.marks.life}-{self._lanes}"
        self._lanes += 1
        try:
            await self._store.lanes.write(Lane(lane, self._clock.wall()))
        except StoreError as error:
            raise LogRefusedError(f"no log journal can be opened: {error}") from error
        return lane, 0

    async def _write(self, slot: Slot) -> str:
        """Write a slot until the outcome is known; return why it is certainly not written, or an empty text."""
        sent = False
        while True:
            try:
                answer = await self._services.call("POST", "/log/slot", {"slot": slot.to_json()})
            except ReplicasUnavailableError as error:
                sent, reason = sent or error.sent, str(error)
            else:
                if answer.status == OK:
                    self._free.append((slot.journal, slot.number + 1))
                    return ""
                sent, reason = sent or answer.repeated, str(answer.body.get("message", answer.status))
            if not sent:
                self._free.append((slot.journal, slot.number))
                return reason
            await asyncio.sleep(PAUSE_SECONDS)

    async def take_out(self, slot_id: str, message_id: str) -> bool:
        """Take a refused message out of its slot; return False if another facade has adopted it: it is delivered.

        Waits until that is known.
        """
        async with self._changing:
            return await until_answered(self._take_out, slot_id, message_id)

    async def _take_out(self, slot_id: str, message_id: str) -> bool:
        while (slot := await self._store.log.get(slot_id)) is not None and self.owns(slot):
            if all(each.id != message_id for each in slot.messages):
                return True
            if await self._store.log.swap(slot, slot.without(message_id, next(self.marks))):
                return True
        return False

    async def adopt(self, slot_id: str) -> Slot | None:
        """Return a slot that no other facade changes from now on, if it is there. Raises as `RecordMap` does."""
        async with self._changing:
            while (slot := await self._store.log.get(slot_id)) is not None:
                if self.owns(slot):
                    return slot
                mine = replace(slot, mark=next(self.marks))
                if await self._store.log.swap(slot, mine):
                    return mine
        return None


async def write_slot(store: JournalStore, health: Health, body: Any) -> tuple[int, dict[str, Any]]:
    """Write a slot as a logging-service; return the HTTP status and the body of the answer. Raises `StoreError`."""
    wanted = replace(Slot.from_json(body["slot"]), by=health.name)
    found = await store.log.append(wanted)
    if found is wanted:
        health.count("messages_logged", len(wanted.messages))
    return OK, {"status": "success", "service": found.by}
