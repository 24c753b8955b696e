"""How fast one running system is, and what it takes: rates, latencies, processor time, memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
import psutil

from microq.bench.generator import Generator
from microq.bench.load import Sent
from microq.bench.usage import pids_of
from microq.chaos.timing import percentile
from microq.client import get_json
from microq.config import Address, Config
from microq.errors import MicroqError
from microq.fleet import Snapshot
from microq.usage import usage

STORE_SECONDS = 60.0
"""How long the consumers may take to store everything after the last acknowledgement."""

LEAST_FOR_P999 = 1000
"""Messages below which one in a thousand says nothing."""

LOOK = 0.02
"""Pause in seconds between two looks at what the consumers hold."""

QUEUE, REST = "queue", "rest"
"""What a figure of processes is about: the servers of the queue, or everything else of the system."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What came of sending over `connections` for `seconds`. Rates are messages per second; None is unknown.

    `stored_per_s` counts until a messages-service holds the last of them. Latencies are those of a POST that was
    acknowledged, in milliseconds. `cpu_s` is the processor time by group of processes until then, in seconds.
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
    p999_ms: float | None = None


def pace(connections: int, sent: Sent, stored_after: float | None, cpu_s: Mapping[str, float | None]) -> Pace:
    """Put together what was measured; the last message was stored `stored_after` seconds after the beginning."""
    return Pace(
        connections,
        round(sent.seconds, 3),
        sent.acknowledged,
        sent.failed,
        round(sent.per_second, 1),
        round(sent.acknowledged / stored_after, 1) if stored_after else None,
        milliseconds(sent.latencies, 0.5),
        milliseconds(sent.latencies, 0.99),
        round(sent.client_cpu, 3),
        cpu_s,
        milliseconds(sent.latencies, 0.999) if len(sent.latencies) >= LEAST_FOR_P999 else None,
    )


def milliseconds(ordered: Sequence[float], share: float) -> float | None:
    """Return in milliseconds what this share of some seconds, the shortest first, does not exceed; None of none."""
    return round(percentile(ordered, share) * 1000, 3) if ordered else None


class System:
    """A running system that is measured, with its consumers on; `groups` are the processes that are told apart."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        config: Config,
        groups: Mapping[str, Sequence[int]],
        generator: Generator,
        patience: float = STORE_SECONDS,
    ) -> None:
        self._session, self._patience, self._generator = session, patience, generator
        self.groups = groups
        self._facade, self._consumers = config.service_ips.facade_service, config.service_ips.messages_service

    async def warm(self, connections: int, seconds: float) -> None:
        """Use it for a while, so that nothing is done for the first time when it is measured."""
        before = await self.held()
        sent = await self._generator.send(self._facade, connections, seconds)
        await self.until_stored(before, sent.acknowledged)

    async def measure(self, connections: int, seconds: float) -> Pace:
        """Send over so many connections for so long, and wait until all of it is stored."""
        before = await self.held()
        used = self.used()
        began = time.perf_counter()
        sent = await self._generator.send(self._facade, connections, seconds)
        stored = await self.until_stored(before, sent.acknowledged)
        took = time.perf_counter() - began if stored else None
        return pace(connections, sent, took, since(used, self.used()))

    def used(self) -> dict[str, float | None]:
        """Return the processor time of each group until now, in seconds."""
        return {name: processor_time(pids) for name, pids in self.groups.items()}

    async def held(self) -> int | None:
        """Return how many messages the consumers hold."""
        return await held(self._session, self._consumers)

    async def until_stored(self, before: int | None, more: int) -> bool:
        """Wait until the consumers hold so many more; return whether they did in time."""
        if before is None:
            return False
        try:
            async with asyncio.timeout(self._patience):
                # Consumers tell no events.
                while (await self.held() or 0) < before + more:  # noqa: ASYNC110
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
    """Return the processor time of processes until now, in seconds; None if one of them is gone."""
    try:
        return usage([psutil.Process(pid) for pid in pids]).cpu_s
    except psutil.Error:
        return None


def since(before: Mapping[str, float | None], now: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return what was used between two looks; what one of them does not know is unknown."""
    pairs = {name: (used, now.get(name)) for name, used in before.items()}
    return {n: None if old is None or new is None else round(new - old, 3) for n, (old, new) in pairs.items()}


def by_kind(view: Snapshot) -> dict[str, list[int]]:
    """Return the pids of two groups: the servers of the queue, and the rest."""
    found: dict[str, list[int]] = {QUEUE: [], REST: []}
    for process in view.processes:
        if process.pid:
            found[QUEUE if process.role is view.queue_role else REST] += pids_of(process.pid)
    return found


def memory(view: Snapshot) -> dict[str, dict[str, int | None]]:
    """Return the resident memory of every process in bytes, by kind and name; None is unknown."""
    found: dict[str, dict[str, int | None]] = {QUEUE: {}, REST: {}}
    for process in view.processes:
        found[QUEUE if process.role is view.queue_role else REST][process.name] = process.rss
    return found
