"""A model of Hazelcast's members: maps and a queue, their client's proxies, and what can happen to a call.

A call is carried out at one moment. Its reply can be slow or lost; it can be carried out late, twice, or never, while
its caller gets an error or no answer. A call that failed is carried out within `LATE_SECONDS` or never. A split cluster
has two halves; when they merge, the queue of one is dropped, and its entries come one by one into maps that lack them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from hazelcast.errors import IllegalStateError, TargetDisconnectedError
from simulation.faults import Faults
from simulation.loop import Loop, Process, current

from microq.backends.hazelcast.client import START, Page, Place
from microq.services.takeover import Tenancy

LATE_SECONDS = Tenancy.late_seconds
"""Seconds after a call failed, or its caller died, within which it may still be carried out."""

HANG_SECONDS = 7.0
"""Seconds after which the client reports a call without a reply as failed."""


@dataclass
class Half:
    """The members that see each other: usually all."""

    maps: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: deque[str] = field(default_factory=deque)
    waiting: deque[Poll] = field(default_factory=deque)
    """The polls that wait for an item."""

    def map(self, name: str) -> dict[str, Any]:
        return self.maps.setdefault(name, {})


@dataclass(eq=False)
class Call:
    """A call of a client under way."""

    process: Process
    what: str
    operation: Callable[[Half], Any]
    answer: asyncio.Future[Any]

    def succeed(self, value: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(value)

    def fail(self) -> None:
        if not self.answer.done():
            self.answer.set_exception(TargetDisconnectedError("the connection broke"))


@dataclass(eq=False)
class Poll:
    """A poll that waits at the members."""

    give: Callable[[str | None], None]
    process: Process
    ended: bool = False


class Members:
    """The members of the cluster; `most` items fit into the queue. `tell` gets a line for each event."""

    def __init__(self, loop: Loop, faults: Faults, most: int, tell: Callable[..., None]) -> None:
        self.loop, self.faults, self.most, self.tell = loop, faults, most, tell
        self.whole = Half()
        self.minority: Half | None = None
        self.merging = 0
        """Entries of a half that has merged which are still on their way."""
        self.late = 0
        """Calls that will be carried out although they have failed."""
        self._there: set[str] = set()
        """The names of the processes whose clients are connected to the minority."""
        self._calls: dict[Call, None] = {}
        self.links: dict[Process, Link] = {}
        self.listeners: dict[str, Callable[[], None]] = {}
        """The name of a process -> what its client calls when a member joins."""
        self.hit: Callable[[Process, str], float] = lambda _process, _kind: 0.0
        """Crashes or pauses the process that made a call; returns for how many seconds."""
        self.pauses_before: Callable[[Call], bool] = lambda _call: faults.happens("pause before sending")
        """Returns whether the caller is paused before it has sent a call."""
        self.repeats: Callable[[Call], bool] = lambda _call: True
        """Returns whether the client may repeat a call by itself, so that it is carried out twice."""

    def half_of(self, process: Process) -> Half:
        return self.minority if self.minority and process.name in self._there else self.whole

    # -- calls --------------------------------------------------------------------------------------------------------

    async def call(self, what: str, operation: Callable[[Half], Any]) -> Any:
        """Carry out an operation on the half that the calling process sees, and return its result."""
        process = current()
        if not process.alive:
            raise asyncio.CancelledError
        call = Call(process, what, operation, self.loop.create_future())
        self._send(call, self._carry_out)
        try:
            return await call.answer
        finally:
            self._calls.pop(call, None)

    async def poll(self, seconds: float) -> str | None:
        """Take the next item of the queue; wait for it at the members, for so many seconds."""
        process = current()
        if not process.alive:
            raise asyncio.CancelledError
        call = Call(process, "poll", lambda half: half.items.popleft(), self.loop.create_future())
        self._send(call, lambda each, answer: self._wait(each, answer, seconds))
        try:
            found: str | None = await call.answer
        finally:
            self._calls.pop(call, None)
        return found

    def _send(self, call: Call, carry_out: Callable[[Call, Callable[[Any], None]], None]) -> None:
        self._calls[call] = None
        if self.pauses_before(call):
            self.tell("pause before sending", call.process.name, call.what)
            self.loop.in_world(self.hit(call.process, "pause"), self._dispatch, call, carry_out)
        else:
            self._dispatch(call, carry_out)

    def _dispatch(self, call: Call, carry_out: Callable[[Call, Callable[[Any], None]], None]) -> None:
        if not call.process.alive:
            return None
        faults, then = self.faults, self.loop.in_world
        there = faults.delay()
        if faults.happens("lose request"):
            self.tell("request lost", call.process.name, call.what)
            return self._break(call, there)
        if faults.happens("carry out late"):
            self.tell("fails, is carried out late", call.process.name, call.what)
            self._break(call, there)
            self.late += 1
            then(faults.uniform(0.0, LATE_SECONDS), self._carry_out_late, call)
            return None
        if self.repeats(call) and faults.happens("carry out twice"):
            self.tell("is carried out twice", call.process.name, call.what)
            if link := self.links.get(call.process):
                link.retries += 1
            self.late += 1
            then(there, carry_out, call, lambda _result: None)
            then(there + faults.uniform(0.0, 1.0), self._carry_out_again, call, carry_out)
            return None
        then(there, carry_out, call, lambda result: self._reply(call, result))
        return None

    def _carry_out(self, call: Call, answer: Callable[[Any], None]) -> None:
        answer(call.operation(self.half_of(call.process)))

    def _carry_out_again(self, call: Call, carry_out: Callable[[Call, Callable[[Any], None]], None]) -> None:
        self.late -= 1
        carry_out(call, lambda result: self._reply(call, result))

    def _carry_out_late(self, call: Call) -> None:
        self.late -= 1
        self.tell("is carried out late", call.process.name, call.what)
        half = self.half_of(call.process)
        if call.what != "poll" or half.items:
            call.operation(half)

    def _wait(self, call: Call, answer: Callable[[Any], None], seconds: float) -> None:
        half = self.half_of(call.process)
        if half.items:
            return answer(half.items.popleft())
        if not call.process.alive:
            return None
        poll = Poll(answer, call.process)
        half.waiting.append(poll)
        self.loop.in_world(seconds, self._end_poll, poll)
        return None

    def _end_poll(self, poll: Poll) -> None:
        if not poll.ended:
            poll.ended = True
            poll.give(None)

    def _reply(self, call: Call, result: Any) -> None:
        faults, process = self.faults, call.process
        for kind in ("crash the caller", "pause the caller"):
            if process.alive and faults.happens(kind):
                self.tell(kind, process.name, call.what)
                self.hit(process, kind)
        back = faults.delay()
        if faults.happens("lose reply"):
            self.tell("reply lost", process.name, call.what)
            return self._break(call, back)
        if faults.happens("answer slowly"):
            back += faults.uniform(0.1, 4.0)
        if faults.happens("cut the client off"):
            self.cut(process)
        self.loop.in_world(back, call.succeed, result)
        return None

    def _break(self, call: Call, delay: float) -> None:
        """Let a call fail: soon, if the connection breaks, or when the client gives up."""
        self.loop.in_world(delay if self.faults.chance(0.5) else HANG_SECONDS, call.fail)

    def cut(self, process: Process) -> None:
        """Cut the connections of a process for a while; its calls under way fail."""
        self.tell("cut off", process.name)
        link = self.links.get(process)
        if link:
            link.up = False
            self.loop.in_world(self.faults.uniform(0.1, 6.0), link.mend)
        self._interrupt(lambda call: call.process is process)

    def _interrupt(self, which: Callable[[Call], bool]) -> None:
        for call in list(self._calls):
            if which(call):
                self.loop.in_world(self.faults.delay(), call.fail)

    # -- what the members do with an item -----------------------------------------------------------------------------

    def append(self, half: Half, items: Sequence[str]) -> bool:
        """Append all items or none; return whether they fit."""
        if len(half.items) + len(items) > self.most:
            return False
        half.items.extend(items)
        while half.items and half.waiting:
            poll = half.waiting.popleft()
            if not poll.ended:
                poll.ended = True
                poll.give(half.items.popleft())
        return True

    def write(self, half: Half, name: str, key: str, value: Any) -> None:
        """Write a value into a map; None removes it."""
        entries = half.map(name)
        if value is None:
            entries.pop(key, None)
        else:
            entries[key] = value

    # -- what happens to members --------------------------------------------------------------------------------------

    def kill_one(self) -> None:
        """A member is killed and comes back: calls under way may fail; nothing is lost, for all has copies."""
        self.tell("a member is killed")
        self._interrupt(lambda _call: self.faults.chance(0.5))
        self.loop.in_world(self.faults.uniform(1.0, 5.0), self._joined)

    def _joined(self) -> None:
        self.tell("a member joins")
        for tell in list(self.listeners.values()):
            tell()

    def split(self, there: Sequence[str]) -> None:
        """Split the cluster; the clients of the processes `there` are connected to the minority from now on."""
        if self.minority or self.merging:
            return
        self.tell("the cluster splits", ", ".join(there))
        maps = {name: dict(entries) for name, entries in self.whole.maps.items()}
        self.minority, self._there = Half(maps, deque(self.whole.items)), set(there)
        self._interrupt(lambda _call: self.faults.chance(0.3))

    def merge(self) -> None:
        """Merge the minority into the others: its queue is dropped, its entries come where they lack."""
        half, self.minority = self.minority, None
        if half is None:
            return
        self.tell("the halves merge", f"{len(half.items)} items are dropped")
        self._interrupt(lambda call: call.process.name in self._there)
        for poll in half.waiting:
            self._end_poll(poll)
        longest = self.faults.uniform(0.0, 10.0)
        for name, entries in half.maps.items():
            for key, value in entries.items():
                self.merging += 1
                self.loop.in_world(self.faults.uniform(0.0, longest), self._add, name, key, value)
        self._joined()

    def _add(self, name: str, key: str, value: Any) -> None:
        self.merging -= 1
        self.whole.map(name).setdefault(key, value)

    def forget(self, process: Process) -> None:
        """Notice, a little later, that a process has died: its polls take nothing any more."""
        self.links.pop(process, None)
        for half in (self.whole, self.minority):
            for poll in half.waiting if half else ():
                if poll.process is process:
                    self.loop.in_world(self.faults.uniform(0.0, 0.5), self._end_poll, poll)


class Link:
    """The client of one process; what `hz.Cluster` asks of it."""

    def __init__(self, members: Members, process: Process) -> None:
        self.up = True
        self.retries = 0
        """How often it has repeated a call by itself."""
        members.links[process] = self

    def connection_manager_connections(self) -> dict[str, object]:
        return {"member": self} if self.up else {}

    def mend(self) -> None:
        self.up = True


class MapProxy:
    """The client's proxy of a map."""

    def __init__(self, members: Members, name: str, partitions: int) -> None:
        self._members, self._name, self._partitions = members, name, partitions

    async def _call(self, what: str, operation: Callable[[Half], Any]) -> Any:
        return await self._members.call(f"{self._name}.{what}", operation)

    async def put_if_absent(self, key: str, value: str) -> Any:
        def put(half: Half) -> Any:
            before = half.map(self._name).get(key)
            if before is None:
                self._members.write(half, self._name, key, value)
            return before

        return await self._call(f"put_if_absent {key}", put)

    async def set(self, key: str, value: str) -> None:
        await self._call(f"set {key}", lambda half: self._members.write(half, self._name, key, value))

    async def remove(self, key: str) -> Any:
        def remove(half: Half) -> Any:
            before = half.map(self._name).get(key)
            self._members.write(half, self._name, key, None)
            return before

        return await self._call(f"remove {key}", remove)

    async def remove_if_same(self, key: str, value: str) -> bool:
        return bool(await self._call(f"remove_if_same {key}", lambda half: self._swap(half, key, value, None)))

    async def replace_if_same(self, key: str, old: str, new: str) -> bool:
        return bool(await self._call(f"replace_if_same {key}", lambda half: self._swap(half, key, old, new)))

    def _swap(self, half: Half, key: str, old: str, new: str | None) -> bool:
        if half.map(self._name).get(key) != old:
            return False
        self._members.write(half, self._name, key, new)
        return True

    async def get(self, key: str) -> Any:
        return await self._call(f"get {key}", lambda half: half.map(self._name).get(key))

    async def get_all(self, keys: Sequence[str]) -> dict[str, Any]:
        def get(half: Half) -> dict[str, Any]:
            entries = half.map(self._name)
            return {key: entries[key] for key in keys if key in entries}

        return dict(await self._call("get_all", get))

    async def values(self) -> list[Any]:
        return list(await self._call("values", lambda half: list(half.map(self._name).values())))

    async def size(self) -> int:
        return int(await self._call("size", lambda half: len(half.map(self._name))))

    def partitions(self) -> int:
        return self._partitions

    def _in(self, key: str, partition: int) -> bool:
        # One message a partition: the order of a set of ids would depend on Python's hash seed.
        number = int(key[1:]) if key[1:].isdigit() else crc32(key.encode())
        return number % self._partitions == partition

    async def page_of_keys(self, partition: int, place: Place, most: int) -> Page:
        return await self._page(partition, place, most, lambda item: item[0])

    async def page_of_values(self, partition: int, place: Place, most: int) -> Page:
        return await self._page(partition, place, most, lambda item: item[1])

    async def _page(self, partition: int, place: Place, most: int, show: Callable[[tuple[str, Any]], Any]) -> Page:
        def read(half: Half) -> Page:
            begin = 0 if place == START else place[0][0]
            found = [item for item in half.map(self._name).items() if self._in(item[0], partition)]
            end = begin + most
            return Page([show(item) for item in found[begin:end]], ((end, -1),) if end < len(found) else None)

        page: Page = await self._call("page", read)
        return page


class QueueProxy:
    """The client's proxy of the queue."""

    name = "queue"

    def __init__(self, members: Members) -> None:
        self._members = members

    async def offer(self, item: str) -> bool:
        return bool(await self._members.call("offer", lambda half: self._members.append(half, [item])))

    async def add_all(self, items: Sequence[str]) -> bool:
        if not await self._members.call("add_all", lambda half: self._members.append(half, items)):
            raise IllegalStateError("Queue full")
        return True

    async def poll(self, seconds: float) -> str | None:
        return await self._members.poll(seconds)

    async def drain_to(self, taken: list[str], most: int) -> int:
        def drain(half: Half) -> list[str]:
            return [half.items.popleft() for _ in range(min(most, len(half.items)))]

        found = await self._members.call("drain_to", drain)
        taken += found
        return len(found)

    async def peek(self) -> str | None:
        found: str | None = await self._members.call("peek", lambda half: half.items[0] if half.items else None)
        return found

    async def size(self) -> int:
        return int(await self._members.call("size of the queue", lambda half: len(half.items)))
