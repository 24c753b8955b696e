"""The supervisor: it starts, watches and ends every process of one run. It is the `Operator` in this process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from microq.client import open_session
from microq.config import Config
from microq.engines.provision import Engine
from microq.errors import MicroqError
from microq.fleet import Detour, Event, ProcessState, Role, Snapshot
from microq.system import records, runs, snapshot
from microq.system.children import ForkServer, forking
from microq.system.news import News
from microq.system.process import TERM_SECONDS, Process
from microq.system.ready import answers, joined, listens, says, seen, until
from microq.system.servers import READY_LINES, Servers, open_servers
from microq.system.topology import STAGES, ProcessSpec, check_ports, child_environment, select, service_argv, specs
from microq.system.training import missing, train
from microq.tasks import task_group, together

log = logging.getLogger(__name__)

START_SECONDS = 40.0
"""How long one process may take to become ready."""

JOIN_SECONDS = 20.0
"""How long the members may take to see each other after a start."""

ARCHIVE_SECONDS = 20.0
"""How long the end of a first run waits for its class-data archive; without it the next start is slow again."""


class Supervisor:
    """All processes of a run. Made by `supervise`; its verbs are those of `fleet.Operator`."""

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
        self._news, self._sockets = News(), snapshot.Sockets()
        self._config_file = runs.furnish(config, folder)
        self._verbs, self._defects = asyncio.Lock(), dict[Role, str]()
        self._training: asyncio.Task[None] | None = None
        book = records.Book(config, folder.name)
        self.processes = {
            spec.name: Process(spec, folder / "logs" / f"{spec.name}.log", book, self._news.tell) for spec in self.specs
        }

    def events(self) -> AsyncIterator[Event]:
        """Yield what happens from now on until everything is shut down; see `fleet.Operator`."""
        return self._news.events()

    async def snapshot(self) -> Snapshot:
        """Look at everything now; see `fleet.Operator`."""
        processes = list(self.processes.values())
        return await snapshot.take(self._session, self.config, self.folder, processes, self._servers, self._sockets)

    # -- the verbs ------------------------------------------------------------------------------------------------

    async def start(self, names: Sequence[str]) -> list[str]:
        """Start what does not run, in the order of the stages; see `fleet.Operator`.

        If one fails, those that were started with it are stopped again.
        """
        async with self._verbs:
            return await self._start(names)

    async def stop(self, names: Sequence[str]) -> list[str]:
        """Stop in reverse order; see `fleet.Operator`."""
        async with self._verbs:
            return await self._stop(names)

    async def restart(self, names: Sequence[str]) -> list[str]:
        """Stop, then start; see `fleet.Operator`."""
        async with self._verbs:
            await self._stop(names)
            return await self._start(names)

    async def kill(self, names: Sequence[str]) -> list[str]:
        """SIGKILL, all at the same moment; see `fleet.Operator`."""
        return await self._each(names, Process.kill, only_up=True)

    async def pause(self, names: Sequence[str]) -> list[str]:
        """SIGSTOP; see `fleet.Operator`."""
        return await self._each(names, Process.pause)

    async def resume(self, names: Sequence[str]) -> list[str]:
        """SIGCONT; see `fleet.Operator`."""
        return await self._each(names, Process.resume)

    async def sabotage(self, role: str, defect: str) -> None:
        """Run a role with a defect from its next start on; see `fleet.Operator`."""
        self._defects[Role(role)] = defect

    async def announce(self, event: Event) -> None:
        """Pass on what a scenario tells; see `fleet.Operator`."""
        self._news.tell(event)

    async def _each(
        self, names: Sequence[str], verb: Callable[[Process], Coroutine[Any, Any, None]], *, only_up: bool = False
    ) -> list[str]:
        chosen = [name for name in select(self.specs, names) if self.processes[name].up or not only_up]
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
        """Spawn stage by stage; the services need one member to connect to, the others join meanwhile.

        They wait for the brokers themselves, which start beside everything else.
        """
        members = [process for process in processes if process.spec.role is Role.HAZELCAST]
        brokers = [process for process in processes if process.spec.role is Role.KAFKA]
        await self._forks.warm()
        async with task_group() as tasks:
            await self._spawn(brokers)
            for broker in brokers:
                tasks.create_task(self._until_ready(broker))
            if members and self._no_member_is_up():
                await self._spawn(members[:1])
                # Until it listens, the others would take it for dead and make a cluster of their own.
                await seen(members[0], listens(members[0].spec.door), START_SECONDS)
            await self._spawn([process for process in members if not process.up])
            waits = [tasks.create_task(self._until_ready(process)) for process in members]
            if waits:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for stage in STAGES[1:]:
                of_stage = [process for process in processes if process.spec.role in stage]
                await self._spawn(of_stage)
                waits = [tasks.create_task(self._until_ready(process, waits)) for process in of_stage]
        if members or brokers:
            # Where brokers are down copies are missing, and nothing is to be waited for.
            whole = all(process.up for process in self.processes.values() if process.spec.role is Role.KAFKA)
            await joined(self.snapshot, JOIN_SECONDS, safe=whole)

    async def _until_ready(self, process: Process, others: Sequence[asyncio.Task[None]] = ()) -> None:
        """Wait until a process is ready, and until the stage before it is."""
        if others:
            await asyncio.wait(others)
        await until(process, self._probe(process), START_SECONDS)

    async def _spawn(self, processes: Sequence[Process]) -> None:
        for process in processes:
            argv = self._argv(process.spec)
            await process.spawn(argv, self._forks.start)
            self._tasks.create_task(process.watch())

    def _probe(self, process: Process) -> Callable[[], Awaitable[bool]]:
        if process.spec.role in READY_LINES:
            return says(process, READY_LINES[process.spec.role])
        return answers(self._session, process.spec)

    def _argv(self, spec: ProcessSpec) -> list[str]:
        if spec.role in READY_LINES:
            return self._servers.argv(spec, alone=self._no_member_is_up())
        return service_argv(spec, self._config_file, self._defects.get(spec.role, ""))

    def _no_member_is_up(self) -> bool:
        return not any(process.up for process in self.processes.values() if process.spec.role is Role.HAZELCAST)

    async def _stop(self, names: Sequence[str], *, for_good: bool = False) -> list[str]:
        """Stop in reverse order. What is gone for good with its data is not waited for to leave it in order."""
        chosen = [name for name in select(self.specs, names) if self.processes[name].up]
        for stage in reversed(STAGES):
            of_stage = [self.processes[n] for n in chosen if self.processes[n].spec.role in stage]
            await together(p.stop(0 if for_good and p.spec.role is Role.KAFKA else TERM_SECONDS) for p in of_stage)
        return chosen

    # -- the run --------------------------------------------------------------------------------------------------

    def train_archive(self) -> None:
        """Make the class-data archives in the background, if some are missing: the next start is quicker."""
        engine = self._servers.engine
        if engine and missing(engine, self.config) and self._training is None:
            self._training = self._tasks.create_task(train(engine, self.config, self._forks.environment))

    async def shut_down(self, *, at_once: bool = False) -> None:
        """End everything, in order or all at the same moment, and then the streams of events."""
        try:
            await (self.kill(["all"]) if at_once else self._stop(["all"], for_good=True))
            await asyncio.to_thread(self._servers.remove_data)
            if self._training and not self._training.done() and not at_once:
                self._news.tell(
                    Event(time.time(), "archive", ProcessState.STOPPING, "being written, this first time only")
                )
                await asyncio.wait([self._training], timeout=ARCHIVE_SECONDS)
        finally:
            if self._training:
                self._training.cancel()
            self._news.end()


@asynccontextmanager
async def supervise(
    config: Config, folder: Path, engine: Engine | None, detours: Sequence[Detour] = ()
) -> AsyncIterator[Supervisor]:
    """Be the supervisor of this project; whatever happens inside, all children are gone afterwards.

    The links of the `detours` must be open. Leftovers of a supervisor that was killed are ended first.
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
        opening = open_servers(config, folder, engine, specs(config, detours), detours)
        servers = await stack.enter_async_context(opening)
        forks = await stack.enter_async_context(forking(child_environment(config, folder.name), tasks))
        supervisor = Supervisor(config, folder, session, tasks, servers, forks)
        check_ports(supervisor.specs)
        try:
            yield supervisor
        finally:
            await supervisor.shut_down()
