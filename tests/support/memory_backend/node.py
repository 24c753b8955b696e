"""`python -I node.py JSON`: one node of a queue in memory.

Nodes are in the order in which they joined. The first one is the primary: it alone serves clients, and answers them
when the next ones in that order, as many as there are to be backups, have what it did. When it ends, which closes its
connections, the next one is the primary. A node that starts joins as the last one and gets a copy of everything.
A node that is silent, but not gone, is waited for.

Clients and nodes speak lines of JSON. Nodes reach each other at addresses of their own, past every link of a fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

PAUSE = 0.03
"""Seconds between two looks at the others, while it is not clear who is the primary."""

GRACE = 3.0
"""Seconds, for each node of a lower number, for which that one is waited for before this one makes a cluster."""

LARGEST = 64 << 20
"""Bytes of a line."""

Place = tuple[str, int]

log = logging.getLogger(__name__)


class Stream:
    """A connection that carries a JSON object a line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, **words: Any) -> None:
        self._writer.write(json.dumps(words).encode() + b"\n")

    async def hear(self) -> Any:
        """Return what comes next, or nothing when the other side is gone."""
        try:
            line = await self._reader.readline()
        except OSError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def connected(place: Place) -> AsyncIterator[Stream]:
    reader, writer = await asyncio.open_connection(*place, limit=LARGEST)
    try:
        yield Stream(reader, writer)
    finally:
        writer.close()


class Follower:
    """Another node, as the primary sees it: what it was told, and what it has confirmed."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._told = 0
        self._open: dict[int, asyncio.Future[None]] = {}
        self.copies = self.whole = False
        """Whether it is to have everything, and has confirmed that."""

    def tell(self, **words: Any) -> asyncio.Future[None]:
        """Send something, and return what is done when it is confirmed, or the node is gone."""
        self._told += 1
        self._stream.send(number=self._told, **words)
        self._open[self._told] = asyncio.get_running_loop().create_future()
        return self._open[self._told]

    def confirm(self, _told: asyncio.Future[None]) -> None:
        """Note that it has everything."""
        self.whole = True

    async def listen(self) -> None:
        """Hear what is confirmed until the node is gone."""
        while said := await self._stream.hear():
            _finish(self._open.pop(said["number"]))
        for each in self._open.values():
            _finish(each)


def _finish(told: asyncio.Future[None]) -> None:
    if not told.done():  # else who waited for it is gone
        told.set_result(None)


class Node:
    """The state of one node: `new` until it has joined, then `backup` or `primary`."""

    def __init__(self, name: str, rank: int, nodes: list[tuple[str, Place]], backups: int, most: int) -> None:
        self._name, self._rank, self._inner, self._backups, self._most = name, rank, dict(nodes), backups, most
        self._me = nodes[rank][0]
        self._state = "new"
        self._view: list[str] = []
        """The nodes that have joined, in that order."""
        self._items: deque[str] = deque()
        self._filled = asyncio.Condition()
        self._followers: dict[str, Follower] = {}

    # -- for clients ----------------------------------------------------------------------------------------------

    async def client(self, stream: Stream) -> None:
        """Serve a client until it is gone; what still waits for messages then takes none."""
        tasks = set()
        while asked := await stream.hear():
            task = asyncio.create_task(self._answer(stream, **asked))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        for task in tasks:
            task.cancel()

    async def _answer(self, stream: Stream, id: int, call: str, **facts: Any) -> None:  # noqa: A002 - as it is called
        anybody: dict[str, Callable[[], dict[str, Any]]] = {"where": self._where, "figures": self._figures}
        primary: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            "put": self._put,
            "take": self._take,
            "size": self._size,
            "peek": self._peek,
        }
        if call in anybody:
            stream.send(id=id, **anybody[call]())
        elif self._state != "primary":
            stream.send(id=id, moved=True)
        else:
            stream.send(id=id, **await primary[call](**facts))

    def _where(self) -> dict[str, Any]:
        return {"primary": self._view[0] if self._view else None}

    def _figures(self) -> dict[str, Any]:
        copying = [each for each in self._followers.values() if each.copies]
        whole = all(each.whole for each in copying)
        return {"state": self._state, "size": len(self._items), "seen": len(self._view), "whole": whole}

    async def _put(self, items: list[str]) -> dict[str, Any]:
        if len(self._items) + len(items) > self._most:
            return {"full": True}
        self._items.extend(items)
        confirmed = self._tell_copies(append=items)
        async with self._filled:
            self._filled.notify_all()
        await confirmed
        return {"ok": True}

    async def _take(self, most: int, seconds: float) -> dict[str, Any]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._filled:
                await self._filled.wait_for(lambda: self._items)
        items = [self._items.popleft() for _ in range(min(most, len(self._items)))]
        if items:
            await self._tell_copies(take=len(items))
        return {"items": items}

    async def _size(self) -> dict[str, Any]:
        return {"size": len(self._items)}

    async def _peek(self) -> dict[str, Any]:
        return {"item": self._items[0] if self._items else None}

    # -- the primary ----------------------------------------------------------------------------------------------

    def _tell_copies(self, **words: Any) -> asyncio.Future[Any]:
        """Tell the backups at once, so that all of them hear everything in the same order."""
        return asyncio.gather(*(each.tell(**words) for each in self._followers.values() if each.copies))

    def _changed(self) -> None:
        """Say who has joined, and have copies made on the first ones after this node."""
        self._view = [self._me, *self._followers]
        for number, each in enumerate(self._followers.values()):
            if number < self._backups and not each.copies:
                each.copies = True
                each.tell(items=[*self._items]).add_done_callback(each.confirm)
            each.tell(view=self._view)
        log.info("%s is the primary of %s", self._me, ", ".join(self._view))

    async def peer(self, stream: Stream) -> None:
        """Answer another node, which may join."""
        asked = await stream.hear()
        if asked and asked["call"] == "who":
            stream.send(state=self._state)
        elif asked and self._state == "primary":
            joining = asked["address"]
            follower = self._followers[joining] = Follower(stream)
            self._changed()
            await follower.listen()
            if self._followers[joining] is follower:  # else it is back already
                del self._followers[joining]
                self._changed()

    # -- the others -----------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Join, follow the primary, and be it when it is this node's turn."""
        while self._state != "primary":
            primary = await (self._first() if self._state == "new" else self._next())
            if primary == self._me:
                self._state = "primary"
                self._changed()
                self._joined()
            elif primary:
                await self._follow(primary)
            else:
                await asyncio.sleep(PAUSE)

    async def _first(self) -> str | None:
        """Return whom to follow at the start; if nobody has joined, that is the one with the lowest number."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            states = dict(zip(self._inner, await asyncio.gather(*map(self._state_of, self._inner)), strict=True))
            if found := [each for each, state in states.items() if state == "primary"]:
                return found[0]
            lower = [*self._inner][: self._rank]
            patient = self._rank and loop.time() - began < GRACE * self._rank
            if "backup" not in states.values() and not patient and not any(states[each] for each in lower):
                return self._me
            await asyncio.sleep(PAUSE)

    async def _next(self) -> str | None:
        """Return who is the primary after the last one, or nobody yet: the next one in order may not have noticed."""
        for each in self._view[1:]:
            state = "primary" if each == self._me else await self._state_of(each)
            if state in {"primary", "backup"}:
                return each if state == "primary" else None
        raise AssertionError("this node is in its own view")

    async def _state_of(self, address: str) -> str | None:
        """Return the state of a node; None if it is gone."""
        if address == self._me:
            return self._state
        with contextlib.suppress(OSError):
            async with connected(self._inner[address]) as stream:
                stream.send(call="who")
                said = await stream.hear()
                return said["state"] if said else None
        return None

    async def _follow(self, primary: str) -> None:
        """Do what the primary does until it is gone."""
        with contextlib.suppress(OSError):
            async with connected(self._inner[primary]) as stream:
                stream.send(call="join", address=self._me)
                while said := await stream.hear():
                    self._do(**said)
                    stream.send(number=said["number"])
                    if "view" in said and self._state == "new":
                        self._state = "backup"
                        self._joined()

    def _do(
        self,
        number: int,  # noqa: ARG002 - what is confirmed
        items: list[str] | None = None,
        append: list[str] | None = None,
        take: int = 0,
        view: list[str] | None = None,
    ) -> None:
        self._items = self._items if items is None else deque(items)
        self._items.extend(append or [])
        for _ in range(take):
            self._items.popleft()
        self._view = view or self._view

    def _joined(self) -> None:
        log.info("%s has joined as %s", self._name, self._state)


async def main(name: str, rank: int, nodes: list[Any], door: Place, backups: int, most: int) -> None:
    node = Node(name, rank, [(address, (inner[0], inner[1])) for address, inner in nodes], backups, most)

    def serving(serve: Callable[[Stream], Any]) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stream = Stream(reader, writer)
            try:
                await serve(stream)
            finally:
                stream.close()

        return accept

    async with (
        await asyncio.start_server(serving(node.client), *door, limit=LARGEST),
        await asyncio.start_server(serving(node.peer), *nodes[rank][1], limit=LARGEST),
    ):
        await node.live()
        await asyncio.Event().wait()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.INFO,
        format=f"%(asctime)s.%(msecs)03d %(levelname)-7s {given['name']:<16} %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    asyncio.run(main(**given))
