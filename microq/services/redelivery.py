"""Redelivery: an accepted message that left the queue and is not stored is put into the queue again.

An IQueue does not keep delivered items, so a message would be lost with the consumer that took it. The message is still
in the `log` map. The facade knows which messages it put into the queue and, from the consumers' `/arrivals`, which of
them were stored. A message has left the queue if the head of the queue is younger. If it is not stored within the
visibility timeout after that, it is redelivered from the log, unless a consumer reports that it is storing it. This
needs no operation per message in the cluster, and does not grow with the number of messages held.

While halves of a split cluster merge, the maps may lack entries, for a while or for ever. So a missing entry proves
nothing: the watch keeps the texts of the messages that it watches, and writes missing ones into the log again.

A facade that is killed forgets what it watched; the next one compares the log with the store once, when it starts. The
same is done after members joined, and whenever the log has more entries than can be explained.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

import aiohttp

from microq.aio import task_group
from microq.backends.base import EMPTY, MessageQueue
from microq.client import get_json
from microq.config import Address, Config
from microq.errors import MicroqError, QueueError, QueueFullError, QueueUnavailableError, StoreError
from microq.log import GivenUp, NotRedelivered, Redelivered
from microq.message import DeadLetter, Message, Redelivery
from microq.services.health import Health
from microq.services.merges import Merges
from microq.store import Store

log = logging.getLogger(__name__)

ROUND_SECONDS = 0.5
"""Seconds between two rounds."""

ANSWER_SECONDS = 1.0
"""Seconds for a messages-service to report what arrived; a paused one does not report."""

LARGEST_ROUND = 256
"""The largest number of messages redelivered in one round."""

MOST_KEPT = 64 << 20
"""Bytes of the texts of watched messages that are kept; beyond that, the oldest texts are only in the log."""

MISSING_SECONDS = 60.0
"""Seconds for which it looks for a message that is in no map and whose text is not kept: a merge takes up to 20 s."""

CHECK_SECONDS = 10.0
"""Seconds between two checks for log entries that are not watched: a service that hung may write an entry late."""

KEPT_SECONDS = 1800.0
"""How long a stored message is still listed as redelivered."""

SWEEP_SECONDS = 60.0
"""Seconds between two removals of records that are older than that."""

READ_AT_ONCE = 32
"""Log entries that are read at one time to know their sizes: each may have a megabyte."""

_IN_PROGRESS = math.inf
"""The time of the put of a message whose put is not finished."""

_NO_EPOCH = "none"
"""The epoch of a messages-service that did not answer the first request: later all its ids count as new."""


@dataclass(slots=True)
class _Place:
    """The place up to which the arrivals of one messages-service were read."""

    epoch: str = ""
    next: int = 0


class Texts:
    """The texts of messages by id; if they take more than `most` bytes, the oldest are forgotten."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most, self._bytes = most, 0
        self._texts: dict[str, str] = {}

    def keep(self, message_id: str, text: str) -> None:
        """Keep a text, as the newest."""
        self.forget(message_id)
        self._texts[message_id] = text
        self._bytes += text.__sizeof__()
        while self._bytes > self._most:
            self.forget(next(iter(self._texts)))

    def get(self, message_id: str) -> str | None:
        """Return a text, if it is kept."""
        return self._texts.get(message_id)

    def forget(self, message_id: str) -> None:
        """Forget a text, if it is kept."""
        text = self._texts.pop(message_id, None)
        if text is not None:
            self._bytes -= text.__sizeof__()


class Watch:
    """Watches the messages that the facade accepted and that are not stored yet, and redelivers them if necessary."""

    pause = ROUND_SECONDS

    def __init__(
        self,
        config: Config,
        session: aiohttp.ClientSession,
        queue: MessageQueue,
        store: Store,
        health: Health,
    ) -> None:
        self._health, self._clock = health, health.clock
        self._timeout, self._most = config.queue.visibility_timeout, config.queue.max_deliveries
        self._session, self._queue, self._store = session, queue, store
        self._places = {address: _Place() for address in config.service_ips.messages_service}
        # Keys are ids, times are monotonic. When a message was put into the queue, in order.
        self._put: dict[str, float] = {}
        # When it was first known to have left the queue.
        self._left: dict[str, float] = {}
        # When it was first found in no map, if its text is not kept.
        self._missing: dict[str, float] = {}
        self._texts = Texts()
        self._arrivals_unknown = False
        # For each comparison in progress, the messages that were settled meanwhile: what it has read of them is old.
        self._settled_meanwhile: list[set[str]] = []
        """Whether a consumer did not answer or was restarted since the last round: what it stored is unknown."""
        self._doubtful: list[str] = []
        """Ids that such a consumer may have stored; the store has to be read for them."""
        self.on_settle: Callable[[str], None] = lambda _message_id: None
        self.on_find: Callable[[Message], None] = lambda _message: None
        """Called with each message that another facade accepted, before it is watched."""
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.merges = Merges(store.joined)
        self._began = self._clock.monotonic()
        self._given_up = 0
        """The number of log entries that are not stored and never will be, as far as is known."""

    def stamped(self, message: Message) -> Message:
        """Return a message with the current times, in its form for the queue."""
        now, epoch = self._clock.monotonic(), self._health.epoch
        return replace(message, at=self._clock.wall(), by="", since=now, epoch=epoch)

    def turn(self, message_id: str) -> asyncio.Lock:
        """Return the lock of a message: only one task at a time sends it, takes it back or redelivers it.

        Otherwise a refused send could remove the log entry of a message that another send or a redelivery has put.
        """
        return self._turns.setdefault(message_id, asyncio.Lock())

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._put

    def __len__(self) -> int:
        return len(self._put)

    @property
    def pending(self) -> int:
        """The number of messages that all workers of the facade watch."""
        return self._health.pending

    async def has_arrived(self, message_id: str) -> bool:
        """Return whether a message is stored; False also if the store is unavailable."""
        try:
            return await self._store.stored.get(message_id) is not None
        except StoreError:
            return False

    async def has_logged(self, message_id: str) -> bool:
        """Return whether a message is or may be in the log. Raises `StoreError` if that is unknown."""
        return message_id in self or await self._store.log.get(message_id) is not None

    def has_given_up(self, record: Redelivery | None) -> bool:
        """Return whether a message had all its deliveries; this stays so when its dead letter is dropped."""
        return record is not None and record.tries >= self._most

    async def revive(self, message_id: str) -> None:
        """Count the deliveries of a message that is sent again after it was given up from 0."""
        if self.has_given_up(await self._store.redelivered.get(message_id)):
            await self._store.redelivered.remove(message_id)
            self._given_up = max(0, self._given_up - 1)

    # -- reports of the facade ----------------------------------------------------------------------------------------

    def expect(self, message: Message) -> None:
        """Watch a message that may be in the log, if it is not watched yet."""
        self._texts.keep(message.id, message.text)
        self._expect(message.id)

    def _expect(self, message_id: str) -> None:
        if message_id not in self._put:
            self._watch(message_id)

    def begin(self, message: Message) -> None:
        """Watch a message before its put: its arrival may be reported before the queue has confirmed the put."""
        self._texts.keep(message.id, message.text)
        self._put[message.id] = _IN_PROGRESS
        self._health.wait_for(len(self._put))

    def settle(self, message_id: str) -> None:
        """Stop watching a message: it was stored, or is nowhere."""
        self._texts.forget(message_id)
        self._forget(message_id)
        for settled in self._settled_meanwhile:
            settled.add(message_id)
        self._missing.pop(message_id, None)
        self.on_settle(message_id)
        self._health.wait_for(len(self._put))

    def _forget(self, message_id: str) -> None:
        self._put.pop(message_id, None)
        self._left.pop(message_id, None)

    def put(self, message_id: str) -> None:
        """Note that the put of a message was confirmed or is indeterminate, unless it has arrived meanwhile."""
        if message_id in self._put:
            self._watch(message_id)

    def _watch(self, message_id: str) -> None:
        # Removed first, so that the order stays that of the puts.
        self._forget(message_id)
        self._put[message_id] = self._clock.monotonic()
        self._health.wait_for(len(self._put))

    # -- the rounds ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch until cancelled; begin with the messages of an earlier facade."""
        async with task_group() as tasks:
            tasks.create_task(self.merges.follow(self._compared))
            tasks.create_task(self._tidy())
            for address, place in self._places.items():
                tasks.create_task(self._listen(address, place))
            recovered = False
            while True:
                recovered = recovered or await self.recover()
                if self._put:
                    await self._redeliver_due()
                await asyncio.sleep(self.pause)

    async def _listen(self, address: Address, place: _Place) -> None:
        """Read the arrivals of one messages-service until cancelled: one that hangs does not delay the others."""
        while True:
            if self._put:
                await self._read_arrivals_of(address, place)
            await asyncio.sleep(self.pause)

    async def recover(self) -> bool:
        """Watch the messages that are in the log and not stored: the facade that accepted them may be dead.

        Return whether log and store could be read. Of several workers the first one does it for all.
        """
        await self._read_arrivals()
        return await self._compare()

    async def _compared(self) -> int | None:
        """Compare after a join; return 0 if log and store could be read: under traffic a difference proves no loss."""
        return 0 if await self._compare() else None

    async def _compare(self) -> bool:
        """Watch the messages that are in the log and not stored; return whether log and store could be read."""
        if self._health.worker:
            return True
        found = given_up = 0
        settled: set[str] = set()
        self._settled_meanwhile.append(settled)
        try:
            dead = {r.id async for page in self._store.redelivered.scan() for r in page if self.has_given_up(r)}
            async for page in self._store.log.ids_not_in(self._store.stored):
                given_up += sum(message_id in dead for message_id in page)
                news = [message_id for message_id in page if message_id not in dead and message_id not in self._put]
                found += len(news)
                for first in range(0, len(news), READ_AT_ONCE):
                    await self._find(news[first : first + READ_AT_ONCE], settled)
        except StoreError as error:
            log.warning("cannot compare the log with the store, trying again: %s", error)
            return False
        finally:
            self._settled_meanwhile = [each for each in self._settled_meanwhile if each is not settled]
        self._given_up = given_up
        if found:
            log.info("%d messages in the log are not stored; watching them", found)
        return True

    async def _find(self, ids: Sequence[str], settled: Collection[str]) -> None:
        """Watch messages that another facade put into the log, without those that were `settled` meanwhile."""
        messages = await self._store.log.some(ids)
        for message_id in ids:
            if message_id in settled or message_id in self._put:  # it may have been sent again meanwhile
                continue
            if message_id in messages:
                self.on_find(messages[message_id])
            self._expect(message_id)

    async def _tidy(self) -> None:
        """From time to time, watch log entries that are not watched, and remove records that are no longer needed."""
        if self._health.worker:
            return
        swept, before = self._clock.monotonic(), 0
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self.withdraw()
                excess = await self.unexplained()
                if excess > 0 and before > 0:  # twice: the two sizes are not read at one moment
                    await self._compare()
                before = excess
                if self._clock.monotonic() - swept >= SWEEP_SECONDS:
                    await self.sweep()
                    swept = self._clock.monotonic()
            except StoreError as error:
                log.warning("the watch could not read the maps: %s", error)

    async def unexplained(self) -> int:
        """Return how many log entries are neither stored nor watched nor given up; 0 or less means none."""
        logged, stored = await asyncio.gather(self._store.log.size(), self._store.stored.size())
        return logged - stored - self.pending - self._given_up

    async def withdraw(self) -> None:
        """Remove the dead letters of messages that were stored after all: a consumer that hung may store one late."""
        if not await self._store.dead.size():
            return
        async for page in self._store.dead.scan():
            for message_id in await self._store.stored.some([letter.id for letter in page if letter.replayable]):
                await self._store.dead.remove(message_id)
                await self.revive(message_id)
                log.warning("%s was stored after it had become a dead letter, which is removed", message_id)

    async def sweep(self) -> None:
        """Remove old records of redeliveries whose messages are stored; those of given-up messages stay."""
        if not await self._store.redelivered.size():
            return
        async for page in self._store.redelivered.scan():
            old = [r.id for r in page if not self.has_given_up(r) and self._age(r) > KEPT_SECONDS]
            for message_id in await self._store.stored.some(old) if old else ():
                await self._store.redelivered.remove(message_id)

    def _age(self, record: Redelivery) -> float:
        """Return how many seconds ago a message was redelivered; a lower bound for an earlier life of the facade."""
        now = self._clock.monotonic()
        return now - (record.since if record.epoch == self._health.epoch else self._began)

    async def look(self) -> None:
        """Read the arrivals of all messages-services, settle them, and redeliver the messages that are due."""
        await self._read_arrivals()
        await self._redeliver_due()

    async def _redeliver_due(self) -> None:
        """Redeliver the messages that are due, as far as queue and store can be read."""
        try:
            await self._look_at_queue()
            await self._look_at_store()
            await self._redeliver()
        except (QueueError, StoreError) as error:
            log.warning("the watch could not read everything, trying again: %s", error)

    async def _read_arrivals(self) -> None:
        await asyncio.gather(*(self._read_arrivals_of(address, place) for address, place in self._places.items()))

    async def _read_arrivals_of(self, address: Address, place: _Place) -> None:
        more = True
        while more:
            path = f"/arrivals?epoch={place.epoch}&after={place.next}"
            try:
                answer = await get_json(self._session, address, path, ANSWER_SECONDS)
                ids, more = list(map(str, answer["ids"])), bool(answer["more"])
                taken = list(map(str, answer.get("taken", ())))
                self._arrivals_unknown = self._arrivals_unknown or place.epoch not in {
                    "",
                    _NO_EPOCH,
                    str(answer["epoch"]),
                }
                place.epoch, place.next = str(answer["epoch"]), int(answer["next"])
            except MicroqError:
                self._arrivals_unknown = True
                place.epoch = place.epoch or _NO_EPOCH
                return  # it is down; the store shows what it has stored
            except (LookupError, TypeError, ValueError, AttributeError):
                log.warning("the process that answers at %s is not a messages-service", address)
                return
            for message_id in ids:
                self.settle(message_id)
            for message_id in taken:
                self._left.pop(message_id, None)  # a consumer is storing it: its time begins again

    async def _look_at_queue(self) -> None:
        """Note which messages have left the queue: those that were put before its head."""
        head = await self._queue.head()
        if head is None or (head.epoch != self._health.epoch and head != EMPTY):
            return  # another or an earlier facade accepted it: its order relative to this facade's messages is unknown
        now = self._clock.monotonic()
        for message_id, put in self._put.items():
            if put is _IN_PROGRESS:
                continue
            if put >= head.since:
                return
            self._left.setdefault(message_id, now)

    async def _look_at_store(self) -> None:
        """Settle messages that a consumer stored before it was stopped or killed without having reported them."""
        if self._arrivals_unknown and not self._doubtful:
            # A consumer that still does not answer sets it again within a round.
            self._doubtful, self._arrivals_unknown = list(self._left), False
        some, self._doubtful = self._doubtful[:LARGEST_ROUND], self._doubtful[LARGEST_ROUND:]
        if some:
            for message_id in await self._store.stored.some(some):
                self.settle(message_id)

    async def _redeliver(self) -> None:
        due = self._clock.monotonic() - self._timeout
        for message_id in [i for i, left in self._left.items() if left <= due][:LARGEST_ROUND]:
            turn = self.turn(message_id)
            if not turn.locked():  # else a client sends it again at this moment
                async with turn:
                    await self._redeliver_one(message_id)

    async def _redeliver_one(self, message_id: str) -> None:
        if await self._store.stored.get(message_id):
            return self.settle(message_id)
        # Renewed: another worker, whose send wrote the entry and is refused, must not remove it now.
        message = await self._store.log.renew(message_id) or await self._log_again(message_id)
        if message is None:
            return self._miss(message_id)
        self._missing.pop(message_id, None)
        record = await self._store.redelivered.get(message_id)
        if record and record.epoch == self._health.epoch and self._age(record) < self._timeout:
            return self._watch(message_id)  # another worker, which watches it too, has just redelivered it
        before = record.tries if record else 0
        if before + 1 >= self._most:
            return await self._give_up(message)
        # Counted first: a redelivery that is not counted would hide a loss in the queue.
        await self._count(message_id, before + 1)
        if not await self._put_again(message):
            redelivered = self._store.redelivered
            await (redelivered.write(record) if record else redelivered.remove(message_id))
        return None

    async def _log_again(self, message_id: str) -> Message | None:
        """Write a message that a merge removed from the log into it again, if its text is kept."""
        text = self._texts.get(message_id)
        if text is None:
            return None
        (kept,) = await self._store.log.add([Message(message_id, text)])
        if kept.new:
            self._health.count("messages_relogged")
            log.warning("wrote %s into the log again: its entry was lost", message_id)
        return kept.message

    def _miss(self, message_id: str) -> None:
        """Keep looking for a message that is in no map, for a limited time: a merge may bring it."""
        now = self._clock.monotonic()
        if self.merges.in_progress:
            self._missing.pop(message_id, None)
        elif now - self._missing.setdefault(message_id, now) >= MISSING_SECONDS:
            log.error("%s is nowhere: neither stored, nor in the log, and its text is not kept", message_id)
            return self.settle(message_id)
        return self._watch(message_id)

    async def _count(self, message_id: str, tries: int) -> None:
        now, epoch = self._clock.monotonic(), self._health.epoch
        await self._store.redelivered.write(Redelivery(message_id, tries, self._clock.wall(), now, epoch))

    async def _put_again(self, message: Message) -> bool:
        """Put a message into the queue; return whether it may be in it."""
        try:
            await self._queue.put([self.stamped(message)])
        except (QueueFullError, QueueUnavailableError) as error:
            log.warning(NotRedelivered(message.id, str(error)))
            return False
        except QueueError as error:
            log.warning("%s: %s", message.id, error)
        self._watch(message.id)
        self._health.count("messages_redelivered")
        log.warning(Redelivered(message.id, int(self._timeout)))
        return True

    async def _give_up(self, message: Message) -> None:
        reason = f"not stored after {self._most} deliveries"
        letter = DeadLetter(message.id, message.text, reason, "facade", self._clock.wall(), replayable=True)
        await self._store.dead.write(letter)
        await self._count(message.id, self._most)  # this record stays when the dead letter is dropped
        self._given_up += 1
        self.settle(message.id)
        log.error(GivenUp(message.id, self._most))
