"""The load generator: a process of its own, so that what it takes is told apart from what is measured.

Run as a module it reads one job a line from its standard input, as JSON, does one after the other, and answers each
with a line. It ends with its input, and so never outlives who started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from microq import hz, loops
from microq.bench.bare import Bare, bare
from microq.bench.beside import beside
from microq.bench.lines import Batched, send_lines
from microq.bench.load import Sent, Spaced, send_for, send_spaced
from microq.bench.reading import Read, read, read_for
from microq.client import open_session
from microq.config import Address, load
from microq.errors import MachineError, MicroqError, RemoteError


class Generator:
    """The process, as who started it sees it; one job at a time. A job raises `RemoteError` where it cannot be done."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def send(self, address: Address, connections: int, seconds: float) -> Sent:
        """See `load.send_for`."""
        found = await self._ask("send", address=str(address), connections=connections, seconds=seconds)
        return Sent(**{**found, "latencies": tuple(found["latencies"])})

    async def send_spaced(self, address: Address, connections: int, rate: float, seconds: float) -> Spaced:
        """See `load.send_spaced`."""
        return Spaced(
            **await self._ask("spaced", address=str(address), connections=connections, rate=rate, seconds=seconds)
        )

    async def send_lines(self, address: Address, count: int) -> Batched:
        """See `lines.send_lines`."""
        return Batched(**await self._ask("lines", address=str(address), count=count))

    async def bare(self, config: Path, seconds: float) -> Bare:
        """See `bare.bare`; the configuration is that of a run's folder."""
        return Bare(**await self._ask("bare", config=str(config), seconds=seconds))

    async def read(self, address: Address, path: str) -> Read:
        """See `reading.read`."""
        return Read(**await self._ask("read", address=str(address), path=path))

    async def read_for(self, address: Address, path: str, seconds: float) -> int:
        """See `reading.read_for`."""
        return int(await self._ask("read-for", address=str(address), path=path, seconds=seconds))

    async def _ask(self, job: str, **facts: Any) -> Any:
        reading, writing = self._process.stdout, self._process.stdin
        if reading is None or writing is None:
            raise MachineError("the load generator has no pipes")
        async with self._turn:
            with contextlib.suppress(ConnectionError):
                writing.write(json.dumps({"job": job, "facts": facts}).encode() + b"\n")
                await writing.drain()
            line = await reading.readline()  # a job has its own deadline
        if not line:
            raise MachineError(f"the load generator ended during {job!r}")
        body = json.loads(line)
        if "error" in body:
            raise RemoteError(*body["error"])
        return body["found"]


@asynccontextmanager
async def generating() -> AsyncIterator[Generator]:
    """Yield a load generator that runs; it is gone afterwards."""
    async with beside(__name__) as process:
        yield Generator(process)


Job = Callable[..., Awaitable[Any]]


def _jobs(session: aiohttp.ClientSession) -> Mapping[str, Job]:
    """Return what can be asked for, by its name."""
    return {
        "send": lambda address, **facts: send_for(Address.parse(address), **facts),
        "spaced": lambda address, **facts: send_spaced(Address.parse(address), **facts),
        "lines": lambda address, count: send_lines(session, Address.parse(address), count),
        "bare": lambda config, seconds: bare(load(Path(config), environ={}), seconds),
        "read": lambda address, path: read(session, Address.parse(address), path),
        "read-for": lambda address, path, seconds: read_for(session, Address.parse(address), path, seconds),
    }


async def _answer(job: Job, facts: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = await job(**facts)
    except (hz.AwayError, hz.UncertainError) as error:
        return {"error": ["cluster", 1, f"the cluster did not answer: {error or 'away'}"]}
    except MicroqError as error:
        return {"error": [error.code, error.exit_code, str(error)]}
    return {"found": dataclasses.asdict(found) if dataclasses.is_dataclass(found) else found}  # type: ignore[arg-type]


async def _serve() -> None:
    coming = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(coming), sys.stdin)
    waiting: asyncio.Queue[bytes] = asyncio.Queue()

    async def work() -> None:
        async with open_session() as session:
            jobs = _jobs(session)
            while True:
                asked = json.loads(await waiting.get())
                done = await _answer(jobs[asked["job"]], asked["facts"])
                sys.stdout.write(json.dumps(done) + "\n")
                sys.stdout.flush()

    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work())
        while line := await coming.readline():
            waiting.put_nowait(line)
        working.cancel()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        loops.run(_serve())
