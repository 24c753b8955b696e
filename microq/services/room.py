"""Room in the members' memory: accepted messages must fit, including what the consumers will write of them.

Every member may hold a copy of everything, so copies do not help if memory runs out: all members would die together.
A message is an entry of the log, for a while an item of the queue (on disk with Kafka), and then an entry of the store.
All three are taken from the room when the message comes, before anything is written; the part of the queue is given
back when the message is stored.

Only its JVM knows how full a member is. The used memory includes garbage; the live memory is known after a collection.
Each of the two, at its moment, is a statement: with what was accepted since, it bounds how full the member is now. If
the members run elsewhere there are no statements, and only the bound of waiting messages is enforced.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from microq.allowance import Allowance
from microq.backends.hazelcast import monitor as members
from microq.backends.hazelcast.monitor import Heap, Source
from microq.capacity import BOUND, entry_bytes
from microq.config import Config
from microq.errors import MicroqError
from microq.message import Message

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""Seconds between two checks of how much was accepted; the members are asked only if it matters."""

FRESH = 0.25
"""The share of the room left at the last reading that may be accepted before the members are asked again."""

LOW = 0.2
"""The share of the bound below which the room left is low: then a collection shows what is live."""

CHANGE = 0.02
"""The share of the bound that must have changed since a member's last collection before it is asked for another one."""

SURE_SECONDS = 60.0
"""Seconds with little room left after which members are asked for a collection even without a known change."""

REST = 10
"""The pause after a collection, as a multiple of its duration; at least a second."""

SILENT_SECONDS = 10.0
"""Seconds without an answer after which a member's last statement no longer counts: it is gone."""

UNKNOWN = 1 << 62
"""The limit if none is known."""

GUARD = 0.85
"""The share of a member's old generation above which no consumer writes; a facade accepts up to `capacity.BOUND`.

Messages of a facade stay below that bound; memory above it was taken by other programs, which no facade bounds.
"""


class NoRoomError(MicroqError):
    """A message does not fit into the members' memory; nothing of it was written."""

    code = "no-room"


@dataclass(frozen=True, slots=True)
class Statement:
    """A member's memory in use at a moment when `done` bytes were written and `reserve` bytes still to be stored."""

    used: int
    done: int
    reserve: int

    def limit(self, bound: int) -> int:
        """Return how much may be taken in total until the member has `bound` bytes in use."""
        return bound - self.used - self.reserve + self.done


class Known:
    """The statements about one member: its last reading and its last collection."""

    def __init__(self) -> None:
        self.heap: Heap | None = None
        self.heard_at = self.collected_at = time.monotonic()
        self.rest_until = 0.0
        self._reading: Statement | None = None
        self.collection: Statement | None = None

    def hear(self, heap: Heap, before: Statement, now: Statement) -> None:
        """Note a reading of now; `before` has what was done and reserved at the last reading or at a collection."""
        last, self.heap = self.heap, heap
        self.heard_at = time.monotonic()
        if last is None or last.life != heap.life:
            self.collection = None  # the time of a collection before the first reading is unknown
        elif heap.live is not None and heap.collections != last.collections:
            self.collection = Statement(heap.live, before.done, before.reserve)
            self.collected_at = self.heard_at
        self._reading = Statement(heap.used, now.done, now.reserve)

    def limit(self, bound: int) -> int:
        """Return how much may be taken in total: both statements are true, so the larger limit counts."""
        return max(each.limit(bound) for each in (self._reading, self.collection) if each)


class Room:
    """The room for messages in the members' memory, shared by all workers of a facade: made before they are forked."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._memory, self._queue = Allowance(UNKNOWN), Allowance(config.capacity.queue)
        self._parts = config.capacity.parts
        self._waiting: dict[str, int] = {}
        self._members: dict[str, Known] = {}
        self._looked = Statement(0, 0, 0)
        self._left = self._bound = 0
        self.refusing = False
        """Whether the last message was refused."""

    # -- messages that come and go ------------------------------------------------------------------------------------

    def enter(self, message: Message) -> int:
        """Take the room for a message before it is written, and return the bytes; 0 if it has room already.

        Raises `NoRoomError`.
        """
        if message.id in self._waiting:
            return 0
        cost = self._parts * entry_bytes(message)
        if not self._queue.take(cost):
            self.refusing = True
            mine = self._config.capacity.queue
            raise NoRoomError(
                f"no room: messages that wait to be stored may take {mine >> 20} MiB of the members' memory"
            )
        if not self._memory.take(cost):
            self._queue.give_back(cost)
            self.refusing = True
            raise NoRoomError(f"the members' memory is {self._percent()} % full, {self._remedy()}")
        self.refusing = False
        self._waiting[message.id] = cost
        return cost

    def owe(self, message: Message) -> None:
        """Take what a message needs that an earlier facade accepted: it is in the log, and it is yet to be stored."""
        if message.id in self._waiting:
            return
        cost = self._parts * entry_bytes(message)
        if self._queue.take(cost):
            self._waiting[message.id] = cost

    def settle(self, message_id: str, cost: int, *, written: bool, waits: bool) -> None:
        """Note what became of a message that entered: whether it is written, or may be, and waits to be stored."""
        if written:
            self._memory.finish(cost)
        else:
            self._memory.give_back(cost)
        if not waits:
            self.leave(message_id)

    def leave(self, message_id: str) -> None:
        """Note that a message waits no longer: it is stored, or is nowhere."""
        if cost := self._waiting.pop(message_id, 0):
            self._queue.give_back(cost)

    def _remedy(self) -> str:
        if self._queue.taken > CHANGE * self._bound:
            return "with the waiting messages that the consumers still have to store"
        return "and stored messages stay there; raise [hazelcast] heap for the next `up`"

    def _percent(self) -> int:
        capacity = self._config.capacity
        return round(100 * (capacity.bound - self._memory.left / capacity.old))

    # -- the members --------------------------------------------------------------------------------------------------

    async def watch(self, session: aiohttp.ClientSession) -> None:
        """Ask the members as often as necessary, until cancelled. Of several workers one does it for all."""
        while True:
            if self._is_due():
                await self.look(session)
            await asyncio.sleep(LOOK_SECONDS)

    def _is_due(self) -> bool:
        now = self._now()
        if any(known.heap is None for known in self._members.values()):
            return True
        grown = max(self._memory.taken - self._looked.done, now.reserve - self._looked.reserve) > FRESH * self._left
        return grown or (self._is_low() and (now != self._looked or self._is_stale(SURE_SECONDS)))

    def _is_low(self) -> bool:
        return self._memory.left < LOW * self._bound

    def _is_stale(self, seconds: float) -> bool:
        return any(time.monotonic() - known.collected_at > seconds for known in self._members.values())

    def _now(self) -> Statement:
        """Return a statement with what is written and reserved now, and no memory in use."""
        return Statement(0, self._memory.done, self._queue.taken // self._parts)

    async def look(self, session: aiohttp.ClientSession) -> None:
        """Ask every member how full it is (nearly full ones after a collection), and set the limit."""
        sources = members.sources_in(Path(self._config.source).parent)
        for source in sources:
            self._members.setdefault(source.name, Known())
        await self._read(session, sources)
        self._set_limit()
        for source in sources:
            if self._is_low() and self._is_unsure(self._members[source.name]):
                await self._collect(session, source)
                self._set_limit()

    async def _read(self, session: aiohttp.ClientSession, sources: Sequence[Source]) -> None:
        before, now = self._looked, self._now()
        heaps = await asyncio.gather(*(members.read_heap(session, source) for source in sources))
        for source, heap in zip(sources, heaps, strict=True):
            if heap:
                self._members[source.name].hear(heap, before, now)
        self._looked = now

    async def _collect(self, session: aiohttp.ClientSession, source: Source) -> None:
        known, before, began = self._members[source.name], self._now(), time.monotonic()
        await members.collect(session, source)
        known.rest_until = time.monotonic() + max(1.0, REST * (time.monotonic() - began))
        if heap := await members.read_heap(session, source):
            known.hear(heap, before, before)

    def _is_unsure(self, known: Known) -> bool:
        """Return whether a collection would give a better statement about a member."""
        if time.monotonic() < known.rest_until or known.heap is None:
            return False
        if known.collection is None or time.monotonic() - known.collected_at > SURE_SECONDS:
            return True
        now = self._now()
        change = abs(now.done - known.collection.done) + abs(now.reserve - known.collection.reserve)
        return change > CHANGE * self._bound

    def _set_limit(self) -> None:
        now = time.monotonic()
        there = [k for k in self._members.values() if k.heap and now - k.heard_at < SILENT_SECONDS]
        if not there:
            return  # the last limit stays
        share = self._config.capacity.bound
        bounds = [(known, round(share * known.heap.old)) for known in there if known.heap]
        self._bound = min(bound for _, bound in bounds)
        self._memory.allow(min(known.limit(bound) for known, bound in bounds))
        self._left = max(0, self._memory.left)


@dataclass(slots=True)
class Left:
    """The bytes that a member has left below its `bound`, and the monotonic time of its last collection."""

    left: int
    bound: int
    heard_at: float
    collected: int = 0
    rest_until: float = 0.0


class Guard:
    """The bytes that one messages-service may write until the members are asked again.

    A facade has taken the room for its messages; items that other programs put into the queue have no room. What the
    other consumers write meanwhile is unknown: each may take its share of half of the memory left at the last reading.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._part = 2 * len(config.service_ips.messages_service)
        self._share = config.capacity.bound * GUARD / BOUND
        self._members: dict[str, Left] = {}
        self._granted = self.left = UNKNOWN
        """How much may be written until the next reading."""
        self.full = False
        """Whether there is no room; it ends when there is a little more room than none."""
        self.on_look: Callable[[], None] = lambda: None

    def write(self, size: int) -> None:
        """Note that `size` bytes are written."""
        self.left -= size

    async def watch(self, session: aiohttp.ClientSession) -> None:
        """Ask the members after a write, and while there is no room, until cancelled."""
        while True:
            if self.full or self.left <= 0 or self.left != self._granted:
                await self.look(session)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, session: aiohttp.ClientSession) -> None:
        """Ask every member how much it has left (nearly full ones after a collection), and grant a part of it."""
        sources = members.sources_in(Path(self._config.source).parent)
        await asyncio.gather(*(self._ask(session, source) for source in sources))
        now = time.monotonic()
        there = [each for each in self._members.values() if now - each.heard_at < SILENT_SECONDS]
        least = min(there, key=lambda each: each.left, default=None)
        self.left = self._granted = least.left // self._part if least else UNKNOWN
        self.full = least is not None and least.left <= (CHANGE * least.bound if self.full else 0)
        self.on_look()

    async def _ask(self, session: aiohttp.ClientSession, source: Source) -> None:
        heap, known = await members.read_heap(session, source), self._members.get(source.name)
        if heap is None:
            if known:
                known.left //= 2  # a member that does not answer may be nearly full
            return
        bound, now = round(self._share * heap.old), time.monotonic()
        known = self._members[source.name] = known or Left(0, bound, now)
        known.left, known.bound, known.heard_at = bound - heap.used, bound, now
        grown = abs(known.collected - known.left) > CHANGE * bound
        if known.left < LOW * bound and now > known.rest_until and grown:
            await members.collect(session, source)
            known.rest_until = time.monotonic() + max(1.0, REST * (time.monotonic() - now))
            if heap := await members.read_heap(session, source):
                known.left = known.collected = bound - heap.used
