"""How fast one running system is, and what it takes: rates, latencies, processor time, memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
import psutil

from microq.bench.load import Sent, send_for
from microq.chaos.timing import percentile
from microq.client import FacadeClient, get_json
from microq.config import Address, Config
from microq.errors import MicroqError
from microq.fleet import Snapshot
from microq.usage import family, usage

STORE_SECONDS = 60.0
"""How long the consumers may take to store everything after the last acknowledgement."""

LOOK = 0.02
"""Pause in seconds between two looks at what the consumers hold."""

QUEUE, REST = "queue", "rest"
"""What a figure of processes is about: the servers of the queue, or everything else of the system."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What came of sending over `connections` for `seconds`. Rates are messages per second; None is unknown.

    `stored_per_s` counts until a messages-service holds the last of them. Latencies are those of a POST that was
    acknowledged, in milliseconds. `cpu_s` is the processor time by kind of process until then, in seconds.
    `client_cpu` is the share of one core that the load generator used.
    """

    connections: int
    seconds: float
    acknowledged: int
    failed: int
    acknowledged_per_s: float
    stored_per_s: float | None
    p50_ms: float | None
    p99_ms: float | None
    client_cpu: float
    cpu_s: Mapping[str, float | None]


def pace(connections: int, sent: Sent, stored_after: float | None, cpu_s: Mapping[str, float | None]) -> Pace:
    """Put together what was measured; the last message was stored `stored_after` seconds after the beginning."""
    return Pace(
        connections,
        round(sent.seconds, 3),
        sent.acknowledged,
        sent.failed,
        round(sent.per_second, 1),
        round(sent.acknowledged / stored_after, 1) if stored_after else None,
        _milliseconds(sent.latencies, 0.5),
        _milliseconds(sent.latencies, 0.99),
        round(sent.client_cpu, 3),
        cpu_s,
    )


def _milliseconds(ordered: Sequence[float], share: float) -> float | None:
    return round(percentile(ordered, share) * 1000, 3) if ordered else None


class System:
    """A running system that is measured, with its consumers on."""

    def __init__(
        self, session: aiohttp.ClientSession, config: Config, view: Snapshot, patience: float = STORE_SECONDS
    ) -> None:
        self._session, self._patience = session, patience
        self._consumers = config.service_ips.messages_service
        self._facade = FacadeClient(session, config.service_ips.facade_service)
        kinds = [(QUEUE if process.role is view.queue_role else REST, process.pid) for process in view.processes]
        self._pids = {kind: [pid for of, pid in kinds if of == kind and pid] for kind in (QUEUE, REST)}

    async def warm(self, connections: int, seconds: float) -> None:
        """Use it for a while, so that nothing is done for the first time when it is measured."""
        before = await held(self._session, self._consumers)
        sent = await send_for(self._facade, connections, seconds)
        await self._until_stored(before, sent.acknowledged)

    async def measure(self, connections: int, seconds: float) -> Pace:
        """Send over so many connections for so long, and wait until all of it is stored."""
        before = await held(self._session, self._consumers)
        used = {kind: processor_time(pids) for kind, pids in self._pids.items()}
        began = time.perf_counter()
        sent = await send_for(self._facade, connections, seconds)
        stored = await self._until_stored(before, sent.acknowledged)
        took = time.perf_counter() - began if stored else None
        return pace(connections, sent, took, {kind: _since(used[kind], pids) for kind, pids in self._pids.items()})

    async def _until_stored(self, before: int | None, more: int) -> bool:
        """Wait until the consumers hold so many more; return whether they did in time."""
        if before is None:
            return False
        try:
            async with asyncio.timeout(self._patience):
                # Consumers tell no events.
                while (await held(self._session, self._consumers) or 0) < before + more:  # noqa: ASYNC110
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            return False
        return True


async def held(session: aiohttp.ClientSession, consumers: Sequence[Address]) -> int | None:
    """Return how many messages the messages-services hold together; None if one of them does not say."""
    try:
        counts: list[int] = [(await get_json(session, address, "/healthz"))["held"] for address in consumers]
    except MicroqError:
        return None
    return sum(counts)


def processor_time(pids: Sequence[int]) -> float | None:
    """Return the processor time of processes and their workers until now, in seconds; None if one of them is gone."""
    try:
        return sum(usage(family(pid)).cpu_s for pid in pids)
    except psutil.Error:
        return None


def _since(before: float | None, pids: Sequence[int]) -> float | None:
    now = processor_time(pids)
    return None if before is None or now is None else round(now - before, 3)


def memory(view: Snapshot) -> dict[str, dict[str, int | None]]:
    """Return the resident memory of every process in bytes, by kind and name; None is unknown."""
    found: dict[str, dict[str, int | None]] = {QUEUE: {}, REST: {}}
    for process in view.processes:
        found[QUEUE if process.role is view.queue_role else REST][process.name] = process.rss
    return found
