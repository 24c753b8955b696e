"""A whole system in this process: the real services over HTTP on loopback, only the cluster behind them a fake."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from logging import INFO, FileHandler, getLogger
from pathlib import Path
from typing import Any, NoReturn, Self

from aiohttp import web
from support.fakes import FakeMap, FakeQueue, FakeStore
from support.project import make_project
from support.snapshots import figures

from microq.backends.base import Kind, MessageQueue, Refused, Reply
from microq.chaos.conditions import Condition, Counts, Ends
from microq.chaos.faults.network import Loss, Slowness
from microq.config import Address, Config
from microq.errors import MachineError, MessageError, QueueIndeterminateError
from microq.figures import QueueView
from microq.fleet import SERVICES, UP, Event, Operator, ProcessState, ProcessView, Role, Snapshot, addresses, name_of
from microq.log import _Formatter
from microq.message import Message
from microq.services import config, facade, limits, logging, messages
from microq.services.faulty import Blind, Undiscerning
from microq.web import Handler


class LossyQueue(FakeQueue):
    """It confirms every message, and drops one in fifty."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.dropped: list[str] = []

    async def put(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.seen += 1
            if self.seen % 50 == 0:
                self.dropped.append(message.id)
            else:
                await super().put([message])


class StuckQueue(FakeQueue):
    """It takes everything and gives nothing."""

    async def receive(self, most: int, seconds: float) -> list[Message | Refused]:
        return await FakeQueue().receive(most, seconds)


class RepeatingQueue(FakeQueue):
    """It gives each message to every consumer; `mine` is one consumer's end of it."""

    def __init__(self) -> None:
        super().__init__()
        self._ends: list[FakeQueue] = []

    def mine(self) -> FakeQueue:
        end = FakeQueue(self.items)
        self._ends.append(end)
        return end

    async def size(self) -> int:
        return sum([await end.size() for end in self._ends]) if self._ends else await super().size()


class AmnesiacMap(FakeMap):
    """It confirms what it does not keep."""

    async def put_if_absent(self, key: str, value: str) -> None:
        await self.get(key + value)


class CarelessMap(FakeMap):
    """Every entry is new to it, however often it came."""

    async def put_if_absent(self, key: str, value: str) -> None:
        await self.set(key, value)


RESTORING_SECONDS = 0.1
"""For how long a member that was started has not all its copies."""

FIRST_PID = 1 << 30
"""No process has it: the kernel gives none above 2^22."""

Verb = Callable[["InProcess", Sequence[str]], Coroutine[Any, Any, list[str]]]


def whole(verb: Verb) -> Verb:
    """Carry a verb out to its end also if who asked is cancelled meanwhile: no process is left between two states."""

    async def wrapped(self: InProcess, names: Sequence[str]) -> list[str]:
        doing = asyncio.ensure_future(verb(self, names))
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            await asyncio.wait([doing])
            raise

    return wrapped


class FakeLinks:
    """What a fault does to `Proxy`: the members see what is left of each other, requests take their time."""

    def __init__(self, system: InProcess) -> None:
        self._system = system
        self._counts = Counts()
        self._why = ""
        self._ended: asyncio.Event | None = None
        self._lonely = ""
        self._lag = 0.0

    def seen(self, member: str, members: int) -> int:
        if not self._lonely:
            return members
        return 1 if member == self._lonely else members - 1

    async def counts(self) -> Counts:
        return self._counts

    async def watch(self) -> NoReturn:
        self._ended = asyncio.Event()
        await self._ended.wait()
        raise MachineError(self._why)

    async def failure(self) -> str:
        return self._why

    def end(self) -> None:
        self._why = "the proxy ended"
        if self._ended:
            self._ended.set()

    @web.middleware
    async def delay(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.sleep(self._lag)
        return await handler(request)

    async def impose(self, condition: Condition) -> int:
        if self._system.misses:
            return 0
        members = self._system.members()
        if isinstance(condition, Slowness):
            self._lag = 2 * condition.delay
        if isinstance(condition, Loss):
            self._counts.lost[condition.reply] += 1000
            if condition.reply is Reply.ENQUEUE:
                self._system.queue.late_errors.extend([QueueIndeterminateError("the reply was lost")] * 5)
        self._lonely = next((name for name in members if condition.holds(Ends(Kind.PEER, name))), "")
        return sum(condition.resets(Ends(Kind.CLIENT, name)) for name in members)

    async def lift(self) -> None:
        self._lonely, self._lag = "", 0.0


class InProcess(Operator):
    """Its services are applications in this process, its members are rows of its snapshot."""

    def __init__(
        self,
        config: Config,
        queue: FakeQueue | None = None,
        log: FakeMap | None = None,
        stored: FakeMap | None = None,
    ) -> None:
        self.config = config
        self.queue = FakeQueue() if queue is None else queue
        self.log = FakeMap() if log is None else log
        self.stored = FakeMap() if stored is None else stored
        self.store = FakeStore(log=self.log, stored=self.stored)
        self.pid = FIRST_PID
        self.verbs: list[tuple[str, list[str]]] = []
        self.announced: list[Event] = []
        self.managed = True
        self.safe = True
        self.restored = 0.0
        """The monotonic time at which the member that was started last has its copies back."""
        self.merging = 0
        """How often a messages-service still says that it may show only some of the messages."""
        self.misses = False
        """A kill is confirmed and did nothing."""
        self.without: set[str] = set()
        """Services that are said to be up and never were."""
        self.defects: dict[str, str] = {}
        self.refuses: Exception | None = None
        """What starting the consumers raises."""
        self.links = FakeLinks(self)
        self._stack = ExitStack()
        self._running: dict[str, AsyncExitStack] = {}
        self._views = {
            (name := name_of(self.config, role, address)): ProcessView(
                name, role, str(address), ProcessState.READY, pid=self._new_pid()
            )
            for role, listed in self._listed().items()
            for address in listed
        }
        self.owner: str | None = self._named(Role.QUEUE)[1]

    def _listed(self) -> dict[Role, Sequence[Address]]:
        services = {role: addresses(self.config, role) for role in SERVICES}
        return {Role.QUEUE: self.config.servers, **services}

    def _new_pid(self) -> int:
        self.pid += 1
        return self.pid

    def members(self) -> list[str]:
        return self._named(Role.QUEUE)

    def _named(self, role: Role) -> list[str]:
        return [name for name, view in self._views.items() if view.role is role]

    # -- the services -------------------------------------------------------------------------------------------------

    def _write_log(self) -> None:
        """Write what the facade says to the file in which its supervisor keeps it."""
        (facade_name,) = self._named(Role.FACADE)
        file = self.config.folder / "logs" / f"{facade_name}.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = FileHandler(file, encoding="utf-8")
        handler.setFormatter(_Formatter(facade_name))
        logger = getLogger(facade.__name__)
        level = logger.level
        logger.setLevel(INFO)
        logger.addHandler(handler)
        self._stack.callback(handler.close)
        self._stack.callback(logger.removeHandler, handler)
        self._stack.callback(logger.setLevel, level)

    async def __aenter__(self) -> Self:
        self._write_log()
        for role in (Role.LOGGING, Role.FACADE, Role.MESSAGES):
            for name in self._named(role):
                if self._views[name].state in UP:
                    await self._serve(name)
        return self

    async def __aexit__(self, *_error: object) -> None:
        for name in list(self._running):
            await self._end(name)
        self._stack.close()

    def _app(self, name: str) -> web.Application:
        app = self._made(name)
        app.middlewares.append(self.links.delay)
        return app

    def _made(self, name: str) -> web.Application:
        role = self._views[name].role
        if defect := self.defects.get(role):
            # The real one, but for the queue and the maps.
            return self._broken(name, defect)
        if role is Role.FACADE:
            return facade.make_app(self.config, name, self._open_queue, self.store.opener())
        if role is Role.LOGGING:
            return logging.make_app(self.config, name, self.store.opener())
        if role is Role.CONFIG:
            return config.make_app(self.config, name)
        return messages.make_app(self.config, name, self._open_queue, self.store.opener())

    def _broken(self, name: str, defect: str) -> web.Application:
        if defect == "no-redelivery":
            return facade.make_app(self.config, name, self._open_queue, self.store.opener(), Blind)
        if defect == "no-dedupe":
            return messages.make_app(self.config, name, self._open_queue, self.store.opener(), Undiscerning)
        raise NotImplementedError(defect)

    @asynccontextmanager
    async def _open_queue(self, _config: Config, name: str) -> AsyncIterator[MessageQueue]:
        repeats = isinstance(self.queue, RepeatingQueue) and name.startswith(Role.MESSAGES)
        yield self.queue.mine() if repeats and isinstance(self.queue, RepeatingQueue) else self.queue

    async def _serve(self, name: str) -> None:
        if name in self.without:
            return
        address = Address.parse(self._views[name].address)
        async with AsyncExitStack() as stack:
            listener = stack.enter_context(socket.create_server((address.host, address.port)))
            await stack.enter_async_context(limits.serving(self._app(name), listener, self.config.limits, 0.1))
            self._running[name] = stack.pop_all()

    async def _end(self, name: str) -> None:
        if running := self._running.pop(name, None):
            await running.aclose()

    # -- the operator -------------------------------------------------------------------------------------------------

    def _select(self, names: Sequence[str], *, up: bool) -> list[str]:
        return [
            name
            for name, view in self._views.items()
            if (name in names or view.role in names) and (view.state in UP) is up
        ]

    def _set(self, name: str, state: ProcessState, pid: int | None) -> None:
        view = self._views[name]
        self._views[name] = ProcessView(name, view.role, view.address, state, pid=pid)

    async def act(self, verb: str, names: Sequence[str]) -> list[str]:
        done: list[str] = await getattr(self, verb)(names)
        return done

    @whole
    async def start(self, names: Sequence[str]) -> list[str]:
        self.verbs.append(("start", list(names)))
        chosen = self._select(names, up=False)
        if self.refuses and any(self._views[name].role is Role.MESSAGES for name in chosen):
            raise self.refuses
        for name in chosen:
            self._set(name, ProcessState.READY, self._new_pid())
            if self._views[name].role is Role.QUEUE:
                self.restored = time.monotonic() + RESTORING_SECONDS
            else:
                await self._serve(name)
        return chosen

    @whole
    async def stop(self, names: Sequence[str]) -> list[str]:
        self.verbs.append(("stop", list(names)))
        if self.misses:
            return list(names)
        chosen = self._select(names, up=True)
        for name in chosen:
            await self._end(name)
            self._set(name, ProcessState.STOPPED, None)
        self._promote()
        return chosen

    @whole
    async def kill(self, names: Sequence[str]) -> list[str]:
        self.verbs.append(("kill", list(names)))
        if self.misses:
            return list(names)
        for name in names:
            await self._end(name)
            self._set(name, ProcessState.EXITED, None)
        self._promote()
        return list(names)

    def _promote(self) -> None:
        """A backup becomes the owner if the owner is gone; without backups the items are gone too."""
        if self.owner is None or self.owner in self._alive():
            return
        if self.config.queue.backup_count == 0:
            self.queue.items.clear()
        self.owner = next(iter(self._alive()), None)

    async def pause(self, names: Sequence[str]) -> list[str]:
        self.verbs.append(("pause", list(names)))
        for name in [] if self.misses else names:
            self._set(name, ProcessState.PAUSED, self._views[name].pid)
        self._promote()
        return list(names)

    async def resume(self, names: Sequence[str]) -> list[str]:
        self.verbs.append(("resume", list(names)))
        for name in names:
            self._set(name, ProcessState.READY, self._views[name].pid)
        return list(names)

    async def restart(self, names: Sequence[str]) -> list[str]:
        await self.stop(names)
        return await self.start(names)

    async def plant(self, _config: Config, items: Sequence[str]) -> None:
        """Put items into the queue as they are; a `Planter`."""
        for item in [] if self.misses else items:
            try:
                self.queue.items.append(Message.from_json(item))
            except MessageError as error:
                self.queue.items.append(Refused(str(error), item))

    async def sabotage(self, role: str, defect: str) -> None:
        self.verbs.append(("sabotage", [role, defect]))
        self.defects[role] = defect

    async def announce(self, event: Event) -> None:
        self.announced.append(event)

    async def events(self) -> AsyncIterator[Event]:
        raise NotImplementedError
        yield

    def _alive(self) -> list[str]:
        return [name for name in self._named(Role.QUEUE) if self._views[name].state is ProcessState.READY]

    def _said(self, view: ProcessView) -> ProcessView:
        if view.role is not Role.MESSAGES or not self.merging:
            return view
        self.merging -= 1
        return replace(view, merging=True)

    async def snapshot(self) -> Snapshot:
        alive = self._alive()
        size = len(self.queue.items)
        holders = [name for name in alive if name != self.owner][: self.config.queue.backup_count]
        return Snapshot(
            taken_at=time.time(),
            folder=str(self.config.folder),
            processes=tuple(self._said(view) for view in self._views.values()),
            members=tuple(
                figures(
                    name,
                    items=size if name == self.owner else 0,
                    backups=size if name in holders else 0,
                    seen=self.links.seen(name, len(alive)),
                    safe=self.safe and time.monotonic() >= self.restored,
                )
                for name in alive
            ),
            queue=self._queue_view(size),
            managed=self.managed,
        )

    def _queue_view(self, size: int) -> QueueView | None:
        """What the facade says of the queue, if it is there to say something."""
        if self._views[self._named(Role.FACADE)[0]].state is not ProcessState.READY:
            return None
        return QueueView("memory", "messages-queue", size, 1000, self.config.queue.backup_count, self.owner)


def in_process(folder: Path, extra: str = "", **parts: FakeQueue | FakeMap) -> InProcess:
    """Return a system on free ports of this machine, its parts as asked for."""
    return InProcess(make_project(folder, extra=extra).config, **parts)  # type: ignore[arg-type]  # named as they are
