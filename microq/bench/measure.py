"""Measures a running system: rates, latencies, processor time and memory, under load and idle."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp
import psutil

from microq.aio import poll_until
from microq.bench.generator import Generator
from microq.bench.load import Sent
from microq.bench.result import Idle, Level, Pace
from microq.chaos.checker import percentile
from microq.client import get_json
from microq.config import Address, Config
from microq.errors import MicroqError
from microq.fleet import Role, Snapshot
from microq.usage import family, usage

CLIENT = "client"
"""The name of the load generator in figures by process."""

SUPERVISOR = "supervisor"
"""The name of the supervisor, which also serves the page; in a benchmark it is the command itself."""


def by_name(view: Snapshot) -> dict[str, list[int]]:
    """Return the pids of each process of the system, those that it started itself included."""
    return {process.name: pids_of(process.pid) for process in view.processes if process.pid}


def pids_of(pid: int) -> list[int]:
    """Return the pids of a process and of its children."""
    try:
        return [each.pid for each in family(pid)]
    except psutil.Error:
        return [pid]


def role_of(name: str) -> str:
    """Return the role in the name of a process: `logging` of `logging-5003`."""
    return name.partition("-")[0]


def by_role(named: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return sums over the processes of each role; unknown if one of them is."""
    listed: dict[str, list[float | None]] = defaultdict(list)
    for name, value in named.items():
        listed[role_of(name)].append(value)
    return {role: None if None in values else sum(each or 0.0 for each in values) for role, values in listed.items()}


def forget_peaks(groups: Mapping[str, Iterable[int]]) -> None:
    """Reset the peaks of memory, where the kernel can (Linux); elsewhere they count since the start."""
    for pid in (pid for pids in groups.values() for pid in pids):
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def peaks(groups: Mapping[str, Sequence[int]]) -> dict[str, int | None]:
    """Return each process's peak memory in bytes; where the kernel does not report it, its memory now."""
    return {name: _sum([_peak(pid) for pid in pids]) for name, pids in groups.items()}


def sizes(groups: Mapping[str, Sequence[int]]) -> dict[str, int | None]:
    """Return the resident memory of each process now, in bytes."""
    return {name: _sum([_size(pid) for pid in pids]) for name, pids in groups.items()}


def _sum(found: Sequence[int | None]) -> int | None:
    return None if None in found else sum(each or 0 for each in found)


def _peak(pid: int) -> int | None:
    try:
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        peak = None
    return int(peak[1]) << 10 if peak else _size(pid)


def _size(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


STORE_SECONDS = 60.0
"""Seconds for the consumers to store everything after the last acknowledgement."""

LEAST_FOR_P999 = 1000
"""The smallest number of messages for which a p99.9 is given."""

LOOK = 0.02
"""Seconds between two counts of the held messages."""

QUEUE, REST = "queue", "rest"
"""The two groups of processes: the servers of the queue, and all others."""


def pace_of(connections: int, sent: Sent, stored_after: float | None, cpu_s: Mapping[str, float | None]) -> Pace:
    """Return the measured rates; the last message was stored `stored_after` seconds after the beginning."""
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
    """Return a percentile, in milliseconds, of sorted durations in seconds; None if there are none."""
    return round(percentile(ordered, share) * 1000, 3) if ordered else None


class System:
    """A running system that is measured, with its consumers on; `groups` are the processes that are reported apart."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        config: Config,
        groups: Mapping[str, Sequence[int]],
        generator: Generator,
        patience: float = STORE_SECONDS,
    ) -> None:
        self._patience = patience
        self.session, self.config, self.generator, self.groups = session, config, generator, groups
        self._facade, self._consumers = config.service_ips.facade_service, config.service_ips.messages_service

    async def warm(self, connections: int, seconds: float) -> None:
        """Use it for some seconds, so that first-time work is not measured."""
        before = await self.held()
        sent = await self.generator.send(self._facade, connections, seconds)
        await self.until_stored(before, sent.acknowledged)

    async def measure(self, connections: int, seconds: float) -> Pace:
        """Send over `connections` for `seconds`, and wait until all messages are stored."""
        before = await self.held()
        used = self.used()
        began = time.perf_counter()
        sent = await self.generator.send(self._facade, connections, seconds)
        stored = await self.until_stored(before, sent.acknowledged)
        took = time.perf_counter() - began if stored else None
        return pace_of(connections, sent, took, since(used, self.used()))

    def used(self) -> dict[str, float | None]:
        """Return the processor time of each group until now, in seconds."""
        return {name: processor_time(pids) for name, pids in self.groups.items()}

    async def held(self) -> int | None:
        """Return the number of messages that the consumers hold."""
        return await held(self.session, self._consumers)

    async def until_stored(self, before: int | None, more: int) -> bool:
        """Wait until the consumers hold `more` messages more than `before`; return whether they did in time."""
        if before is None:
            return False

        async def stored() -> bool:
            return (await self.held() or 0) >= before + more

        # Consumers send no events.
        return await poll_until(stored, LOOK, self._patience)


async def held(session: aiohttp.ClientSession, consumers: Sequence[Address]) -> int | None:
    """Return how many messages the messages-services hold together; None if one does not answer."""
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
    """Return the usage between two readings; unknown if one of them is."""
    pairs = {name: (used, now.get(name)) for name, used in before.items()}
    return {n: None if old is None or new is None else round(new - old, 3) for n, (old, new) in pairs.items()}


def by_kind(view: Snapshot) -> dict[str, list[int]]:
    """Return the pids of two groups: the servers of the queue, and the rest."""
    found: dict[str, list[int]] = {QUEUE: [], REST: []}
    for process in view.processes:
        if process.pid:
            found[QUEUE if process.role is Role.QUEUE else REST] += pids_of(process.pid)
    return found


def memory(view: Snapshot) -> dict[str, dict[str, int | None]]:
    """Return the resident memory of every process in bytes, by kind and name; None is unknown."""
    found: dict[str, dict[str, int | None]] = {QUEUE: {}, REST: {}}
    for process in view.processes:
        found[QUEUE if process.role is Role.QUEUE else REST][process.name] = process.rss
    return found


async def measure_level(system: System, ceiling: Address, connections: int, seconds: float) -> Level:
    """Measure the system over `connections`, and before and after it a handler that does nothing.

    The speed of a shared machine changes: so the two rates of a ratio are measured shortly after each other.
    """
    before = await system.generator.send(ceiling, connections, seconds / 2)
    began, busy = time.perf_counter(), busy_seconds()
    pace = await system.measure(connections, seconds)
    busy, took = busy_seconds() - busy, time.perf_counter() - began
    after = await system.generator.send(ceiling, connections, seconds / 2)
    most = (before.acknowledged + after.acknowledged) / (before.seconds + after.seconds)
    cpu = {**pace.cpu_s, CLIENT: round(pace.client_cpu * pace.seconds, 3)}
    client = max(before.client_cpu, after.client_cpu)
    used = list(cpu.values())
    others = None if None in used else round(max(0.0, busy - sum(each or 0.0 for each in used)) / took, 2)
    return Level(dataclasses.replace(pace, cpu_s=cpu), round(most, 1), round(client, 3), others)


def busy_seconds() -> float:
    """Return the busy seconds of this machine's cores, added up, including those stolen by other virtual machines."""
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "steal", 0.0))


SETTLE_SECONDS = 10.0
"""Seconds after its start before an idle system is measured: until then its JVMs compile code."""


async def watch_idle(groups: Mapping[str, Sequence[int]], seconds: float) -> Idle:
    """Measure these processes for `seconds`."""
    await asyncio.sleep(SETTLE_SECONDS)
    before = {name: processor_time(pids) for name, pids in groups.items()}
    await asyncio.sleep(seconds)
    now = {name: processor_time(pids) for name, pids in groups.items()}
    return Idle(seconds, since(before, now), sizes(groups))
