"""What becomes slower the more messages are held: rates, reads, and a lone POST while everything is read."""

from __future__ import annotations

import asyncio
import time

from microq.bench.generator import Generator
from microq.bench.pace import System, milliseconds, since
from microq.bench.rates import level
from microq.bench.result import Held, Seen
from microq.bench.usage import by_role, sizes
from microq.config import Address, Config
from microq.errors import MachineError
from microq.fleet import Role

CONNECTIONS = 32

LONGEST_READING = 30.0
"""How long a lone sender is watched at most while everything is read, in seconds."""

ENOUGH = 0.99
"""The share of the messages of a filling that must be acknowledged."""

LONGEST_SETTLING, QUIET_CORES = 20.0, 0.3
"""How long the system may take to be at rest after a filling, in seconds, and how much of a core it then uses."""

PART = 100
"""Messages of a read that wants a part only."""

BASE_BYTES, BYTES_OF_MESSAGE = 3 << 29, 6 << 10
"""What a system needs, and what each message adds in all processes: three copies of its log entry and its claim."""

HEAP_OF_MESSAGE = 2 << 10
"""Bytes that each message adds in every member."""


def needed_bytes(messages: int) -> int:
    """Return how much memory a machine needs for a system that holds so many messages."""
    return BASE_BYTES + messages * BYTES_OF_MESSAGE


def settings(config: Config, messages: int) -> list[str]:
    """Return what a system must be configured with, as `--set` takes it, to hold so many messages."""
    heap = f"{256 + (messages * HEAP_OF_MESSAGE >> 20)}m"
    heaps = [f"hazelcast.heap={heap}", *([f"kafka.heap={heap}"] if config.has_brokers else [])]
    return [*heaps, f"queue.max-size={max(config.queue.max_size, 2 * messages)}"]


class Holding:
    """A system that is filled step by step, and measured at each size."""

    def __init__(
        self, config: Config, system: System, sender: Generator, reader: Generator, nothing: Address, seconds: float
    ) -> None:
        self._ips, self._system, self._sender, self._reader = config.service_ips, system, sender, reader
        self._nothing, self._seconds = nothing, seconds
        self.fill_per_s: float | None = None

    async def fill(self, messages: int) -> None:
        """Send through the batch API until so many are held; raises `MachineError` if they do not become so many."""
        held = await self._system.held() or 0
        if held >= messages:
            return
        began = time.perf_counter()
        sent = await self._sender.send_lines(self._ips.facade_service, messages - held)
        stored = await self._system.until_stored(held, sent.acknowledged)
        if not stored or sent.acknowledged < (messages - held) * ENOUGH:
            now = await self._system.held()
            raise MachineError(f"of {messages - held} more {sent.acknowledged} were acknowledged, and {now} are held")
        self.fill_per_s = (messages - held) / (time.perf_counter() - began)

    async def settle(self) -> None:
        """Wait until the system has done what it does after many messages came: it would be taken for the machine's."""
        patience = time.perf_counter() + LONGEST_SETTLING
        while time.perf_counter() < patience:
            before = self._system.used()
            await asyncio.sleep(1)
            used = since(before, self._system.used()).values()
            if sum(each or 0.0 for each in used) < QUIET_CORES:
                return

    async def measure(self, messages: int) -> Held:
        """Measure with what it holds now, which is about so many."""
        memory = by_role(sizes(self._system.groups))
        known = list(memory.values())
        one = await level(self._system, self._sender, self._nothing, CONNECTIONS, self._seconds)
        held = await self._system.held() or messages
        everything = await self._seen("GET /facade", self._ips.facade_service, "/facade")
        if everything.texts < held:
            raise MachineError(f"GET /facade showed {everything.texts} texts where {held} are held")
        shown = [everything, await self._seen("GET /messages of one", self._ips.messages_service[0], "/messages")]
        part = await self._seen(f"GET /facade?limit={PART}", self._ips.facade_service, f"/facade?limit={PART}")
        shown += [part] if part.texts <= 2 * PART else []
        idle = await self._sender.send(self._ips.facade_service, 1, self._seconds)
        seconds = min(max(self._seconds, everything.seconds), LONGEST_READING)
        reading = asyncio.create_task(self._reader.read_for(self._ips.facade_service, "/facade", seconds))
        try:
            under_way = await self._sender.send(self._ips.facade_service, 1, seconds)
            await reading
        finally:
            reading.cancel()
        return Held(
            messages=messages,
            fill_per_s=self.fill_per_s and round(self.fill_per_s, 1),
            level=one,
            reads=tuple(shown),
            idle_p99_ms=milliseconds(idle.latencies, 0.99),
            reading_p99_ms=milliseconds(under_way.latencies, 0.99),
            reading_worst_ms=milliseconds(under_way.latencies, 1),
            consumers_bytes=memory.get(Role.MESSAGES),
            system_bytes=None if None in known else sum(each or 0.0 for each in known),
        )

    async def _seen(self, what: str, address: Address, path: str) -> Seen:
        got = await self._reader.read(address, path)
        if got.status != 200:  # noqa: PLR2004 - HTTP's "OK"
            raise MachineError(f"{what} answered {got.status}")
        return Seen(what, round(got.seconds, 4), round(got.first_s, 4), got.bytes, got.texts)
