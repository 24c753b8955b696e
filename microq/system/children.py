"""How children come to be: executed by themselves, or forked by a server that has their imports already."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import psutil

from microq.errors import MachineError
from microq.system.topology import FORKSERVER, SERVICE

UNKNOWN = -255
"""The exit status of a child that nobody heard, for the server that forked it was gone before; no signal's number."""

ORDER_SECONDS = 20.0
"""How long the server may take to fork, its own start included."""


class Child(Protocol):
    """A process that was started, as `asyncio.subprocess.Process` shows it; the leader of a session of its own."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    @property
    def returncode(self) -> int | None:
        """How it ended: its exit status, the negative number of a signal, or None while it runs."""
        ...

    async def wait(self) -> int:
        """Wait for its end and return how it ended."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...


Start = Callable[[Sequence[str], Path], Awaitable[Child]]
"""Starts a command line whose output goes to a file, in that file's folder; raises `OSError`."""


def executing(environment: Mapping[str, str]) -> Start:
    """Return what executes a command line in this environment."""

    async def start(argv: Sequence[str], log_file: Path) -> Child:
        with log_file.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=environment,
                cwd=log_file.parent,
                start_new_session=True,
            )

    return start


class Forked:
    """A `Child` that the server forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def returncode(self) -> int | None:
        """See `Child`."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        """See `Child`."""
        return await asyncio.shield(self._ended)

    def kill(self) -> None:
        """See `Child`."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def end(self, status: int) -> None:
        """Note how it ended."""
        if not self._ended.done():
            self._ended.set_result(status)


class ForkServer:
    """The server of a run, started when it is first needed, and again if it ended. Made by `forking`."""

    def __init__(self, environment: Mapping[str, str], tasks: asyncio.TaskGroup) -> None:
        self.environment, self._tasks = environment, tasks
        self._server: asyncio.subprocess.Process | None = None
        self._answers: asyncio.Queue[int | None] = asyncio.Queue()
        self._turn = asyncio.Lock()
        self._children: dict[int, Forked] = {}

    async def start(self, argv: Sequence[str], log_file: Path) -> Child:
        """Start a command line, by a fork if it is a service's; see `Start`."""
        if tuple(argv[1:3]) != SERVICE:
            return await executing(self.environment)(argv, log_file)
        asking = asyncio.create_task(self._ask(argv[3:], log_file))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            # It is forked all the same, and nobody would know.
            asking.add_done_callback(_give_up)
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
        """Let the server import what services need while there is nothing to fork yet; return its process id."""
        async with self._turn:
            return (await self._serving()).pid

    async def _serving(self) -> asyncio.subprocess.Process:
        if self._server is None or self._server.returncode is not None:
            self._answers = asyncio.Queue()
            self._server = await asyncio.create_subprocess_exec(
                *FORKSERVER,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=self.environment,
                start_new_session=True,  # Ctrl-C is ours to answer
            )
            self._tasks.create_task(self._hear(self._server, self._answers))
        return self._server

    async def _hear(self, server: asyncio.subprocess.Process, answers: asyncio.Queue[int | None]) -> None:
        assert server.stdout is not None  # noqa: S101 - it is a pipe
        children: list[Forked] = []
        async for line in server.stdout:
            said = json.loads(line)
            if "pid" in said:
                child = self._children[said["pid"]] = Forked(said["pid"])
                children.append(child)
                answers.put_nowait(child.pid)
            else:
                self._children.pop(said["ended"]).end(said["status"])
        await server.wait()
        answers.put_nowait(None)
        for child in children:
            if child.returncode is None:
                self._tasks.create_task(self._until_gone(child))

    async def _until_gone(self, orphan: Forked) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            await asyncio.to_thread(psutil.Process(orphan.pid).wait)
        self._children.pop(orphan.pid)
        orphan.end(UNKNOWN)

    async def close(self) -> None:
        """End the server, after everything that it forked."""
        async with self._turn, asyncio.timeout(ORDER_SECONDS):
            for child in list(self._children.values()):
                child.kill()
                await child.wait()
            if self._server and self._server.stdin:
                self._server.stdin.close()
                await self._server.wait()


def _give_up(asking: asyncio.Task[Forked]) -> None:
    if not asking.cancelled() and not asking.exception():
        asking.result().kill()


@asynccontextmanager
async def forking(environment: Mapping[str, str], tasks: asyncio.TaskGroup) -> AsyncIterator[ForkServer]:
    """Yield the server of a run; at the end it is gone. Raises `MachineError` if it does not go."""
    server = ForkServer(environment, tasks)
    try:
        yield server
    finally:
        try:
            await server.close()
        except TimeoutError as error:
            raise MachineError(f"the server that forks the services does not end in {ORDER_SECONDS:g} s") from error
