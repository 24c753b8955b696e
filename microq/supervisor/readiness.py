"""Readiness: whether a child is ready, whether the servers form one cluster, and why a child failed to start.

A child is ready if its log, its open port, or its answer over HTTP says so.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence

import aiohttp

from microq import caveats, log
from microq.client import listens
from microq.errors import DeadlineError, ExitedEarlyError, StartTimeoutError
from microq.fleet import Snapshot
from microq.supervisor.process import TICK, Process
from microq.supervisor.topology import ProcessSpec

LOOK = 0.03
"""Seconds between two probes. The end of the child is noticed at once."""

RESTORED_PER_SECOND = 20_000
"""Messages a second that a starting process restores: a messages-service took 24 s for two million, on 2 cores."""

MOST_CROWDING = 4.0
"""How many times longer a start may take at most on a loaded machine."""

Probe = Callable[[], Awaitable[bool]]


def crowding(load: float, processors: int) -> float:
    """Return how many times longer a start may take: as many as processes want each processor, 1 to `MOST_CROWDING`.

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


def answers(session: aiohttp.ClientSession, spec: ProcessSpec) -> Probe:
    """Return a probe of a service's `/readyz`. Behind a detour, the port of the detour must accept connections too."""

    async def probe() -> bool:
        try:
            async with asyncio.timeout(1.0), session.get(f"{spec.door.url}/readyz") as response:
                ready = response.status == 200  # noqa: PLR2004 - HTTP's "OK"
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        return ready and (spec.hidden is None or await listens(spec.address))

    return probe


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


TAIL = 3
"""How many last lines are shown of a log without an error."""

_EXCEPTION = re.compile(
    r"(?:[ |]*|Caused by: |Terminating due to |Exception in thread \".*\" )"
    r"((?:[\w$]+\.)*[A-Z][\w$]*(?:Error|Exception)(?:: .*)?)"
)
"""An exception in the form of a JVM or of Python. The last of several causes is the root."""

_FRAME = re.compile(r"\s+(?:at |\.\.\. \d+ |File \").*|[\s|+~^-]*|Traceback .*")

_OURS = re.compile(r"microq: (.*)")

_ERROR_LEVELS = frozenset({"ERROR", "CRITICAL", "SEVERE", "FATAL"})

_BOILERPLATE = frozenset(
    {
        "Error occurred during initialization of VM",
        "Error: Could not create the Java Virtual Machine.",
        "Error: A fatal exception has occurred. Program will exit.",
    }
)
"""Lines that a JVM prints beside the reason why it cannot start."""


def cause_of(text: str) -> str:
    """Return the last error of a child's log, or its last lines, as the end of a sentence; empty if there is none."""
    lines = [line for raw in text.splitlines() for line in log.readable(raw).split("\n")]
    last = next(_errors(reversed(lines)), None)
    if last is not None:
        return f"; its last error: {log.escaped(last)}"
    rest = [line.strip() for line in lines if line not in _BOILERPLATE and not _FRAME.fullmatch(line)][-TAIL:]
    if len(rest) == 1:
        return f": {log.escaped(rest[0])}"
    return "; its last lines:" + "".join(f"\n  {log.escaped(line)}" for line in rest) if rest else ""


def _errors(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    for line in lines:
        if found := _OURS.fullmatch(line) or _EXCEPTION.fullmatch(line):
            yield found[1]
        elif (parsed := log.parse(line)) and parsed.level in _ERROR_LEVELS:
            yield parsed.text
