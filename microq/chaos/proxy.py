"""The proxy: a process that forwards all connections of a system over links, under the condition that a fault imposes.

Every process is configured with the address of a link; the process behind the link listens at another address
(`fleet.Detour`). Without a condition, a link only forwards. It listens while its target does, so a process that is down
refuses connections as it would without the link.

The proxy is a separate process: a busy interpreter would stall the links, and to the members a stalled link looks like
a network that is cut.

A cut is *silent*, or it resets connections. A split network is silent: no connection closes, sent data is kept by the
sender's machine and arrives after the healing, and until their heartbeats fail, the halves count each other as alive.
So a split of the cluster is silent: a reset would fail unfinished writes at once, and hide what happens while a backup
does not answer. A client sees a reset if something between it and the member refuses. That tests indeterminate calls
harder: they end at once without an answer, and all later calls fail before they are sent. In silence a client waits for
its heartbeat, and its callers wait for their deadlines. Members notice a reset no sooner than silence: they reconnect,
which succeeds, and wait for the heartbeat too.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import pickle
import socket
import struct
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NoReturn, cast

import microq.chaos.faults  # noqa: F401 - so that no condition is imported later: that would stall the links
from microq.aio import poll_until, running, task_group
from microq.backends import backend
from microq.backends.base import GREETING, Dialogue, Kind, Reply, Wire
from microq.chaos.conditions import EVERYWHERE, Condition, Counts, Ends, Lane, Selection
from microq.child import Child, Job, child, run, serve
from microq.client import listens
from microq.config import Address
from microq.errors import MachineError, MicroqError
from microq.fleet import Detour, Role, group_of

LOOK = 0.05
"""Seconds between two checks whether a target listens again."""

MOST_QUEUED = 256 << 10
"""Queued bytes in one direction above which nothing more is read from the sender."""

ANSWER_SECONDS = 20.0
"""Seconds within which the proxy must answer its parent."""

TICK = 0.05
"""Seconds between two ticks by which the proxy measures how late it is."""

END = b""
"""Stands for the end of the sender's data."""

_RESET = struct.pack("ii", 1, 0)
"""The value of SO_LINGER that makes closing a socket reset its connection."""


# -- a connection -----------------------------------------------------------------------------------------------------


class Turns:
    """The `Dialogue` of HTTP with one request at a time over a connection, as all clients here use it."""

    def __init__(self) -> None:
        self._asking = self._changes = False

    def asked(self, data: bytes) -> None:
        """Take bytes of requests."""
        if not self._asking:
            self._asking, self._changes = True, data.startswith((b"POST", b"DELETE"))

    def answered(self, data: bytes) -> tuple[bytes, list[tuple[int, Reply]]]:
        """Take bytes of replies; all of them can be passed on."""
        first, self._asking = self._asking, False
        return data, [(0, Reply.HTTP)] if first and self._changes else []


def wire_of(name: str) -> Wire | None:
    """Return the protocol of a process if it is a server; None for a service, which speaks HTTP."""
    group = group_of(name)
    return None if group in {*Role} else backend(group).wire


def kind_of(greeting: bytes, wire: Wire | None) -> Kind:
    """Return the kind of a connection that begins with the bytes `greeting`."""
    return wire.kind_of(greeting) if wire else Kind.HTTP


def dialogue_of(kind: Kind, wire: Wire | None) -> Dialogue | None:
    """Return the dialogue of a protocol; None for servers with each other, whose replies are not followed."""
    if kind is Kind.HTTP:
        return Turns()
    return wire.dialogue() if wire and kind is Kind.CLIENT else None


class Side(asyncio.Protocol):
    """One socket of a connection: data that comes in here is sent by the other side, in order, when it is due."""

    def __init__(self, pipe: Pipe, lane: Lane) -> None:
        self._pipe, self._lane = pipe, lane
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._queue: deque[tuple[float, bytes]] = deque()
        self._queued = 0
        self._timer: asyncio.TimerHandle | None = None
        self._pauses: set[str] = set()
        self.shut = False
        """Whether the end of the data was sent to the peer."""

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start with a connected socket."""
        self._transport = cast("asyncio.Transport", transport)
        if self._pauses:
            self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Pass incoming data to the pipe."""
        self._pipe.heard(self, data)

    def eof_received(self) -> bool:
        """Tell the pipe that the peer sends nothing more; the other direction stays open."""
        self._pipe.ended(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the pipe that the socket is closed; an error resets the other side too."""
        if exc:
            self._pipe.reset()
        self._pipe.closed()

    def pause_writing(self) -> None:
        """Pause the sender, because the receiver is slower."""
        self._pipe.other(self).pause("a slow receiver")

    def resume_writing(self) -> None:
        """Resume the sender, because the receiver has caught up."""
        self._pipe.other(self).proceed("a slow receiver")

    # Called by the pipe.

    @property
    def open(self) -> bool:
        """Whether the socket is connected and not being closed."""
        return self._transport is not None and not self._transport.is_closing()

    def pause(self, reason: str) -> None:
        """Stop reading until `proceed` is called for this reason."""
        if not self._pauses and self.open:
            cast("asyncio.Transport", self._transport).pause_reading()
        self._pauses.add(reason)

    def proceed(self, reason: str) -> None:
        """Read again, unless another reason to pause is left."""
        if reason in self._pauses:
            self._pauses.discard(reason)
            if not self._pauses and self.open:
                cast("asyncio.Transport", self._transport).resume_reading()

    def take(self, data: bytes) -> None:
        """Send data that came in here to the other side, now or when it is due."""
        self._lane.taken += len(data)
        due = self._pipe.links.condition.due(self._lane, len(data), self._loop.time())
        if due is not None:
            self._pipe.links.counts.delayed += len(data)
        elif not self._queue and not self._pipe.held:
            self._pipe.other(self).write(data)
            return
        else:
            due = self._loop.time()
        # The order is kept, also with jitter.
        self._queue.append((max(due, self._queue[-1][0]) if self._queue else due, data))
        self._queued += len(data)
        if self._queued > MOST_QUEUED:
            self.pause("a long queue")
        self.flow()

    def flow(self) -> None:
        """Send the data that is due."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        other, now = self._pipe.other(self), self._loop.time()
        while self._queue and self._queue[0][0] <= now and not self._pipe.held:
            data = self._queue.popleft()[1]
            self._queued -= len(data)
            other.write(data)
        if self._queued <= MOST_QUEUED // 2:
            self.proceed("a long queue")
        if self._queue and not self._pipe.held:
            self._timer = self._loop.call_at(self._queue[0][0], self.flow)

    def write(self, data: bytes) -> None:
        """Send data from the other side, or its end, to the peer."""
        if self.open and not self.shut:
            transport = cast("asyncio.Transport", self._transport)
            if data:
                transport.write(data)
            else:
                self.shut = True
                transport.write_eof()
                self._pipe.shut()

    def close(self) -> None:
        """Close the socket once everything is sent."""
        if self._transport:
            self._transport.close()

    def reset(self) -> None:
        """Close the socket at once, so that its peer gets an error."""
        if self._timer:
            self._timer.cancel()
        self._queue.clear()
        if self.open:
            transport = cast("asyncio.Transport", self._transport)
            found: socket.socket = transport.get_extra_info("socket")
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()


class Pipe:
    """One connection over a link: the front side towards its opener, and the back side towards the target."""

    def __init__(self, link: Link, links: Links) -> None:
        self._link, self.links = link, links
        self.front, self.back = Side(self, link.towards), Side(self, link.back)
        self.first = b""
        """Data that came in before the target was connected."""
        self.ends: Ends | None = None
        self.held = False
        """Whether nothing passes, although the connection stays open."""
        self.left_by_target = False
        """Whether the target was the first to close."""
        self._introduction = b""
        self._dialogue: Dialogue | None = None
        self._open = False

    def other(self, side: Side) -> Side:
        """Return the opposite side."""
        return self.back if side is self.front else self.front

    def opened(self, ends: Ends) -> None:
        """Begin to forward: both sides are connected."""
        self._open, self._dialogue = True, dialogue_of(ends.kind, self._link.wire)
        if not self.front.open:
            self.reset()
            return
        first, self.first = self.first, b""
        self.heard(self.front, first)
        self.front.proceed("no target yet")

    def heard(self, side: Side, data: bytes) -> None:
        """Forward data that came in at a side."""
        if not self._open:
            self.first += data
            if len(self.first) >= GREETING:
                self.front.pause("no target yet")
                self._link.lead(self)
            return
        try:
            self._carry(side, data)
        except ValueError:
            # The data is not of the expected protocol: the target would close the connection too.
            self.reset()

    def _carry(self, side: Side, data: bytes) -> None:
        if self._dialogue is None:
            if side is self.front:
                self._introduce(data)
            side.take(data)
        elif side is self.front:
            self._dialogue.asked(data)
            side.take(data)
        else:
            self._answer(*self._dialogue.answered(data))

    def _introduce(self, data: bytes) -> None:
        """Read the name of the server that opened the connection: it follows the greeting."""
        if self.ends and not self.ends.opener and len(self._introduction) < self._link.introduction:
            self._introduction += data
            opener = self._link.opener(self._introduction)
            if opener:
                self.ends = replace(self.ends, opener=opener)
                self._link.named(self)

    def _answer(self, ready: bytes, replies: list[tuple[int, Reply]]) -> None:
        for offset, reply in replies:
            if self.ends and self.links.condition.loses(reply, self.ends):
                self.links.counts.lost[reply] += 1
                if offset:  # the receiver gets the data before it
                    self.back.take(ready[:offset])
                self.front.close()
                self.reset()
                return
        if ready:
            self.back.take(ready)

    def ended(self, side: Side) -> None:
        """Pass on the end of the data of a side."""
        self.left_by_target |= side is self.back and not self.back.shut
        if self._open:
            side.take(END)
        else:
            self.reset()

    def shut(self) -> None:
        """Close both sides if the data of both has ended."""
        if self.front.shut and self.back.shut:
            self.front.close()
            self.back.close()

    def hold(self) -> None:
        """Let nothing pass, while both sides stay open."""
        self.held = True
        self.front.pause("a silence")
        self.back.pause("a silence")

    def release(self) -> None:
        """Pass on the held data."""
        self.held = False
        for side in (self.front, self.back):
            side.proceed("a silence")
            side.flow()

    def reset(self) -> None:
        """Reset both sides at once."""
        self.front.reset()
        self.back.reset()

    def closed(self) -> None:
        """Tell the link once both sides are closed."""
        if not self.front.open and not self.back.open:
            self._link.gone(self)


# -- the links --------------------------------------------------------------------------------------------------------


class Link:
    """One address, and the process behind it."""

    def __init__(self, detour: Detour, links: Links, names: Mapping[int, str]) -> None:
        self.name, self._detour = detour.name, detour
        self.wire = wire_of(detour.name)
        self._links, self._names = links, names
        self.towards, self.back = Lane(), Lane()
        self.opened = 0
        """Connections that reached the target since the link was opened."""
        self.pipes: set[Pipe] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._down = asyncio.Event()

    async def serve(self) -> None:
        """Listen whenever the target does, until cancelled."""
        try:
            async with task_group() as self._tasks:
                while True:
                    await self._listen()
        finally:
            self._tasks = None
            for pipe in list(self.pipes):
                pipe.reset()

    async def _listen(self) -> None:
        """Wait until the target listens, then listen until it no longer does."""
        address, loop = self._detour.address, asyncio.get_running_loop()
        await poll_until(lambda: listens(self._detour.hidden), LOOK)
        self._down.clear()
        try:
            server = await loop.create_server(lambda: self._new().front, address.host, address.port)
        except OSError as error:
            raise _taken(self._detour, error) from error
        try:
            await self._down.wait()
        finally:
            server.close()

    def _new(self) -> Pipe:
        pipe = Pipe(self, self._links)
        self.pipes.add(pipe)
        return pipe

    def gone(self, pipe: Pipe) -> None:
        """Forget a closed pipe; if its target closed it, check whether the target still listens."""
        self.pipes.discard(pipe)
        if pipe.left_by_target:
            self._do(self._look)

    async def _look(self) -> None:
        if not await listens(self._detour.hidden):
            self._down.set()

    @property
    def introduction(self) -> int:
        """Bytes within which a server that connects introduces itself."""
        return self.wire.introduction if self.wire else 0

    def opener(self, said: bytes) -> str:
        """Return the name of the server with this introduction; empty if it is not complete yet."""
        return self.wire.introduced(said, self._detour.address.port, self._names) if self.wire else ""

    def named(self, pipe: Pipe) -> None:
        """Apply the condition to a pipe whose opener has just introduced itself."""
        condition, counts = self._links.condition, self._links.counts
        if pipe.ends and condition.holds(pipe.ends):
            counts.held += 1
            pipe.hold()
        elif pipe.ends and condition.resets(pipe.ends):
            counts.refused += 1
            pipe.reset()

    def lead(self, pipe: Pipe) -> None:
        """Connect a pipe to the target: its first bytes have come."""
        self._do(lambda: self._connect(pipe))

    def _do(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        if self._tasks:  # else everything is being closed
            self._tasks.create_task(work())

    async def _connect(self, pipe: Pipe) -> None:
        """Connect a pipe to the target, unless the condition forbids it."""
        pipe.ends = ends = Ends(kind_of(pipe.first, self.wire), self.name)
        if not await self._admitted(pipe, ends):
            return
        hidden = self._detour.hidden
        try:
            await asyncio.get_running_loop().create_connection(lambda: pipe.back, hidden.host, hidden.port)
        except OSError:
            self._down.set()
            pipe.reset()
            return
        self.opened += 1
        pipe.opened(ends)

    async def _admitted(self, pipe: Pipe, ends: Ends) -> bool:
        links = self._links
        while links.condition.holds(ends):
            links.counts.held += 1
            await links.lifted.wait()
        if links.condition.resets(ends):
            links.counts.refused += 1
            pipe.reset()
            return False
        return True


class Links:
    """All links of a system, in this process. `open_links` makes it."""

    def __init__(self, detours: Sequence[Detour]) -> None:
        self.condition = Condition()
        """The condition that all of them are under."""
        self.lifted = asyncio.Event()
        self.counts = Counts()
        """The effects of all conditions so far."""
        names = {detour.address.port: detour.name for detour in detours}
        self.links = {detour.name: Link(detour, self, names) for detour in detours}
        """Name of the process behind it -> link."""

    def connections(self, where: Selection = EVERYWHERE) -> list[Ends]:
        """Return the connections that are open now."""
        return [pipe.ends for pipe in self._pipes(where) if pipe.ends]

    def _pipes(self, where: Selection) -> list[Pipe]:
        found = [pipe for link in self.links.values() for pipe in link.pipes]
        return [pipe for pipe in found if pipe.ends and pipe.ends in where]

    def impose(self, condition: Condition) -> int:
        """Impose a condition in place of the one before; return how many open connections were reset or held."""
        self.lift()
        self.condition = condition
        self.lifted.clear()
        hit = 0
        for pipe in self._pipes(EVERYWHERE):
            if pipe.ends and condition.holds(pipe.ends):
                self.counts.held += 1
                pipe.hold()
            elif pipe.ends and condition.resets(pipe.ends):
                self.counts.cut += 1
                pipe.reset()
            else:
                continue
            hit += 1
        return hit

    def lift(self) -> None:
        """End the condition; data that was delayed arrives when it was due, data that was held at once."""
        self.condition = Condition()
        self.lifted.set()
        for pipe in self._pipes(EVERYWHERE):
            if pipe.held:
                pipe.release()

    async def measure(self) -> NoReturn:
        """Measure `Counts.stalled`: how late this process gets a processor."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += TICK
            await asyncio.sleep(due - loop.time())
            late = loop.time() - due
            self.counts.stalled = max(self.counts.stalled, late)
            due += late


def _taken(detour: Detour, error: OSError) -> MachineError:
    return MachineError(f"the link to {detour.name} cannot listen on {detour.address}: {error.strerror}")


def _check(detour: Detour) -> None:
    """Raise `MachineError` if the address is in use; the link itself listens only when its target does."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((detour.address.host, detour.address.port))
        except OSError as error:
            raise _taken(detour, error) from error


@asynccontextmanager
async def open_links(detours: Sequence[Detour]) -> AsyncIterator[Links]:
    """Open a link for every detour in this process, each listening as soon as its target does.

    Raises `MachineError` if an address is in use.
    """
    for detour in detours:
        _check(detour)
    links = Links(detours)
    async with running(links.measure(), *(link.serve() for link in links.links.values())):
        yield links


# -- the process ------------------------------------------------------------------------------------------------------


class Proxy:
    """The process with the links, as its parent sees it. `proxying` makes it.

    Each call does what the method of `Links` does, and raises `MicroqError` if the process does not answer.
    """

    def __init__(self, started: Child) -> None:
        self._child = started

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    async def _ask(self, job: str, **facts: Any) -> Any:
        return await self._child.ask(job, within=ANSWER_SECONDS, **facts)

    async def watch(self) -> NoReturn:
        """Wait until the process ends, and raise `MicroqError`."""
        await self._child.watch()

    async def failure(self) -> str:
        """Return why the proxy no longer works; empty if it works."""
        try:
            await self.counts()
        except MicroqError as error:
            return str(error)
        return ""

    async def counts(self) -> Counts:
        """Return what was done to the connections."""
        found = await self._ask("counts")
        return Counts(**{**found, "lost": Counter({Reply(each): count for each, count in found["lost"].items()})})

    async def connections(self) -> list[Ends]:
        """Return the connections that are open now."""
        found = await self._ask("connections")
        return [Ends(Kind(kind), target, opener) for kind, target, opener in found]

    async def impose(self, condition: Condition) -> int:
        """Impose a condition in place of the one before; return how many open connections were reset or held."""
        return int(await self._ask("impose", pickled=base64.b64encode(pickle.dumps(condition)).decode()))

    async def lift(self) -> None:
        """End the condition."""
        await self._ask("lift")


@asynccontextmanager
async def proxying(detours: Sequence[Detour]) -> AsyncIterator[Proxy]:
    """Run a proxy with a link for every detour; afterwards it and all its connections are gone.

    Raises `MicroqError` if it does not start, for example because an address is in use.
    """
    words = json.dumps([[each.name, str(each.address), str(each.hidden)] for each in detours])
    async with child(__name__, "the proxy between the processes", words) as started:
        proxy = Proxy(started)
        await proxy.counts()
        yield proxy


def _jobs(links: Links) -> Mapping[str, Job]:
    """Return what the parent can ask for, by its name."""

    async def counts() -> dict[str, Any]:
        return {each.name: getattr(links.counts, each.name) for each in dataclasses.fields(Counts)}

    async def connections() -> list[Any]:
        return [dataclasses.astuple(ends) for ends in links.connections()]

    async def impose(pickled: str) -> int:
        return links.impose(pickle.loads(base64.b64decode(pickled)))  # noqa: S301 - only the parent has this pipe

    async def lift() -> None:
        links.lift()

    return {"counts": counts, "connections": connections, "impose": impose, "lift": lift}


async def _serve(words: str) -> None:
    detours = [Detour(name, Address.parse(at), Address.parse(hidden)) for name, at, hidden in json.loads(words)]
    async with open_links(detours) as links:
        await serve(_jobs(links))


if __name__ == "__main__":
    run("microq links", _serve(sys.argv[1]))
