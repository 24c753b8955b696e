"""The deliverer: the facade's part in the journals. It accepts messages, and delivers each until it is stored or dead.

Accepted: the message is in a log journal and in the queue. It is watched until a store journal has it; the facade hears
of that by reading the next slots of these journals. What has left the queue and is in none of them for the visibility
timeout is put again, with a new number. Nothing is decided by what this process remembers: before it puts a message
again it looks into the journals, and the consumer that gets the copy fences it.

After the last redelivery a message becomes a dead letter. That is one more delivery, to no messages-service: all lower
numbers are revoked in all journals, so that what is dead is never stored.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

from microq.aio import task_group
from microq.backends.base import EMPTY, MessageQueue
from microq.backends.hazelcast.journal import Slot
from microq.config import Config
from microq.errors import (
    QueueError,
    QueueFullError,
    QueueIndeterminateError,
    QueueUnavailableError,
    StoreError,
    StoreUnavailableError,
)
from microq.message import Message
from microq.services.acceptance import (
    AGAIN,
    CONFLICT,
    INDETERMINATE,
    LOG_PATIENCE,
    PUT_PATIENCE,
    PUT_PAUSE,
    PUT_SECONDS,
    GroupCommit,
    UnacknowledgedError,
)
from microq.services.deliveries import FIRST, AnotherTextError, Deliveries, Delivery, JournalStore
from microq.services.fences import DEAD, Fences, earliest
from microq.services.health import Health
from microq.services.log_journal import LogIndeterminateError, LogJournal, LogRefusedError
from microq.services.merges import Merges
from microq.services.shelf import LATE_LOOKS, current_era, journals

log = logging.getLogger(__name__)

ROUND_SECONDS = 0.5
"""Seconds between two rounds."""

CHECK_SECONDS = 10.0
"""Seconds between two looks into the lanes of other facades, which may be dead."""

REFUSED = 503


@dataclass(slots=True)
class Pending:
    """A message that is not stored, as far as known: the `slot` of the log that it is in, and the `places` from before.

    `put` is the monotonic time of its last put (infinite while it lasts), `left` when it was first known to have left
    the queue.
    """

    slot: str
    places: Mapping[str, int] = field(default_factory=dict)
    put: float = math.inf
    left: float | None = None


class Deliverer:
    """Accepts and delivers. `tasks` is a group that lives as long as the facade."""

    pause = ROUND_SECONDS

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        config: Config,
        queue: MessageQueue,
        log_journal: LogJournal,
        store: JournalStore,
        health: Health,
    ) -> None:
        self._queue, self._log, self._store, self._health = queue, log_journal, store, health
        self._clock = health.clock
        self._timeout, self._most = config.queue.visibility_timeout, config.queue.max_deliveries
        self._journals = journals(config)
        marks = log_journal.marks
        self._fences = Fences(store.stored, self._journals, health.name, marks, self._clock)
        self.deliveries = Deliveries(store.deliveries, marks, self._clock.wall)
        self._pending: dict[str, Pending] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._places: Mapping[str, int] = {}
        self._joins, self._era = 0, 0
        self._lanes: dict[str, int] = {}
        """The lanes of other facades -> the slot up to which they were read."""
        self.merges = Merges(store.joins.event)
        self._logs = GroupCommit(tasks, self._log_all, _weight, config.limits.max_body, LOG_PATIENCE)
        self._puts = GroupCommit(tasks, self._put_all, _weight, config.limits.max_body, PUT_PATIENCE)

    # -- acceptance ---------------------------------------------------------------------------------------------------

    async def accept(self, message: Message, *, keyed: bool) -> None:
        """Write a message into the log and put it into the queue; `keyed`: a client named it, and may send it again.

        Raises `UnacknowledgedError`.
        """
        self._note_joins()
        async with self._turn(message.id):
            claimed = await self._claim(message) if keyed else None
            number = claimed.number if claimed else FIRST
            first = number == FIRST and message.id not in self._pending
            # What was sent before may be stored anywhere.
            joins, places = self._joins, self._places if first else {}
            slot = await self._write_log(message, places, claimed, first=first)
            self._note_joins()
            if joins != self._joins:
                places = {}
            self._pending[message.id] = Pending(slot, places)
            try:
                await self._put(replace(message, delivery=number, places=places, era=self._era), first=first)
            except _RefusedError as error:
                await self._take_back(message.id, slot, claimed, str(error))
            finally:
                self._note_put(message.id)

    async def _claim(self, message: Message) -> Delivery:
        try:
            claimed = await self.deliveries.claim(message)
            # While halves merge, the other one may have the id, and its entry is yet to come.
            doubtful = claimed.number == FIRST and self.merges.in_progress
            return await self.deliveries.next(message.id) if doubtful else claimed
        except AnotherTextError as error:
            raise UnacknowledgedError(CONFLICT, str(error)) from error
        except StoreUnavailableError as error:
            raise UnacknowledgedError(REFUSED, f"{error}; the message was not accepted, send it again later") from error
        except StoreError as error:
            raise UnacknowledgedError(INDETERMINATE, f"{error}; {AGAIN}") from error

    async def _write_log(
        self, message: Message, places: Mapping[str, int], claimed: Delivery | None, *, first: bool
    ) -> str:
        try:
            return await self._logs.submit(message)
        except LogIndeterminateError as error:
            if message.id not in self._pending:
                self._pending[message.id] = Pending(error.slot_id, places, self._clock.monotonic())
            raise UnacknowledgedError(INDETERMINATE, f"{error}; {AGAIN}") from error
        except LogRefusedError as error:
            if not first:
                raise UnacknowledgedError(INDETERMINATE, f"{error}, and it was sent before; {AGAIN}") from error
            await self._unclaim(claimed)
            raise UnacknowledgedError(REFUSED, f"{error}; the message was not accepted, send it again later") from error

    async def _log_all(self, messages: Sequence[Message]) -> Sequence[str]:
        slot = await self._log.write(messages)
        return [slot] * len(messages)

    async def _put(self, copy: Message, *, first: bool) -> None:
        """Put a copy; after an indeterminate put another one, with a number of its own.

        Raises `_RefusedError` if no copy can be in the queue, else `UnacknowledgedError`.
        """
        end = self._clock.monotonic() + PUT_SECONDS
        while True:
            try:
                return await self._puts.submit(copy)
            except QueueIndeterminateError as error:
                first = False
                if self._clock.monotonic() >= end:
                    raise UnacknowledgedError(INDETERMINATE, f"{error}; {AGAIN}") from error
                await asyncio.sleep(PUT_PAUSE)
                copy = replace(copy, delivery=await self._another_number(copy.id))
            except QueueError as error:
                if first:
                    raise _RefusedError(str(error)) from error
                raise UnacknowledgedError(INDETERMINATE, f"{error}, and it was sent before; {AGAIN}") from error

    async def _another_number(self, message_id: str) -> int:
        try:
            return (await self.deliveries.next(message_id)).number
        except StoreError as error:
            raise UnacknowledgedError(INDETERMINATE, f"{error}; {AGAIN}") from error

    async def _put_all(self, copies: Sequence[Message]) -> Sequence[QueueError | None]:
        """Put copies together, or one by one if there is no room for all of them."""
        try:
            await self._queue.put(copies)
        except QueueFullError as error:
            return [error] if len(copies) == 1 else [await self._put_alone(copy) for copy in copies]
        return [None] * len(copies)

    async def _put_alone(self, copy: Message) -> QueueError | None:
        try:
            await self._queue.put([copy])
        except QueueError as error:
            return error
        return None

    async def _take_back(self, message_id: str, slot: str, claimed: Delivery | None, reason: str) -> None:
        """Take a refused message out of the log; raises the `UnacknowledgedError` for its sender."""
        if not await self._log.take_out(slot, message_id):
            raise UnacknowledgedError(INDETERMINATE, f"{reason}, and another facade delivers it; {AGAIN}")
        self._settle(message_id)
        await self._unclaim(claimed)
        raise UnacknowledgedError(REFUSED, f"{reason}; the message was not accepted, send it again later")

    async def _unclaim(self, claimed: Delivery | None) -> None:
        if claimed:
            try:
                await self.deliveries.forget(claimed)
            except StoreError as error:
                log.warning("the id %s stays in use for its text: %s", claimed.id, error)

    def _turn(self, message_id: str) -> asyncio.Lock:
        """Return the lock of a message: one task at a time sends it or delivers it again."""
        return self._turns.setdefault(message_id, asyncio.Lock())

    # -- what is watched ----------------------------------------------------------------------------------------------

    def _note_put(self, message_id: str) -> None:
        if pending := self._pending.pop(message_id, None):
            pending.put, pending.left = self._clock.monotonic(), None
            self._pending[message_id] = pending  # last: the order is that of the puts
        self._health.wait_for(len(self._pending))

    def _settle(self, message_id: str) -> None:
        """Stop watching a message: it is stored, dead, or nowhere."""
        self._pending.pop(message_id, None)
        self._health.wait_for(len(self._pending))

    def _expect(self, message_id: str, slot: str) -> None:
        """Watch a message of the log that another facade accepted, if it is not watched yet."""
        if message_id not in self._pending:
            self._pending[message_id] = Pending(slot, put=self._clock.monotonic())

    def _note_joins(self) -> None:
        """After a join, know no places: the halves of a split cluster may have had more slots than the merged one."""
        if self._joins != self._store.joins.count:
            self._joins, self._places = self._store.joins.count, {}
            for pending in self._pending.values():
                pending.places = {}

    # -- the rounds ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch until cancelled; begin with what earlier facades left."""
        async with task_group() as tasks:
            tasks.create_task(self.merges.follow(self._compared))
            tasks.create_task(self._look_into_lanes())
            recovered = False
            while True:
                recovered = recovered or await self.recover()
                await self._round()
                await asyncio.sleep(self.pause)

    async def recover(self) -> bool:
        """Watch what is in the log, and neither stored nor dead; return whether the maps could be read."""
        try:
            self._era = await current_era(self._store)
            logged = {
                message.id: slot.id
                async for page in self._store.log.scan()
                for slot in page
                for message in slot.messages
                if self._note_lane(slot.journal, slot.number + 1)
            }
            replays = await self._store.stored.replay()
            stored = {message.id for replay in replays.values() for message, _ in replay.live()}
            dead = {each.id async for page in self._store.deliveries.scan() for each in page if each.dead}
        except StoreError as error:
            log.warning("cannot compare the log with the journals, trying again: %s", error)
            return False
        for message_id, slot in logged.items():
            if message_id not in stored and message_id not in dead:
                self._expect(message_id, slot)
        return True

    async def _compared(self) -> int | None:
        """Compare after a join: what was stored in the smaller half may be stored no more."""
        return 0 if await self.recover() else None

    def _note_lane(self, lane: str, place: int) -> bool:
        """Note up to where a lane was read."""
        if not self._log.wrote(lane):
            self._lanes[lane] = max(place, self._lanes.get(lane, 0))
        return True

    async def _look_into_lanes(self) -> None:
        """From time to time, watch what is new in the lanes of others: a slot may be written after its facade died.

        After a join or a start, compare everything some more times.
        """
        joins, looks = -1, 0  # a start counts as a join: a merge may still bring entries
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if joins != self._store.joins.count:
                joins, looks = self._store.joins.count, LATE_LOOKS
            if looks and await self.recover():
                looks -= 1
            try:
                for lane in await self._store.lanes.all():
                    if not self._log.wrote(lane.id):
                        async for slot in self._store.log.read(lane.id, self._lanes.get(lane.id, 0)):
                            self._note_lane(lane.id, slot.number + 1)
                            for message in slot.messages:
                                self._expect(message.id, slot.id)
            except StoreError as error:
                log.warning("cannot look into the log journals of other facades, trying again: %s", error)

    async def _round(self) -> None:
        """Settle what is stored, and deliver what is due again, as far as queue and maps can be read."""
        self._note_joins()
        try:
            # Consumers fence the copies of an earlier era.
            self._era = await current_era(self._store)
            if not self._pending:
                return
            await self._follow()
            await self._look_at_queue()
            due = self._clock.monotonic() - self._timeout
            late = [i for i, each in self._pending.items() if each.left is not None and each.left <= due]
            if late:
                await self._deliver_again(late)
        except (QueueError, StoreError) as error:
            log.warning("the watch could not read everything, trying again: %s", error)

    async def _follow(self) -> None:
        """Read the next slots of all store journals."""
        for journal in self._journals:
            joins = self._joins
            async for slot in self._store.stored.read(journal, self._places.get(journal, 0)):
                for message in slot.messages:
                    self._settle(message.id)
                self._note_joins()
                if joins != self._joins:
                    return
                self._places = {**self._places, journal: slot.number + 1}

    async def _look_at_queue(self) -> None:
        """Note which messages have left the queue: those that were put before its head was accepted."""
        head = await self._queue.head()
        if head is None or (head.epoch != self._health.epoch and head != EMPTY):
            return  # another or an earlier facade accepted it: its order relative to these messages is unknown
        now = self._clock.monotonic()
        for pending in self._pending.values():
            if pending.put < head.since and pending.left is None:
                pending.left = now

    async def _deliver_again(self, ids: Sequence[str]) -> None:
        places = earliest([self._pending[message_id].places for message_id in ids])
        for message_id in await self._fences.find(ids, places):
            self._settle(message_id)
        for message_id in ids:
            turn = self._turn(message_id)
            if message_id in self._pending and not turn.locked():  # else a client sends it again at this moment
                async with turn:
                    await self._deliver_one(message_id, self._pending[message_id])

    async def _deliver_one(self, message_id: str, pending: Pending) -> None:
        slot = await self.adopt(pending.slot)
        if slot is None:
            return self._note_put(message_id)  # not written yet, or a merge is to bring it
        message = next((each for each in slot.messages if each.id == message_id), None)
        if message is None:
            return self._settle(message_id)  # the queue refused it
        before = await self.deliveries.get(message_id)
        if before and before.dead:
            return self._settle(message_id)
        record = await self.deliveries.next(message_id, tries=1)
        if record.tries >= self._most:
            return await self._give_up(message, record)
        copy = replace(self.stamped(message), delivery=record.number, places=pending.places, era=self._era)
        try:
            await self._queue.put([copy])
        except (QueueFullError, QueueUnavailableError):
            await self.deliveries.swap(record, replace(record, tries=record.tries - 1))
        except QueueError as error:
            log.warning("%s: %s", message_id, error)
        self._health.count("messages_redelivered")
        return self._note_put(message_id)

    async def adopt(self, slot: str) -> Slot | None:
        """Make sure that no other facade takes a message out of the log that is put again."""
        return await self._log.adopt(slot)

    def stamped(self, message: Message) -> Message:
        """Return a message with the current times, in its form for the queue."""
        now, epoch = self._clock.monotonic(), self._health.epoch
        return replace(message, at=self._clock.wall(), by="", since=now, epoch=epoch)

    async def _give_up(self, message: Message, record: Delivery) -> None:
        """Make a message a dead letter, unless it is stored, or sent again meanwhile."""
        if not await self.revoke_all(message.id, record.number):
            reason = f"not stored after {self._most} deliveries"
            if not await self.deliveries.swap(record, replace(record, dead=True, text=message.text, reason=reason)):
                return self._note_put(message.id)
        return self._settle(message.id)

    async def revoke_all(self, message_id: str, number: int) -> Collection[str]:
        """Revoke all deliveries of a message up to a number; return its id if it is stored."""
        return await self._fences.raise_for({message_id: (number, DEAD)}, {})


class _RefusedError(Exception):
    """No copy of a message can be in the queue."""


def _weight(message: Message) -> int:
    return 6 * len(message.text) + 512
