"""A child process in a process group of its own: starts it, sends signals, and waits until its group is empty.

Servers are executed. Services are forked by a server that has already imported their modules (`services.forkserver`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

import psutil

from microq.aio import poll_until
from microq.errors import DeadlineError, MachineError, UsageError, reason
from microq.fleet import OUT_OF_MEMORY, SERVERS, UP, Event, ProcessState
from microq.supervisor import records
from microq.supervisor.cause import cause_of
from microq.supervisor.topology import FORKSERVER, SERVICE, ProcessSpec

UNKNOWN = -255
"""The exit status of a child whose fork server ended first, so it was not reported; no signal has this number."""

ORDER_SECONDS = 20.0
"""Seconds that the fork server may take to fork, its own start included."""


class Child(Protocol):
    """A started process, with the interface of `asyncio.subprocess.Process`. It leads a session of its own."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    @property
    def returncode(self) -> int | None:
        """Its exit status, the negative number of the signal that ended it, or None while it runs."""
        ...

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""
        ...

    def kill(self) -> None:
        """Send SIGKILL."""
        ...


Start = Callable[[Sequence[str], Path], Awaitable[Child]]
"""Starts a command line and appends its output to a file. Raises `OSError`."""


def executing(environment: Mapping[str, str], folder: Path | None = None, *, named: bool = False) -> Start:
    """Return a function that executes a command line in this environment, in `folder` or in its log file's folder.

    With `named`, `ps` and `top` show the process under the name of its log file instead of its program.
    """

    async def start(argv: Sequence[str], log_file: Path) -> Child:
        with log_file.open("ab") as output, _called(argv[0], log_file.with_suffix(""), named=named) as program:
            return await asyncio.create_subprocess_exec(
                argv[0] if program == Path(argv[0]) else program.name,
                *argv[1:],
                executable=program,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=environment,
                cwd=folder or log_file.parent,
                start_new_session=True,
            )

    return start


@contextmanager
def _called(program: str, link: Path, *, named: bool) -> Iterator[Path]:
    """Yield the path to execute a program by: the kernel names a process after it, so a link renames the process.

    A script is not renamed: the interpreter opens it after the link is gone, and the script may need its name.
    """
    if not named or _is_script(program):
        yield Path(program)
        return
    link.unlink(missing_ok=True)
    link.symlink_to(program)
    try:
        yield link
    finally:
        link.unlink()


def _is_script(program: str) -> bool:
    with Path(program).open("rb") as file:
        return file.read(2) == b"#!"


class Forked:
    """A `Child` that the fork server forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def returncode(self) -> int | None:
        """Its exit status, or the negative number of the signal that ended it; None while it runs."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        """Wait for its end, which the fork server reports, and return its exit status."""
        return await asyncio.shield(self._ended)

    def kill(self) -> None:
        """Send SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def end(self, status: int) -> None:
        """Record its exit status."""
        if not self._ended.done():
            self._ended.set_result(status)


class ForkServer:
    """The fork server of a run: started when it is first used, and again if it has ended. `forking` makes it."""

    def __init__(self, environment: Mapping[str, str], tasks: asyncio.TaskGroup) -> None:
        self._environment, self._tasks = environment, tasks
        self._server: asyncio.subprocess.Process | None = None
        self._answers: asyncio.Queue[int | None] = asyncio.Queue()
        self._turn = asyncio.Lock()
        self._children: dict[int, Forked] = {}

    async def start(self, argv: Sequence[str], log_file: Path) -> Child:
        """Start a command line; fork it if it is a service."""
        if tuple(argv[: len(SERVICE)]) != SERVICE:
            return await executing(self._environment)(argv, log_file)
        asking = asyncio.create_task(self._ask(argv[len(SERVICE) :], log_file))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            # The server forks it in any case, and its pid would be unknown.
            asking.add_done_callback(_kill_when_forked)
            raise

    async def _ask(self, words: Sequence[str], log_file: Path) -> Forked:
        async with self._turn, asyncio.timeout(ORDER_SECONDS):
            server = await self._serving()
            order = {"argv": words, "log": str(log_file), "folder": str(log_file.parent)}
            assert server.stdin is not None  # noqa: S101 - it is a pipe
            server.stdin.write(json.dumps(order).encode() + b"\n")
            pid = await self._answers.get()
        if pid is None:
            raise OSError("the server that forks the services ended")
        return self._children[pid]

    async def warm(self) -> int:
        """Start the server before the first fork, so it can import the modules; return its process id."""
        async with self._turn:
            return (await self._serving()).pid

    async def _serving(self) -> asyncio.subprocess.Process:
        if self._server is None or self._server.returncode is not None:
            self._answers = asyncio.Queue()
            self._server = await asyncio.create_subprocess_exec(
                *FORKSERVER,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=self._environment,
                start_new_session=True,  # this process handles Ctrl-C
            )
            self._tasks.create_task(self._read_answers(self._server, self._answers))
        return self._server

    async def _read_answers(self, server: asyncio.subprocess.Process, answers: asyncio.Queue[int | None]) -> None:
        assert server.stdout is not None  # noqa: S101 - it is a pipe
        children: list[Forked] = []
        async for line in server.stdout:
            answer = json.loads(line)
            if "pid" in answer:
                child = self._children[answer["pid"]] = Forked(answer["pid"])
                children.append(child)
                answers.put_nowait(child.pid)
            else:
                self._children.pop(answer["ended"]).end(answer["status"])
        await server.wait()
        answers.put_nowait(None)
        for child in children:
            if child.returncode is None:
                self._tasks.create_task(self._watch_orphan(child))

    async def _watch_orphan(self, orphan: Forked) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            await asyncio.to_thread(psutil.Process(orphan.pid).wait)
        self._children.pop(orphan.pid)
        orphan.end(UNKNOWN)

    async def close(self) -> None:
        """End all forked services, and then the server."""
        async with self._turn, asyncio.timeout(ORDER_SECONDS):
            for child in list(self._children.values()):
                child.kill()
                await child.wait()
            if self._server and self._server.stdin:
                self._server.stdin.close()
                await self._server.wait()


def _kill_when_forked(asking: asyncio.Task[Forked]) -> None:
    if not asking.cancelled() and not asking.exception():
        asking.result().kill()


@asynccontextmanager
async def forking(environment: Mapping[str, str], tasks: asyncio.TaskGroup) -> AsyncIterator[ForkServer]:
    """Yield the fork server of a run; it is gone afterwards. Raises `MachineError` if it does not end."""
    server = ForkServer(environment, tasks)
    try:
        yield server
    finally:
        try:
            await server.close()
        except TimeoutError as error:
            raise MachineError(f"the server that forks the services does not end in {ORDER_SECONDS:g} s") from error


TERM_SECONDS = 10.0
"""Seconds that a process may take to end after SIGTERM before it is killed."""

GONE_SECONDS = 5.0
"""Seconds that the kernel may take to remove a killed process, or to stop a paused one."""

_TERMINATED = (0, 128 + signal.SIGTERM)
"""Exit statuses of a process that ended because of SIGTERM; the second one is a JVM's."""

TICK = 0.01
"""Seconds between two checks of something that sends no event."""

MOST_LOG = 1 << 20
"""The largest number of bytes of a log that are read at once: a flooded log grows faster than it is read."""


class Process:
    """A child process and its state. Every verb returns when its effect was observed."""

    def __init__(self, spec: ProcessSpec, log_file: Path, book: records.Book, tell: Callable[[Event], None]) -> None:
        self.spec, self.log_file = spec, log_file
        self.state = ProcessState.STOPPED
        self.started_at: float | None = None
        self.restarts = 0
        self.exit_status: int | None = None
        self.ended = asyncio.Event()
        self._book, self._tell = book, tell
        self._child: Child | None = None
        self._asked = False
        self._verb = asyncio.Lock()
        """Held while this process is sending SIGSTOP or SIGCONT."""
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id while the process exists."""
        return self._child.pid if self._child and self.state in UP else None

    @property
    def up(self) -> bool:
        """Whether the process exists."""
        return self.state in UP

    async def spawn(self, argv: Sequence[str], start: Start) -> None:
        """Start the child; its output goes to its log file. Raises `MachineError`."""
        try:
            with self.log_file.open("ab") as output:
                self._log_start = output.tell()
            self._child = await start(argv, self.log_file)
            await self._record(self._child)
        except OSError as error:
            raise MachineError(f"{self.spec.name} cannot be started: {reason(error)}") from error
        self.restarts += self.started_at is not None
        self.started_at, self.exit_status, self._asked = time.time(), None, False
        self.ended.clear()
        self._become(ProcessState.STARTING)

    async def _record(self, child: Child) -> None:
        try:
            self._book.add(self.spec.name, child.pid)
        except OSError:
            # Without a record no later run could find it.
            child.kill()
            await child.wait()
            raise

    async def watch(self) -> None:
        """Wait for the child's end and record it. The supervisor runs this as a task for every child."""
        if self._child is None:
            return
        status = await self._child.wait()
        self.exit_status = None if status == UNKNOWN else status
        # The group may outlive its leader; `ended` means that the group is empty.
        await self._empty_group(self._child.pid)
        self._book.remove(self.spec.name)
        self._become(ProcessState.STOPPED if self._asked else ProcessState.EXITED, self._why_ended())
        self.ended.set()

    def ready(self) -> None:
        """Record that the child is ready."""
        if self.state is ProcessState.STARTING:
            self._become(ProcessState.READY)

    def new_log(self) -> str:
        """Return what the child has logged since it was spawned, at most the last `MOST_LOG` bytes."""
        with self.log_file.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, end - MOST_LOG))
            return file.read(MOST_LOG).decode(errors="replace")

    async def stop(self, seconds: float = TERM_SECONDS) -> None:
        """Send SIGTERM, and SIGKILL after `seconds` (0: at once); return when the process group is empty."""
        if not self.up:
            return
        self._asked = True
        if self.state is ProcessState.PAUSED:
            self._signal(signal.SIGCONT)
        self._become(ProcessState.STOPPING)
        if not seconds:
            await self.kill()
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        except TimeoutError:
            self._become(ProcessState.STOPPING, f"did not end in {seconds:g} s, killing it")
            await self.kill()

    async def kill(self) -> None:
        """Send SIGKILL; return when the process group is empty."""
        if not self.up:
            return
        self._signal(signal.SIGKILL)
        await self._within(self.ended.wait(), "did not end after SIGKILL")

    async def pause(self) -> None:
        """Send SIGSTOP; return when the process is stopped. Raises `UsageError` if it is not ready."""
        self.look()
        if self.state is not ProcessState.READY or self._child is None:
            raise UsageError(f"{self.spec.name} is {self.state}; only a ready process can be paused")
        async with self._verb:
            self._signal(signal.SIGSTOP)
            await self._within(self._until_stopped(self._child.pid, stopped=True), "did not stop after SIGSTOP")
            self._become(ProcessState.PAUSED)

    async def resume(self) -> None:
        """Send SIGCONT; return when the process runs. Raises `UsageError` if it is not paused."""
        self.look()
        if self.state is not ProcessState.PAUSED or self._child is None:
            raise UsageError(f"{self.spec.name} is {self.state}; only a paused process can be resumed")
        async with self._verb:
            self._signal(signal.SIGCONT)
            await self._within(self._until_stopped(self._child.pid, stopped=False), "did not run after SIGCONT")
            self._become(ProcessState.READY)

    def look(self) -> None:
        """Notice whether another process stopped or continued this one by a signal."""
        if self._child is None or self._verb.locked() or self.state not in {ProcessState.READY, ProcessState.PAUSED}:
            return
        try:
            stopped = psutil.Process(self._child.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return
        if stopped is not (self.state is ProcessState.PAUSED):
            self._become(ProcessState.PAUSED if stopped else ProcessState.READY, "by a signal of another process")

    def _signal(self, number: signal.Signals) -> None:
        if self._child and self._child.returncode is None:
            # A thread reaps it, so it may be gone shortly before `returncode` is set.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)

    async def _within(self, effect: object, problem: str) -> None:
        try:
            async with asyncio.timeout(GONE_SECONDS):
                await effect  # type: ignore[misc]  # a coroutine, or the wait of an event
        except TimeoutError as error:
            raise DeadlineError(f"{self.spec.name} (pid {self.pid}) {problem} in {GONE_SECONDS:g} s") from error

    async def _until_stopped(self, pid: int, *, stopped: bool) -> None:
        try:
            group = records.in_group(pid, self._book.run) or [psutil.Process(pid)]
            # The kernel reports only the end of a child, not that it was stopped.
            await poll_until(lambda: all((p.status() == psutil.STATUS_STOPPED) is stopped for p in group), TICK)
        except psutil.NoSuchProcess as error:
            raise UsageError(f"{self.spec.name} ended meanwhile") from error

    async def _empty_group(self, group: int) -> None:
        """Kill what the leader left behind in its group, and wait until the group is empty."""
        while leftovers := records.in_group(group, self._book.run, ending=True):
            for process in leftovers:
                records.signal_ours(process, signal.SIGKILL)
            await asyncio.sleep(TICK)

    def _why_ended(self) -> str:
        status = self.exit_status
        if status is None:
            return ""
        if status < 0:
            return f"by {signal.Signals(-status).name}"
        if self.spec.role in SERVERS and status == OUT_OF_MEMORY:
            return "it ran out of memory"
        if self._asked and status in _TERMINATED:
            return ""
        last = cause_of(self.new_log()) if self.spec.program else ""
        return f"with status {status}{last}".replace("\n  ", " | ")

    def _become(self, state: ProcessState, detail: str = "") -> None:
        self.state = state
        self._tell(Event(time.time(), self.spec.name, state.value, detail))
