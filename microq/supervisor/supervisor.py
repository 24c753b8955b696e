"""The supervisor: starts, watches and ends every process of one run. It is the `Operator` in this process."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from microq.aio import Broadcast, task_group, together
from microq.backends import backend
from microq.backends.jars import Engine
from microq.client import listens, open_session
from microq.config import Config
from microq.errors import MachineError, MicroqError, UsageError, reason
from microq.fleet import (
    SERVERS,
    STAGES,
    UP,
    Detour,
    Event,
    Operator,
    ProcessState,
    Role,
    Snapshot,
    backend_of,
    group_of,
    map_role,
    program_of,
)
from microq.supervisor import control, records, runs, snapshot
from microq.supervisor.class_data import missing, train
from microq.supervisor.process import TERM_SECONDS, ForkServer, Process, Start, executing, forking
from microq.supervisor.readiness import answers, joined, of_program, says, seen, until, with_restoring
from microq.supervisor.topology import (
    ProcessSpec,
    Servers,
    check_ports,
    child_environment,
    open_servers,
    program_argv,
    program_environment,
    select,
    server_environment,
    service_argv,
    specs,
)

log = logging.getLogger(__name__)

START_SECONDS = 40.0
"""Seconds that a process may take to become ready if it restores no messages."""

JOIN_SECONDS = 20.0
"""Seconds that the servers may take to see each other after a start if nothing has to be copied."""

ARCHIVE_SECONDS = 20.0
"""Seconds that the end of a first run waits for its class-data archive; without it the next start is slow too."""


class Supervisor(Operator):
    """All processes of a run. Made by `supervise`."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        session: aiohttp.ClientSession,
        tasks: asyncio.TaskGroup,
        servers: Servers,
        forks: ForkServer,
    ) -> None:
        self.config, self.folder, self.specs = config, folder, servers.specs
        self._session, self._tasks, self._servers, self._forks = session, tasks, servers, forks
        self._events, self._sockets = Broadcast[Event](), snapshot.Sockets()
        self._config_file = runs.prepare(config, folder)
        self._verbs, self._defects = asyncio.Lock(), dict[Role, str]()
        self._training: asyncio.Task[None] | None = None
        self._start_seconds = START_SECONDS
        self._map_role = map_role(config)
        self._broker_role = Role.QUEUE if self._map_role is Role.MAPS else None
        """The role of the queue's servers if the maps have other servers."""
        book = records.Book(config, folder.name)
        self.processes = {
            spec.name: Process(spec, folder / "logs" / f"{spec.name}.log", book, self._events.send)
            for spec in self.specs
        }

    def events(self) -> AsyncIterator[Event]:
        """Yield the events from now on, until everything is shut down."""
        return self._events.listen()

    async def snapshot(self) -> Snapshot:
        """Return the state of the system now."""
        processes = list(self.processes.values())
        return await snapshot.take(self._session, self.config, self.folder, processes, self._servers, self._sockets)

    # -- the verbs ------------------------------------------------------------------------------------------------

    async def act(self, verb: str, names: Sequence[str]) -> list[str]:
        """Start in the order of the stages, stop in reverse, and do anything else to all at the same moment.

        If one does not start, those that were started with it are stopped again.
        """
        match verb:
            case "kill":
                return await self._each(names, Process.kill, UP)
            case "pause":
                return await self._each(names, Process.pause, {ProcessState.READY})
            case "resume":
                return await self._each(names, Process.resume, {ProcessState.PAUSED})
        async with self._verbs:
            match verb:
                case "start":
                    return await self._start(names)
                case "stop":
                    return await self._stop(names)
                case "restart":
                    await self._stop(names)
                    return await self._start(names)
        raise ValueError(verb)

    async def sabotage(self, role: str, defect: str) -> None:
        """Run a role with a defect from its next start on; an empty text ends that. Raises `UsageError`."""
        if defect and program_of(self.config, Role(role)):
            raise UsageError(f"{role} is an external program, which cannot run with the defect {defect}")
        self._defects[Role(role)] = defect

    async def announce(self, event: Event) -> None:
        """Send an event of a scenario to all listeners."""
        self._events.send(event)

    async def _each(
        self,
        names: Sequence[str],
        verb: Callable[[Process], Coroutine[Any, Any, None]],
        states: Collection[ProcessState],
    ) -> list[str]:
        """Apply the verb to those in one of the states; return their names."""
        chosen = [name for name in select(self.specs, names) if self.processes[name].state in states]
        await together(verb(self.processes[name]) for name in chosen)
        return chosen

    async def _start(self, names: Sequence[str]) -> list[str]:
        chosen = [name for name in select(self.specs, names) if not self.processes[name].up]
        processes = [self.processes[name] for name in chosen]
        check_ports([process.spec for process in processes])
        try:
            await self._bring_up(processes)
        except (MicroqError, asyncio.CancelledError):
            await self._stop(chosen)
            raise
        return chosen

    async def _bring_up(self, processes: Sequence[Process]) -> None:
        """Spawn the processes stage by stage; the services need one member, and the others join meanwhile.

        The services themselves wait for the brokers, which start at the same time as everything else.
        """
        members = [process for process in processes if process.spec.role is self._map_role]
        brokers = [process for process in processes if process.spec.role is self._broker_role]
        if any(process.spec.role not in SERVERS and not process.spec.program for process in processes):
            await self._forks.warm()
        held = await self.snapshot()
        self._start_seconds = with_restoring(START_SECONDS, held)
        async with task_group() as tasks:
            await self._spawn(brokers)
            for broker in brokers:
                tasks.create_task(self._until_ready(broker))
            if members and self._no_member_is_up():
                await self._spawn(members[:1])
                # Before it listens, the others would count it as dead and form a separate cluster.
                await seen(members[0], partial(listens, members[0].spec.door), self._start_seconds)
            await self._spawn([process for process in members if not process.up])
            waits = [tasks.create_task(self._until_ready(process)) for process in members]
            if waits:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for stage in STAGES[1:]:
                of_stage = [process for process in processes if process.spec.role in stage]
                await self._spawn(of_stage)
                waits = [tasks.create_task(self._until_ready(process, waits)) for process in of_stage]
        if members or brokers:
            await joined(self.snapshot, with_restoring(JOIN_SECONDS, held), self._no_broker_is_down)

    async def _until_ready(self, process: Process, others: Sequence[asyncio.Task[None]] = ()) -> None:
        """Wait until a process is ready, and until the `others` are."""
        if others:
            await asyncio.wait(others)
        await until(process, self._probe(process), self._start_seconds)

    async def _spawn(self, processes: Sequence[Process]) -> None:
        for process in processes:
            try:
                argv = self._argv(process.spec, [each.spec for each in processes])
            except OSError as error:
                raise MachineError(f"{process.spec.name} cannot be started: {reason(error)}") from error
            await process.spawn(argv, self._starter(process.spec))
            self._tasks.create_task(process.watch())

    def _probe(self, process: Process) -> Callable[[], Awaitable[bool]]:
        if process.spec.role in SERVERS:
            return says(process, backend(group_of(process.spec.name)).ready_line)
        if process.spec.program:
            return of_program(self._session, process, process.spec.program)
        return answers(self._session, process.spec)

    def _argv(self, spec: ProcessSpec, together: Sequence[ProcessSpec]) -> list[str]:
        if spec.role in SERVERS:
            return self._servers.argv(spec, alone=self._no_member_is_up())
        if spec.program:
            return program_argv(self.config, spec, spec.program)
        beside = [other for other in together if other.role is spec.role is Role.MESSAGES and other is not spec]
        return service_argv(spec, self._config_file, self._defects.get(spec.role, "") or self._lack(spec.role), beside)

    def _lack(self, role: Role) -> str:
        """Return the defect that a service has because others are external.

        External consumers write no claims, so a facade that redelivers would repeat every message.
        """
        return "no-redelivery" if role is Role.FACADE and program_of(self.config, Role.MESSAGES) else ""

    def _starter(self, spec: ProcessSpec) -> Start:
        if servers := backend_of(self.config, spec.role):
            environment = server_environment(self.config, spec.role, self.folder.name)
            return executing(environment, self.folder, named=servers.in_java)
        if spec.program:
            environment = program_environment(self.config, spec, spec.program, self.folder.name)
            return executing(environment, Path(spec.program.folder))
        return self._forks.start

    def _no_broker_is_down(self) -> bool:
        """Return whether every broker is up: else copies stay missing, and waiting for them is useless."""
        return all(process.up for process in self.processes.values() if process.spec.role is self._broker_role)

    def _no_member_is_up(self) -> bool:
        return not any(process.up for process in self.processes.values() if process.spec.role is self._map_role)

    async def _stop(self, names: Sequence[str], *, for_good: bool = False) -> list[str]:
        """Stop in reverse order. `for_good`: the data is not needed, so a server need not hand it over first."""
        chosen = [name for name in select(self.specs, names) if self.processes[name].up]
        for stage in reversed(STAGES):
            of_stage = [self.processes[n] for n in chosen if self.processes[n].spec.role in stage]
            await together(
                p.stop(0 if for_good and p.spec.role is self._broker_role else TERM_SECONDS) for p in of_stage
            )
        return chosen

    # -- the run --------------------------------------------------------------------------------------------------

    def train_archive(self) -> None:
        """Make missing class-data archives in the background: the next start is faster."""
        engine = self._servers.engine
        if engine and missing(engine, self.config) and self._training is None:
            self._training = self._tasks.create_task(train(engine, self.config, self.folder.name))

    async def shut_down(self, *, at_once: bool = False) -> None:
        """End all processes, in order or all at the same moment, and then the streams of events."""
        try:
            await (self.kill(["all"]) if at_once else self._stop(["all"], for_good=True))
            await asyncio.to_thread(self._servers.remove_data)
            if self._training and not self._training.done() and not at_once:
                self._events.send(
                    Event(time.time(), "archive", ProcessState.STOPPING, "being written, this first time only")
                )
                await asyncio.wait([self._training], timeout=ARCHIVE_SECONDS)
        finally:
            if self._training:
                self._training.cancel()
            self._events.end()


@asynccontextmanager
async def supervise(
    config: Config, folder: Path, engine: Engine | None, detours: Sequence[Detour] = ()
) -> AsyncIterator[Supervisor]:
    """Yield the supervisor of this project; however the body ends, all children are gone afterwards.

    The links of the `detours` must be open. First, it ends the processes that a killed supervisor left behind.
    Raises `AlreadyRunningError` and `MachineError`.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(records.locked(config, folder))
        left = records.leftovers(config)
        if left:
            log.warning("ending %d processes that an earlier run left behind", len(left))
            await asyncio.to_thread(records.sweep, config, left)
        session = await stack.enter_async_context(open_session())
        tasks = await stack.enter_async_context(task_group())
        opening = open_servers(config, folder, engine, specs(config, detours))
        servers = await stack.enter_async_context(opening)
        forks = await stack.enter_async_context(forking(child_environment(config, folder.name), tasks))
        supervisor = Supervisor(config, folder, session, tasks, servers, forks)
        check_ports(supervisor.specs)
        try:
            yield supervisor
        finally:
            await supervisor.shut_down()


# -- from the start to the end, with its signals ----------------------------------------------------------------------

Listener = Callable[[Event], None]


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for the end
    """The user asked for the end while the body was running."""


@asynccontextmanager
async def serving(
    config: Config,
    engine: Engine | None,
    folder: Path,
    listener: Listener,
    ended: asyncio.Event,
    detours: Sequence[Detour] = (),
) -> AsyncIterator[Supervisor]:
    """Supervise and serve the control socket; SIGINT, SIGTERM and SIGHUP set `ended`, a second one kills everything.

    Signals that were ignored when this process started stay ignored.

    The listener gets every event, including those of the stop. The `detours` are as in `supervise`.
    """
    async with (
        supervise(config, folder, engine, detours) as supervisor,
        control.serve(config, supervisor, ended),
        task_group() as tasks,
    ):
        forwarding = tasks.create_task(_forward(supervisor, listener))
        await asyncio.sleep(0)  # let it subscribe before the first event
        with _signals(lambda: _end(supervisor, ended, tasks)):
            try:
                yield supervisor
            finally:
                await supervisor.shut_down()
                forwarding.cancel()


@asynccontextmanager
async def interruptible(ended: asyncio.Event) -> AsyncIterator[None]:
    """Cancel the body when `ended` is set, and raise `Interrupted`."""
    async with task_group() as tasks:
        waiting = tasks.create_task(_interrupt(ended))
        try:
            yield
        finally:
            waiting.cancel()


async def _interrupt(ended: asyncio.Event) -> None:
    await ended.wait()
    raise Interrupted


async def _forward(supervisor: Supervisor, listener: Listener) -> None:
    async for event in supervisor.events():
        listener(event)


def _end(supervisor: Supervisor, ended: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
    if ended.is_set():
        tasks.create_task(supervisor.shut_down(at_once=True))
    ended.set()


@contextmanager
def _signals(handler: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    # An ignored signal stays ignored: SIGINT in a background job of a script, SIGHUP under nohup.
    listed = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in listed if signal.getsignal(number) is not signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        with suppress(RuntimeError):
            for number in numbers:
                loop.remove_signal_handler(number)
