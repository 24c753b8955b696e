"""The links between the processes of a system: TCP proxies in this process, and what can be switched on along them.

Everybody is configured with the address of a link; the process behind it listens elsewhere (`fleet.Detour`). While
nothing is switched on a link only carries. It listens while its target does, so that a process that is down refuses
its callers as it would without the link.

A cut is *silent* or it resets. A network that is split is silent: no connection closes, what was sent is kept by the
sender's machine and arrives when the way is free again, and until their heartbeats fail the halves take each other for
alive. That is what a split of the cluster should be; a reset fails the writes under way at once instead, and so hides
what happens while a backup does not answer. A client that is cut off sees a reset when something between it and the
member says no, and it is the harder test of its doubt: calls end at once without an answer, all others fail as not
sent. Silence makes it wait for its heartbeat, and its callers for their deadlines. A reset tells members no sooner than
silence that one is gone: they connect again, which succeeds, and wait for the heartbeat as well.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random

from microq.chaos.conditions import Conditions, Counts, Cut, Ends, Lane, Loss, Selection, Slowness, everywhere
from microq.chaos.pipes import Pipe
from microq.chaos.wire import Reply, kind_of
from microq.chaos.wire_hazelcast import introduced
from microq.errors import MachineError
from microq.fleet import Detour
from microq.tasks import task_group

LOOK = 0.05
"""Pause in seconds between two looks whether a target listens again."""


class Link:
    """One address, and the process behind it."""

    def __init__(self, detour: Detour, conditions: Conditions, names: Mapping[int, str]) -> None:
        self.name, self._detour = detour.name, detour
        self._conditions, self._names = conditions, names
        self.towards, self.back = Lane(), Lane()
        self.opened = 0
        """Connections that reached the target since the link is open."""
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
        """Wait until the target listens, and listen until it does no more."""
        address, loop = self._detour.address, asyncio.get_running_loop()
        while not await self._target_listens():  # noqa: ASYNC110 - nobody tells when a process listens
            await asyncio.sleep(LOOK)
        self._down.clear()
        try:
            server = await loop.create_server(lambda: self._new().front, address.host, address.port)
        except OSError as error:
            raise _taken(self._detour, error) from error
        try:
            await self._down.wait()
        finally:
            server.close()

    async def _target_listens(self) -> bool:
        hidden = self._detour.hidden
        with socket.socket() as probe:
            probe.settimeout(0)
            try:
                await asyncio.get_running_loop().sock_connect(probe, (hidden.host, hidden.port))
            except OSError:
                return False
        return True

    def _new(self) -> Pipe:
        pipe = Pipe(self, self._conditions, (self.towards, self.back))
        self.pipes.add(pipe)
        return pipe

    def gone(self, pipe: Pipe) -> None:
        """See `Host.gone`."""
        self.pipes.discard(pipe)
        if pipe.left_by_target:
            self._do(self._look)

    async def _look(self) -> None:
        if not await self._target_listens():
            self._down.set()

    def opener(self, said: bytes) -> str:
        """See `Host.opener`."""
        return introduced(said, self._detour.address.port, self._names)

    def named(self, pipe: Pipe) -> None:
        """See `Host.named`: a cut may be meant for it."""
        cut = self._conditions.cut
        if cut and pipe.ends and cut.where(pipe.ends):
            if cut.silent:
                self._conditions.counts.held += 1
                pipe.hold()
            else:
                self._conditions.counts.refused += 1
                pipe.reset()

    def lead(self, pipe: Pipe) -> None:
        """See `Host.lead`."""
        self._do(lambda: self._connect(pipe))

    def _do(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        if self._tasks:  # else everything is being closed
            self._tasks.create_task(work())

    async def _connect(self, pipe: Pipe) -> None:
        """Lead a connection to the target, unless it is cut."""
        pipe.ends = ends = Ends(kind_of(pipe.first, self.name), self.name)
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
        conditions = self._conditions
        while (cut := conditions.cut) and cut.where(ends):
            if not cut.silent:
                conditions.counts.refused += 1
                pipe.reset()
                return False
            conditions.counts.held += 1
            await conditions.healed.wait()
        return True


class Links:
    """All links of a system. Made by `open_links`; what each switch did since then is in `counts`."""

    def __init__(self, detours: Sequence[Detour]) -> None:
        self._conditions = Conditions()
        names = {detour.address.port: detour.name for detour in detours}
        self.links = {detour.name: Link(detour, self._conditions, names) for detour in detours}
        """Name of the process behind it -> link."""

    @property
    def counts(self) -> Counts:
        """What was done to the connections."""
        return self._conditions.counts

    def connections(self, where: Selection = everywhere) -> list[Ends]:
        """Return the connections that are open now."""
        return [pipe.ends for pipe in self._pipes(where) if pipe.ends]

    def _pipes(self, where: Selection) -> list[Pipe]:
        found = [pipe for link in self.links.values() for pipe in link.pipes]
        return [pipe for pipe in found if pipe.ends and where(pipe.ends)]

    def cut(self, where: Selection, *, silent: bool = False) -> int:
        """Cut the selected connections until `heal`; return how many were open.

        They are reset, and new ones as well. If `silent`, all stay open and nothing passes; what was sent meanwhile
        arrives after the healing, as in a network that was split. Another cut heals the one before.
        """
        self.heal()
        self._conditions.cut = Cut(where, silent)
        self._conditions.healed.clear()
        chosen = self._pipes(where)
        for pipe in chosen:
            if silent:
                pipe.hold()
                self.counts.held += 1
            else:
                pipe.reset()
                self.counts.cut += 1
        return len(chosen)

    def heal(self) -> None:
        """Undo `cut`."""
        self._conditions.cut = None
        self._conditions.healed.set()
        for pipe in self._pipes(everywhere):
            if pipe.held:
                pipe.release()

    def slow(
        self, delay: float = 0.1, jitter: float = 0.05, rate: float = 500 * 1024, rng: Random | None = None
    ) -> None:
        """Slow every link until `hurry`: `delay` ± `jitter` seconds each way, `rate` bytes per second each way."""
        self._conditions.slowness = Slowness(delay, jitter, rate, rng or Random())

    def hurry(self) -> None:
        """Undo `slow`; what is under way arrives when it was due."""
        self._conditions.slowness = None

    def lose_replies(
        self, reply: Reply, every: int = 1, rng: Random | None = None, where: Selection = everywhere
    ) -> None:
        """Lose one reply in `every` until `keep_replies`: the last of them, or with an `rng` by chance.

        The request was carried out; instead of the reply the connection is closed, with all requests under way on it.
        """
        self._conditions.loss = Loss(reply, every, rng, where)

    def keep_replies(self) -> None:
        """Undo `lose_replies`."""
        self._conditions.loss = None


def _taken(detour: Detour, error: OSError) -> MachineError:
    return MachineError(f"the link to {detour.name} cannot listen on {detour.address}: {error.strerror}")


def _check(detour: Detour) -> None:
    """Raise `MachineError` if the address cannot be had; it is taken for good when the target listens."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((detour.address.host, detour.address.port))
        except OSError as error:
            raise _taken(detour, error) from error


@asynccontextmanager
async def open_links(detours: Sequence[Detour]) -> AsyncIterator[Links]:
    """Open a link for every detour, each listening as soon as its target does.

    Raises `MachineError` if an address is in use.
    """
    for detour in detours:
        _check(detour)
    async with task_group() as tasks:
        links = Links(detours)
        serving = [tasks.create_task(link.serve()) for link in links.links.values()]
        try:
            yield links
        finally:
            for task in serving:
                task.cancel()
