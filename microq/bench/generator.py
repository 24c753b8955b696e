"""The load generator: a separate process, so its usage is not counted as the system's.

Run as a module, it does the jobs of its parent, by `child.serve`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from microq.backends.hazelcast import client as hz
from microq.bench.load import (
    ENOUGH,
    Bare,
    Batched,
    Read,
    Sent,
    Spaced,
    bare,
    read,
    read_for,
    send_for,
    send_lines,
    send_spaced,
)
from microq.child import Child, Job, child, run, serve
from microq.client import open_session
from microq.config import Address, load
from microq.errors import MachineError, RemoteError

F = TypeVar("F", Sent, Spaced, Batched)


class Generator:
    """The process, as its parent sees it; one job at a time. A job that fails raises `RemoteError`.

    Jobs that send raise `MachineError` if more than a few messages were not acknowledged: then the rate means nothing.
    """

    def __init__(self, started: Child) -> None:
        self._child = started

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    async def send(self, address: Address, connections: int, seconds: float) -> Sent:
        """Send one message after another over each connection for `seconds`."""
        found = await self._child.ask("send", address=str(address), connections=connections, seconds=seconds)
        return _accepted(Sent(**{**found, "latencies": tuple(found["latencies"])}), found["acknowledged"])

    async def send_spaced(self, address: Address, connections: int, rate: float, seconds: float) -> Spaced:
        """Send `rate` messages a second over `connections` for `seconds`."""
        found = await self._child.ask(
            "spaced", address=str(address), connections=connections, rate=rate, seconds=seconds
        )
        return _accepted(Spaced(**found), len(found["acknowledged"]))

    async def send_lines(self, address: Address, count: int) -> Batched:
        """Send `count` messages through the batch API."""
        found = await self._child.ask("lines", address=str(address), count=count)
        return _accepted(Batched(**found), found["acknowledged"])

    async def bare(self, config: Path, seconds: float) -> Bare:
        """Measure the bare client, with the cluster of a configuration file."""
        return Bare(**await self._child.ask("bare", config=str(config), seconds=seconds))

    async def read(self, address: Address, path: str) -> Read:
        """Read a path to its end."""
        return Read(**await self._child.ask("read", address=str(address), path=path))

    async def read_for(self, address: Address, path: str, seconds: float) -> int:
        """Read a path repeatedly for `seconds`; return how many times."""
        return int(await self._child.ask("read-for", address=str(address), path=path, seconds=seconds))


def _accepted(found: F, acknowledged: int) -> F:
    """Return the result of a send; raises `MachineError` unless nearly every message was acknowledged."""
    asked = acknowledged + found.failed
    if acknowledged < ENOUGH * asked:
        why = found.reason or "no answer came"
        raise MachineError(f"of {asked:,} messages {found.failed:,} were not acknowledged: {why}")
    return found


@asynccontextmanager
async def generating() -> AsyncIterator[Generator]:
    """Yield a running load generator; it is gone afterwards."""
    async with child(__name__, "the load generator") as started:
        yield Generator(started)


async def _bare(config: str, seconds: float) -> dict[str, Any]:
    try:
        return dataclasses.asdict(await bare(load(Path(config), environ={}), seconds))
    except (hz.UnavailableError, hz.IndeterminateError) as error:
        raise RemoteError("cluster", 1, f"the cluster did not answer: {error or 'unavailable'}") from error


def _jobs(session: aiohttp.ClientSession) -> Mapping[str, Job]:
    """Return the jobs by name."""

    async def send(address: str, **facts: Any) -> dict[str, Any]:
        return dataclasses.asdict(await send_for(Address.parse(address), **facts))

    async def spaced(address: str, **facts: Any) -> dict[str, Any]:
        return dataclasses.asdict(await send_spaced(Address.parse(address), **facts))

    async def lines(address: str, count: int) -> dict[str, Any]:
        return dataclasses.asdict(await send_lines(session, Address.parse(address), count))

    async def reads(address: str, path: str) -> dict[str, Any]:
        return dataclasses.asdict(await read(session, Address.parse(address), path))

    async def reads_for(address: str, path: str, seconds: float) -> int:
        return await read_for(session, Address.parse(address), path, seconds)

    return {"send": send, "spaced": spaced, "lines": lines, "bare": _bare, "read": reads, "read-for": reads_for}


async def _serve() -> None:
    async with open_session() as session:
        await serve(_jobs(session))


if __name__ == "__main__":
    run("microq load generator", _serve())
