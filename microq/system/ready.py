"""When a child is ready: it says so itself, in its log, by its port or over HTTP; when servers are one cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp

from microq import cues, log
from microq.config import Address
from microq.errors import DeadlineError, ExitedEarlyError, StartTimeoutError
from microq.fleet import Snapshot
from microq.system.process import TICK, Process
from microq.system.topology import ProcessSpec

TAIL = 12
"""Lines of the log that an error about a child shows."""

LOOK = 0.03
"""Pause between two looks in seconds; the end of the child is noticed at once."""

Probe = Callable[[], Awaitable[bool]]


def says(process: Process, line: str) -> Probe:
    """Return a probe that looks for a text in what the child has logged since its start."""

    async def probe() -> bool:
        return line in process.new_log()

    return probe


def listens(address: Address) -> Probe:
    """Return a probe that looks whether somebody accepts connections there."""

    async def probe() -> bool:
        try:
            _, writer = await asyncio.open_connection(address.host, address.port)
        except OSError:
            return False
        writer.close()
        return True

    return probe


def answers(session: aiohttp.ClientSession, spec: ProcessSpec) -> Probe:
    """Return a probe that asks a service's `/readyz`, and with a detour also whether it leads there by now."""

    async def probe() -> bool:
        try:
            async with asyncio.timeout(1.0), session.get(f"{spec.door.url}/readyz") as response:
                ready = response.status == 200  # noqa: PLR2004 - HTTP's "OK"
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        return ready and (spec.hidden is None or await listens(spec.address)())

    return probe


async def until(process: Process, probe: Probe, seconds: float) -> None:
    """Wait until the probe says yes, and mark the process as ready.

    Raises `ExitedEarlyError` or `StartTimeoutError`, both with the last log lines.
    """
    await seen(process, probe, seconds)
    process.ready()


async def seen(process: Process, probe: Probe, seconds: float) -> None:
    """Wait until the probe says yes; raises as `until` does."""
    name = process.spec.name
    try:
        async with asyncio.timeout(seconds):
            while not await probe():
                if await _ended(process):
                    raise ExitedEarlyError(name, process.exit_status or 0, tail(process))
    except TimeoutError as error:
        raise StartTimeoutError(name, seconds, tail(process)) from error


async def joined(look: Callable[[], Awaitable[Snapshot]], seconds: float, *, safe: bool) -> None:
    """Wait until every server that is up sees all the others of its cluster, and if `safe`, every copy is in place.

    Raises `DeadlineError`, which says what was not so at the last look.
    """
    why = "no look at them ended"
    try:
        async with asyncio.timeout(seconds):
            while True:  # they tell no events
                view = await look()
                if view.safe if safe else view.joined:
                    return
                why = "; ".join(cues.of_servers(view, {}))
                await asyncio.sleep(TICK)
    except TimeoutError as error:
        raise DeadlineError(f"the servers are not one safe cluster after {seconds:g} s: {why}") from error


async def _ended(process: Process) -> bool:
    """Wait a moment for the child's end."""
    try:
        async with asyncio.timeout(LOOK):
            await process.ended.wait()
    except TimeoutError:
        return False
    return True


def tail(process: Process) -> list[str]:
    """Return the child's last log lines, as people read them."""
    return [log.readable(line) for line in process.new_log().splitlines()[-TAIL:]]
