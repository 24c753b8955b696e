"""Room in the members' memory: accepted messages must fit, including what the consumers will write of them.

Every member may hold a copy of everything, so copies do not help if memory runs out: all members would die together.
A message is an entry of the log, for a while an item of the queue (on disk with Kafka), and then an entry of the store.
All three are taken from the room when the message comes, before anything is written; the part of the queue is given
back when the message is stored.

Only its JVM knows how full a member is. The used memory includes garbage; the live memory is known after a collection.
A reading of either is a statement: together with the bytes accepted since then, it bounds how full the member is now.
If the members run elsewhere there are no statements, and only the bound of waiting messages is enforced.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from microq.allowance import Allowance
from microq.backends.hazelcast import monitor
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

LARGEST_BYTES = 4 << 20
"""Bytes of a batch, estimated from the batch before: several copies of a batch are in memory at the same time."""

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


NOTHING = Statement(0, 0, 0)


class Member:
    """The statements of one member: its last reading and its last collection."""

    def __init__(self, source: Source) -> None:
        self.source = source
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

    @property
    def rests(self) -> bool:
        """Whether its last collection was so recent that it is not asked for another one."""
        return time.monotonic() < self.rest_until

    @property
    def is_stale(self) -> bool:
        """Whether its last collection was long ago."""
        return time.monotonic() - self.collected_at > SURE_SECONDS


class Members:
    """The members that were started with files in a run's folder, and what each last said about its memory."""

    def __init__(self, config: Config) -> None:
        self._folder = Path(config.source).parent
        self._known: dict[str, Member] = {}

    def __iter__(self) -> Iterator[Member]:
        return iter(self._known.values())

    @property
    def answering(self) -> list[tuple[Member, Heap]]:
        """The members whose last statement still counts, each with its heap."""
        now = time.monotonic()
        return [(each, each.heap) for each in self if each.heap and now - each.heard_at < SILENT_SECONDS]

    async def read(self, session: aiohttp.ClientSession) -> list[tuple[Member, Heap | None]]:
        """Ask every member how full it is; None if it does not answer."""
        sources = monitor.sources_in(self._folder)
        for source in sources:
            self._known.setdefault(source.name, Member(source)).source = source
        heaps = await asyncio.gather(*(monitor.read_heap(session, source) for source in sources))
        return [(self._known[source.name], heap) for source, heap in zip(sources, heaps, strict=True)]

    @staticmethod
    async def collect(session: aiohttp.ClientSession, member: Member) -> Heap | None:
        """Make a member collect its garbage, and ask it how full it is then."""
        began = time.monotonic()
        await monitor.collect(session, member.source)
        member.rest_until = time.monotonic() + max(1.0, REST * (time.monotonic() - began))
        return await monitor.read_heap(session, member.source)


class Room:
    """The room for messages in the members' memory, shared by all workers of a facade: made before they are forked."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._memory, self._queue = Allowance(UNKNOWN), Allowance(config.capacity.queue)
        self._parts = config.capacity.parts
        self._waiting: dict[str, int] = {}
        self._members = Members(config)
        self._looked = NOTHING
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
        cost = self._cost(message)
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
        cost = self._cost(message)
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

    def _cost(self, message: Message) -> int:
        return self._parts * entry_bytes(message)

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
        if any(member.heap is None for member in self._members):
            return True
        grown = max(self._memory.taken - self._looked.done, now.reserve - self._looked.reserve) > FRESH * self._left
        return grown or (self._is_low() and (now != self._looked or any(member.is_stale for member in self._members)))

    def _is_low(self) -> bool:
        return self._memory.left < LOW * self._bound

    def _now(self) -> Statement:
        """Return a statement with what is written and reserved now, and no memory in use."""
        return Statement(0, self._memory.done, self._queue.taken // self._parts)

    async def look(self, session: aiohttp.ClientSession) -> None:
        """Ask every member how full it is (nearly full ones after a collection), and set the limit."""
        before, now = self._looked, self._now()
        found = await self._members.read(session)
        for member, heap in found:
            if heap:
                member.hear(heap, before, now)
        self._looked = now
        self._set_limit()
        for member, _ in found:
            if self._is_low() and self._is_unsure(member):
                before = self._now()
                if heap := await self._members.collect(session, member):
                    member.hear(heap, before, before)
                self._set_limit()

    def _is_unsure(self, member: Member) -> bool:
        """Return whether a collection would give a better statement about a member."""
        if member.rests or member.heap is None:
            return False
        if member.collection is None or member.is_stale:
            return True
        now = self._now()
        change = abs(now.done - member.collection.done) + abs(now.reserve - member.collection.reserve)
        return change > CHANGE * self._bound

    def _set_limit(self) -> None:
        share = self._config.capacity.bound
        bounds = [(member, round(share * heap.old)) for member, heap in self._members.answering]
        if not bounds:
            return  # the last limit stays
        self._bound = min(bound for _, bound in bounds)
        self._memory.allow(min(member.limit(bound) for member, bound in bounds))
        self._left = max(0, self._memory.left)


class Guard:
    """The bytes that one messages-service may write until the members are asked again.

    A facade has taken the room for its messages; items that other programs put into the queue have no room. What the
    other consumers write meanwhile is unknown: each may take its share of half of the memory left at the last reading.
    """

    def __init__(self, config: Config) -> None:
        self._part = 2 * len(config.service_ips.messages_service)
        self._share = config.capacity.bound * GUARD / BOUND
        self._members = Members(config)
        self._left: dict[str, int] = {}
        """Name of a member -> the bytes that it has left below its bound."""
        self._collected: dict[str, int] = {}
        """Name of a member -> the bytes that it had left after its last collection."""
        self._usual = 1
        self._granted = self.left = UNKNOWN
        """How many bytes may be written until the next reading."""
        self.full = False
        """Whether there is no room; it ends when there is a little more room than none."""
        self.on_look: Callable[[], None] = lambda: None

    @property
    def batch(self) -> int:
        """How many messages like the last ones may be received at once."""
        return max(1, min(LARGEST_BYTES, self.left) // self._usual)

    def write(self, messages: Sequence[Message]) -> None:
        """Note that these messages are written."""
        size = sum(map(entry_bytes, messages))
        if messages:
            self._usual = size // len(messages)
        self.left -= size

    async def watch(self, session: aiohttp.ClientSession) -> None:
        """Ask the members after a write, and while there is no room, until cancelled."""
        while True:
            if self.full or self.left <= 0 or self.left != self._granted:
                await self.look(session)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, session: aiohttp.ClientSession) -> None:
        """Ask every member how much it has left (nearly full ones after a collection), and grant a part of it."""
        found = await self._members.read(session)
        await asyncio.gather(*(self._note(session, member, heap) for member, heap in found))
        there = [(self._left[member.source.name], self._bound(heap)) for member, heap in self._members.answering]
        left, bound = min(there, default=(UNKNOWN * self._part, UNKNOWN))
        self.left = self._granted = left // self._part
        self.full = left <= (CHANGE * bound if self.full else 0)
        self.on_look()

    def _bound(self, heap: Heap) -> int:
        return round(self._share * heap.old)

    async def _note(self, session: aiohttp.ClientSession, member: Member, heap: Heap | None) -> None:
        name = member.source.name
        if heap is None:
            self._left[name] = self._left.get(name, 0) // 2  # a member that does not answer may be nearly full
            return
        member.hear(heap, NOTHING, NOTHING)
        bound = self._bound(heap)
        left = self._left[name] = bound - heap.used
        grown = abs(self._collected.get(name, 0) - left) > CHANGE * bound
        if left < LOW * bound and not member.rests and grown and (heap := await self._members.collect(session, member)):
            self._left[name] = self._collected[name] = bound - heap.used
