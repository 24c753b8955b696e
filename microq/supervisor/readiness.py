"""Readiness: whether a child is ready, and whether the servers form one cluster.

A child is ready if its log, its open port, or its answer over HTTP says so.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import aiohttp

from microq import caveats
from microq.client import listens
from microq.errors import DeadlineError, ExitedEarlyError, StartTimeoutError
from microq.fleet import Snapshot
from microq.settings import Program
from microq.supervisor.cause import cause_of
from microq.supervisor.process import TICK, Process
from microq.supervisor.topology import ProcessSpec

LOOK = 0.03
"""Seconds between two probes. The end of the child is noticed at once."""

RESTORED_PER_SECOND = 20_000
"""Messages a second that a starting process restores: a messages-service took 24 s for two million, on 2 cores."""

MOST_CROWDING = 4.0
"""The largest factor by which a loaded machine prolongs the time limit of a start."""

Probe = Callable[[], Awaitable[bool]]


def crowding(load: float, processors: int) -> float:
    """Return the factor of a start's time limit: the number of processes for each processor, 1 to `MOST_CROWDING`.

    `load` is the average number of processes that run or want to, over the last minute.
    """
    return min(max(load / processors, 1.0), MOST_CROWDING)


def with_restoring(seconds: float, view: Snapshot) -> float:
    """Return the seconds that a start may take: `seconds`, and the time to restore the messages of the servers."""
    entries = sum(member.log_entries or 0 for member in view.members)
    waiting = sum(broker.items or 0 for broker in view.brokers)
    return seconds + (entries + waiting) / RESTORED_PER_SECOND


def says(process: Process, line: str) -> Probe:
    """Return a probe that looks for a line in what the child has logged since its start."""

    async def probe() -> bool:
        return line in process.new_log()

    return probe


def answers(session: aiohttp.ClientSession, spec: ProcessSpec, path: str = "/readyz") -> Probe:
    """Return a probe of a path, which must answer 2xx. Behind a detour, that must accept connections too."""

    async def probe() -> bool:
        try:
            async with asyncio.timeout(1.0), session.get(f"{spec.door.url}{path}") as response:
                ready = response.status // 100 == 2  # noqa: PLR2004 - HTTP's success
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        return ready and (spec.hidden is None or await listens(spec.address))

    return probe


def opens(spec: ProcessSpec) -> Probe:
    """Return a probe of the port of a process, and of the detour before it."""

    async def probe() -> bool:
        return await listens(spec.door) and (spec.hidden is None or await listens(spec.address))

    return probe


def of_program(session: aiohttp.ClientSession, process: Process, program: Program) -> Probe:
    """Return the probe that an external program is configured with."""
    if program.ready.startswith("/"):
        return answers(session, process.spec, program.ready)
    return says(process, program.ready) if program.ready else opens(process.spec)


async def until(process: Process, probe: Probe, seconds: float) -> None:
    """Wait until the probe succeeds, and mark the process as ready. Raises as `seen` does."""
    await seen(process, probe, seconds)
    process.ready()


async def seen(process: Process, probe: Probe, seconds: float) -> None:
    """Wait until the probe succeeds.

    Raises `ExitedEarlyError` or `StartTimeoutError`, both with the last error that the process logged.
    """
    name = process.spec.name
    limit = _Limit(seconds)
    try:
        async with limit.scope:
            while not await probe():
                if await _ended(process):
                    raise ExitedEarlyError(name, process.exit_status or 0, cause_of(process.new_log()))
                limit.look()
    except TimeoutError as error:
        raise StartTimeoutError(name, limit.passed, cause_of(process.new_log())) from error


async def joined(look: Callable[[], Awaitable[Snapshot]], seconds: float, settled: Callable[[], bool]) -> None:
    """Wait until every running server sees all the others and, while `settled()` is true, no copy is missing.

    Raises `DeadlineError` with what was missing in the last snapshot.
    """
    why = "no snapshot of them was complete"
    limit = _Limit(seconds)
    try:
        async with limit.scope:
            while True:  # servers send no events
                view = await look()
                if view.settled if settled() else view.joined:
                    return
                why = "; ".join(caveats.of_servers(view, {}))
                await asyncio.sleep(TICK)
                limit.look()
    except TimeoutError as error:
        raise DeadlineError(f"the servers are not one safe cluster after {limit.passed:g} s: {why}") from error


class _Limit:
    """A time limit in seconds, for what runs in its `scope`; it grows with the load of the machine."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._began = seconds, asyncio.get_running_loop().time()
        self.scope = asyncio.timeout(seconds)

    def look(self) -> None:
        """Move the limit, for the load of this moment."""
        now = crowding(os.getloadavg()[0], os.cpu_count() or 1)
        self.scope.reschedule(self._began + self._seconds * now)

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return round(asyncio.get_running_loop().time() - self._began, 1)


async def _ended(process: Process) -> bool:
    """Wait up to `LOOK` seconds for the child's end; return whether it ended."""
    try:
        async with asyncio.timeout(LOOK):
            await process.ended.wait()
    except TimeoutError:
        return False
    return True
