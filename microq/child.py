"""A child process that runs a module of microq and does jobs: each request and each answer is a line of JSON.

The child does one job after another. It ends when its standard input ends, so it never outlives its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from microq import aio, interpreter
from microq.errors import MachineError, MicroqError, RemoteError

END_SECONDS = 20.0
"""Seconds within which a killed child must be gone."""

LONGEST_LINE = 1 << 28
"""Bytes of the longest line: the load generator answers with the latency of every message."""

Job = Callable[..., Awaitable[Any]]
"""Does a job, with the facts of the request as keyword arguments; its result must be JSON."""


class Child:
    """A running child, as its parent sees it. Errors call it `name`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise MachineError(f"{name} has no pipes")
        self.name, self._process = name, process
        self._asking, self._answers = process.stdin, process.stdout
        self._turn, self._numbers = asyncio.Lock(), itertools.count()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def ask(self, job: str, *, within: float | None = None, **facts: Any) -> Any:
        """Run a job and return its result.

        Raises `RemoteError` if the job failed, and `MachineError` if the child has ended or does not answer `within`
        this number of seconds.
        """
        try:
            async with self._turn, asyncio.timeout(within):
                body = await self._exchange(job, facts)
        except TimeoutError:
            raise MachineError(f"{self.name} did not answer {job!r} within {within:g} s") from None
        if "error" in body:
            raise RemoteError(*body["error"])
        return body["found"]

    async def _exchange(self, job: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        with contextlib.suppress(ConnectionError):
            self._asking.write(json.dumps({"number": number, "job": job, "facts": facts}).encode() + b"\n")
            await self._asking.drain()
        while line := await self._answers.readline():
            body: dict[str, Any] = json.loads(line)
            # Another number is a late answer to an earlier request; no number: the child says why it ends.
            if body.get("number", number) == number:
                return body
        raise MachineError(f"{self.name} ended during {job!r}")

    async def watch(self) -> NoReturn:
        """Wait until the child ends, and raise its reason: `RemoteError` if it gave one, else `MachineError`."""
        status = await self._process.wait()
        async with self._turn:
            lines = (await self._answers.read()).splitlines()
        if lines:
            raise RemoteError(*json.loads(lines[-1])["error"])
        raise MachineError(f"{self.name} ended by itself, with status {status}")

    def kill(self) -> None:
        """End the child at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


@asynccontextmanager
async def child(module: str, name: str, *words: str) -> AsyncIterator[Child]:
    """Start a child that runs a module of microq with the arguments `words`; it is gone afterwards.

    The module calls `run` and `serve`.
    """
    process = await asyncio.create_subprocess_exec(
        *interpreter.PYTHON_M,
        module,
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=interpreter.environment(),
        limit=LONGEST_LINE,
        start_new_session=True,  # the parent handles Ctrl-C
    )
    started = Child(name, process)
    try:
        yield started
    finally:
        started.kill()
        async with asyncio.timeout(END_SECONDS):
            await process.wait()


def run(title: str, main: Coroutine[Any, Any, None]) -> None:
    """In the child: run its main coroutine; a `MicroqError` that ends it is sent to the parent.

    `ps` shows the process as `title`.
    """
    interpreter.show_as(title)
    try:
        aio.run(main)
    except MicroqError as error:
        _say(_failure(error))
        sys.exit(error.exit_code)


async def serve(jobs: Mapping[str, Job]) -> None:
    """In the child: do the jobs that the parent asks for until standard input ends."""
    lines = asyncio.StreamReader(limit=LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    waiting: asyncio.Queue[bytes] = asyncio.Queue()

    async def work() -> None:
        while True:
            asked = json.loads(await waiting.get())
            _say({"number": asked["number"], **await _answer(jobs[asked["job"]], asked["facts"])})

    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work())
        while line := await lines.readline():
            waiting.put_nowait(line)
        working.cancel()


async def _answer(job: Job, facts: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"found": await job(**facts)}
    except MicroqError as error:
        return _failure(error)


def _failure(error: MicroqError) -> dict[str, Any]:
    return {"error": [error.code, error.exit_code, str(error)]}


def _say(line: Mapping[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the parent is gone, and standard input is about to end
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
