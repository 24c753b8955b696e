"""The watch over what was accepted: what leaves the queue and is stored nowhere is put into the queue again.

An IQueue forgets what it gave, so a message in the hands of a consumer that dies would be gone. The `log` map has it,
and the facade knows what it put into the queue and, from the consumers' `/arrivals`, what of it was stored. What is
left over, has left the queue (whose head is younger) and stays away for the visibility timeout, is redelivered from
the log. Nothing of this is work per message in the cluster, and nothing grows with the number of messages held.

A facade that was killed forgets what it watched; the next one compares the log with what is stored, once, at its start.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import time
from dataclasses import dataclass
from weakref import WeakValueDictionary

import aiohttp

from microq.client import get_json
from microq.config import Address, Config
from microq.errors import MicroqError, QueueAwayError, QueueError, QueueFullError, StoreError
from microq.letters import DeadLetter, Redelivery
from microq.message import Message
from microq.queues.base import MessageQueue
from microq.services.health import Health
from microq.store import Store

log = logging.getLogger(__name__)

ROUND_SECONDS = 0.5
"""Pause between two looks at what arrived."""

ANSWER_SECONDS = 1.0
"""How long a messages-service may take to tell what arrived; one that is paused tells nothing."""

LARGEST_ROUND = 256
"""Messages redelivered in one round: a long absence is made up for bit by bit."""

_UNDER_WAY = math.inf
"""When a message was put that is still on its way into the queue."""

_NO_EPOCH = "none"
"""The epoch of a messages-service that was away when it was asked first: all that it will tell is news."""


@dataclass(slots=True)
class _Place:
    """How far the arrivals of one messages-service were heard."""

    epoch: str = ""
    next: int = 0


class Watch:
    """What the facade accepted and nobody has stored yet, as far as this process knows."""

    pause = ROUND_SECONDS

    def __init__(
        self, config: Config, session: aiohttp.ClientSession, queue: MessageQueue, store: Store, health: Health
    ) -> None:
        self._health = health
        self._timeout, self._most = config.queue.visibility_timeout, config.queue.max_deliveries
        self._session, self._queue, self._store = session, queue, store
        self._places = {address: _Place() for address in config.service_ips.messages_service}
        # Both by id. When it was put into the queue: wall time, to be compared with `Message.at` in the queue.
        self._put: dict[str, float] = {}
        # When it was first seen to have left the queue: monotonic time.
        self._left: dict[str, float] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn(self, message_id: str) -> asyncio.Lock:
        """Return the lock of a message: who sends, takes back or redelivers it does so alone.

        Else a send that is refused could take back the log entry of what another send, or a redelivery, put.
        """
        return self._turns.setdefault(message_id, asyncio.Lock())

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._put

    def __len__(self) -> int:
        return len(self._put)

    @property
    def pending(self) -> int:
        """How many messages all workers of the facade watch."""
        return self._health.pending

    async def has_arrived(self, message_id: str) -> bool:
        """Return whether a message is stored; False as well if nobody can be asked now."""
        try:
            return await self._store.stored.get(message_id) is not None
        except StoreError:
            return False

    def has_given_up(self, record: Redelivery | None) -> bool:
        """Return whether a message was delivered as often as may be; it stays so when its dead letter is dropped."""
        return record is not None and record.tries >= self._most

    # -- what the facade tells ----------------------------------------------------------------------------------------

    def expect(self, message_id: str) -> None:
        """Watch a message that may be in the log, unless it is watched already."""
        if message_id not in self._put:
            self._watch(message_id)

    def begin(self, message_id: str) -> None:
        """Watch a message that is on its way: its arrival may be heard before the queue has confirmed it."""
        self._put[message_id] = _UNDER_WAY
        self._health.wait_for(len(self._put))

    def settle(self, message_id: str) -> None:
        """Forget a message: it was stored, or is nowhere."""
        self._put.pop(message_id, None)
        self._left.pop(message_id, None)
        self._health.wait_for(len(self._put))

    def put(self, message_id: str) -> None:
        """Note that the queue confirmed a message, or that nobody knows; unless it has arrived meanwhile."""
        if message_id in self._put:
            self._watch(message_id)

    def _watch(self, message_id: str) -> None:
        # Removed first: the order is that of the puts.
        self.settle(message_id)
        self._put[message_id] = time.time()
        self._health.wait_for(len(self._put))

    # -- the rounds ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch until cancelled, beginning with what an earlier facade may have left."""
        recovered = False
        while True:
            recovered = recovered or await self.recover()
            if self._put:
                await self.look()
            await asyncio.sleep(self.pause)

    async def recover(self) -> bool:
        """Watch what is in the log and not stored: whoever put it there may be dead.

        Return whether that could be seen. Of several workers the first one does it for all.
        """
        await self._hear()
        if self._health.worker:
            return True
        count = 0
        try:
            given_up = {r.id async for page in self._store.redelivered.scan() for r in page if self.has_given_up(r)}
            async for page in self._store.log.ids_not_in(self._store.stored):
                left = [message_id for message_id in page if message_id not in given_up]
                for message_id in left:
                    self.expect(message_id)
                count += len(left)
        except StoreError as error:
            log.warning("cannot compare the log with what is stored, trying again: %s", error)
            return False
        if count:
            log.info("%d messages in the log are not stored; watching them", count)
        return True

    async def look(self) -> None:
        """Forget what has arrived, and redeliver what is due."""
        try:
            await self._hear()
            await self._look_at_queue()
            await self._redeliver()
        except (QueueError, StoreError) as error:
            log.warning("the watch could not see everything, trying again: %s", error)

    async def _hear(self) -> None:
        await asyncio.gather(*(self._hear_one(address, place) for address, place in self._places.items()))

    async def _hear_one(self, address: Address, place: _Place) -> None:
        more = True
        while more:
            path = f"/arrivals?epoch={place.epoch}&after={place.next}"
            try:
                answer = await get_json(self._session, address, path, ANSWER_SECONDS)
                ids, more = list(map(str, answer["ids"])), bool(answer["more"])
                place.epoch, place.next = str(answer["epoch"]), int(answer["next"])
            except MicroqError:
                place.epoch = place.epoch or _NO_EPOCH
                return  # it is down, and what it stored is seen in the store
            except (LookupError, TypeError, ValueError):
                log.warning("what answers at %s is no messages-service", address)
                return
            for message_id in ids:
                self.settle(message_id)

    async def _look_at_queue(self) -> None:
        """Note which messages have left the queue: all that were put before the one that is next."""
        since = await self._queue.waiting_since()
        if since is None:
            return
        now = time.monotonic()
        for message_id, put in self._put.items():
            if put is _UNDER_WAY:
                continue
            if put >= since:
                return
            self._left.setdefault(message_id, now)

    async def _redeliver(self) -> None:
        due = time.monotonic() - self._timeout
        for message_id in [i for i, left in self._left.items() if left <= due][:LARGEST_ROUND]:
            turn = self.turn(message_id)
            if not turn.locked():  # else it is sent again at this moment
                async with turn:
                    await self._redeliver_one(message_id)

    async def _redeliver_one(self, message_id: str) -> None:
        if await self._store.stored.get(message_id):
            return self.settle(message_id)
        # Renewed: a send of another worker, which wrote it and is refused, must not take it back from under this.
        message = await self._store.log.renew(message_id)
        if message is None:
            return self.settle(message_id)  # it was taken back, or never came to be
        record = await self._store.redelivered.get(message_id)
        if record and time.time() - record.at < self._timeout:
            return self._watch(message_id)  # another worker, which watches it too, has just done it
        before = record.tries if record else 0
        if before + 1 >= self._most:
            return await self._give_up(message)
        # Counted first: a redelivery that nobody counted would hide what the queue lost.
        await self._count(message_id, before + 1)
        if not await self._put_again(message):
            redelivered = self._store.redelivered
            await (redelivered.write(record) if record else redelivered.remove(message_id))
        return None

    async def _count(self, message_id: str, tries: int) -> None:
        await self._store.redelivered.write(Redelivery(message_id, tries, time.time()))

    async def _put_again(self, message: Message) -> bool:
        """Put into the queue; return whether it may be in."""
        try:
            await self._queue.put([dataclasses.replace(message, at=time.time(), by="")])
        except (QueueFullError, QueueAwayError) as error:
            log.warning("%s is not redelivered yet: %s", message.id, error)
            return False
        except QueueError as error:
            log.warning("%s: %s", message.id, error)
        self._watch(message.id)
        log.warning("redelivered %s: it left the queue and was stored nowhere for %d s", message.id, self._timeout)
        return True

    async def _give_up(self, message: Message) -> None:
        reason = f"not stored after {self._most} deliveries"
        letter = DeadLetter(message.id, message.text, reason, "facade", time.time(), replayable=True)
        await self._store.dead.write(letter)
        await self._count(message.id, self._most)  # which stays when the letter is dropped
        self.settle(message.id)
        log.error("%s is a dead letter now: %s", message.id, reason)
