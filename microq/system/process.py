"""One child process in a process group of its own: spawn, signal, and know when nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from microq.errors import DeadlineError, MachineError, UsageError
from microq.fleet import UP, Event, ProcessState
from microq.system import records
from microq.system.children import UNKNOWN, Child, Start
from microq.system.topology import ProcessSpec

TERM_SECONDS = 10.0
"""How long a process may take to end after SIGTERM before it is killed."""

GONE_SECONDS = 5.0
"""How long the kernel may take to remove what was killed, or to stop what was paused."""

_POLITE = (0, 128 + signal.SIGTERM)
"""Exit statuses of a process that ended because SIGTERM asked it to; the second one is a JVM's."""

TICK = 0.01
"""Pause between two looks at something for which the system has no event."""

MOST_LOG = 1 << 20
"""Bytes of a log that are looked at: one that floods is longer at every look."""


class Process:
    """A child and its state. Every verb returns once its effect is seen."""

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
        """Start the child; its output goes to its log file, which outlives us."""
        try:
            with self.log_file.open("ab") as output:
                self._log_start = output.tell()
            self._child = await start(argv, self.log_file)
            await self._record(self._child)
        except OSError as error:
            raise MachineError(f"{self.spec.name} cannot be started: {error}") from error
        self.restarts += self.started_at is not None
        self.started_at, self.exit_status, self._asked = time.time(), None, False
        self.ended.clear()
        self._become(ProcessState.STARTING)

    async def _record(self, child: Child) -> None:
        try:
            self._book.add(self.spec.name, child.pid)
        except OSError:
            # Nobody could find it again, so it must not stay.
            child.kill()
            await child.wait()
            raise

    async def watch(self) -> None:
        """Wait for the child's end and note it; run by the supervisor beside everything else."""
        if self._child is None:
            return
        status = await self._child.wait()
        self.exit_status = None if status == UNKNOWN else status
        # The group may outlive its leader; `ended` means that nothing of it is left.
        await self._empty_group(self._child.pid)
        self._book.remove(self.spec.name)
        self._become(ProcessState.STOPPED if self._asked else ProcessState.EXITED, self._why_ended())
        self.ended.set()

    def ready(self) -> None:
        """Note that the child said it is ready."""
        if self.state is ProcessState.STARTING:
            self._become(ProcessState.READY)

    def new_log(self) -> str:
        """Return what the child has logged since it was spawned, at most `MOST_LOG` bytes of it."""
        with self.log_file.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, end - MOST_LOG))
            return file.read(MOST_LOG).decode(errors="replace")

    async def stop(self, seconds: float = TERM_SECONDS) -> None:
        """SIGTERM, then SIGKILL after `seconds`, or SIGKILL at once if there are none; return when nothing is left."""
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
        """SIGKILL; return when nothing is left."""
        if not self.up:
            return
        self._signal(signal.SIGKILL)
        await self._within(self.ended.wait(), "did not go after SIGKILL")

    async def pause(self) -> None:
        """SIGSTOP; return when the process is stopped."""
        if self.state is not ProcessState.READY or self._child is None:
            raise UsageError(f"{self.spec.name} is {self.state}; only what is ready can be paused")
        self._signal(signal.SIGSTOP)
        await self._within(self._until_stopped(self._child.pid, stopped=True), "did not stop after SIGSTOP")
        self._become(ProcessState.PAUSED)

    async def resume(self) -> None:
        """SIGCONT; return when the process runs."""
        if self.state is not ProcessState.PAUSED or self._child is None:
            raise UsageError(f"{self.spec.name} is {self.state}; only what is paused can be resumed")
        self._signal(signal.SIGCONT)
        await self._within(self._until_stopped(self._child.pid, stopped=False), "did not run after SIGCONT")
        self._become(ProcessState.READY)

    def _signal(self, number: signal.Signals) -> None:
        if self._child and self._child.returncode is None:
            # Reaped in the loop's thread of its own, it may be gone a moment before we hear of it.
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
            # The kernel tells only the ends of our children.
            while any((process.status() == psutil.STATUS_STOPPED) is not stopped for process in group):  # noqa: ASYNC110
                await asyncio.sleep(TICK)
        except psutil.NoSuchProcess as error:
            raise UsageError(f"{self.spec.name} ended meanwhile") from error

    async def _empty_group(self, group: int) -> None:
        """End what the leader left behind in its group, and wait until the group is empty."""
        while leftovers := records.in_group(group, self._book.run):
            for process in leftovers:
                records.signal_ours(process, signal.SIGKILL)
            await asyncio.sleep(TICK)

    def _why_ended(self) -> str:
        status = self.exit_status
        if status is None:
            return ""
        if status < 0:
            return f"by {signal.Signals(-status).name}"
        return "" if self._asked and status in _POLITE else f"with status {status}"

    def _become(self, state: ProcessState, detail: str = "") -> None:
        self.state = state
        self._tell(Event(time.time(), self.spec.name, state.value, detail))
