"""The parts of a benchmark beside rates: start-up, batch, lag of storing, many held messages, cost of crash safety.

Each measures a system that its caller has started.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from microq import interpreter
from microq.bench.generator import Generator
from microq.bench.measure import CLIENT, System, by_role, forget_peaks, measure_level, milliseconds, peaks, since, sizes
from microq.bench.result import Cost, Held, Lag, Lines, Seen
from microq.client import read_messages
from microq.config import Address, Config
from microq.errors import DeadlineError, MachineError
from microq.fleet import Operator, Role
from microq.settings import heap_bytes

COMMAND_SECONDS = 120.0
"""Seconds that a command may take."""


async def timed(words: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Run `microq` with these words and return how long it took, in seconds.

    Raises `MachineError` with its last line if it fails, and `DeadlineError`. Cancelled, it is interrupted and waited
    for.
    """
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *interpreter.PYTHON_M,
        "microq",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**interpreter.environment(), **(environment or {})},
        start_new_session=True,  # this process passes on Ctrl-C
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            _, said = await process.communicate()
    except TimeoutError as error:
        raise DeadlineError(f"microq {' '.join(words)} took longer than {COMMAND_SECONDS:g} s") from error
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await process.wait()
    took = time.perf_counter() - began
    if process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise MachineError(f"microq {' '.join(words)} ended with {process.returncode}: {last}")
    return took


def link_cache(files: Iterable[Path], cache: Path, empty: Path) -> None:
    """Fill an empty cache folder with links to these files of another one."""
    for file in files:
        link = empty / file.relative_to(cache)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)


async def measure_batch(system: System, facade_pids: Sequence[int], count: int) -> Lines:
    """Send `count` lines over one connection, and wait until all of them are stored."""
    of_facade = {"facade": facade_pids}
    held, used, size = await system.held(), system.used(), sizes(of_facade)["facade"]
    forget_peaks(of_facade)
    began = time.perf_counter()
    sent = await system.generator.send_lines(system.config.service_ips.facade_service, count)
    peak = peaks(of_facade)["facade"]
    stored = await system.until_stored(held, sent.acknowledged)
    took = time.perf_counter() - began
    cpu = {**since(used, system.used()), CLIENT: round(sent.client_cpu * sent.seconds, 3)}
    return Lines(
        lines=count,
        acknowledged=sent.acknowledged,
        failed=sent.failed,
        acknowledged_per_s=round(sent.per_second, 1),
        stored_per_s=round(sent.acknowledged / took, 1) if stored else None,
        client_cpu=round(sent.client_cpu, 3),
        cpu_s=cpu,
        facade_before_bytes=size,
        facade_peak_bytes=peak,
        facade_after_bytes=sizes(of_facade)["facade"],
    )


LAG_SHARE = 0.8
"""The fixed rate, as a share of the highest rate."""

LAG_CONNECTIONS = 128
"""Enough connections, so that a message does not wait for one."""


async def measure_lag(system: System, rate: float, seconds: float) -> Lag:
    """Send `rate` messages a second, and compare when each was acknowledged with when it was stored.

    Both are wall times of this machine. A message's `at` is when its consumer begins to write its claim: it can be
    shown one write later. Raises `NotRunningError` or `DeadlineError` if a consumer does not list its messages.
    """
    held, addresses = await system.held(), system.config.service_ips
    sent = await system.generator.send_spaced(addresses.facade_service, LAG_CONNECTIONS, rate, seconds)
    await system.until_stored(held, len(sent.acknowledged))
    shown = [await read_messages(system.session, each, "/messages") for each in addresses.messages_service]
    stored = {message.id: message.at for messages in shown for message in messages}
    late = lags(sent.acknowledged, stored)
    return Lag(
        asked_per_s=round(rate, 1),
        sent_per_s=round(sent.per_second, 1),
        late_ms=round(sent.late_s * 1000, 1),
        client_cpu=round(sent.client_cpu, 3),
        messages=len(late),
        missing=len(sent.acknowledged) - len(late),
        p50_ms=milliseconds(late, 0.5),
        p99_ms=milliseconds(late, 0.99),
        worst_ms=milliseconds(late, 1),
    )


def lags(acknowledged: Mapping[str, float], stored: Mapping[str, float]) -> list[float]:
    """Return how long after its acknowledgement each message was stored, sorted; stored before it counts as 0."""
    return sorted(max(0.0, stored[each] - at) for each, at in acknowledged.items() if each in stored)


HELD_CONNECTIONS = 32

LONGEST_READING = 30.0
"""Maximum seconds for which a single sender is measured while everything is read."""

LONGEST_SETTLING, QUIET_CORES = 20.0, 0.3
"""Seconds that a filled system may take to become idle, and the share of a core below which it is idle."""

PART = 100
"""Messages of a limited read."""

BASE_BYTES, BYTES_OF_MESSAGE = 3 << 29, 1 << 10
"""Bytes that a system needs beside the heaps of its members, and bytes of each message in its services."""

SPARE = 1.2
"""Factor of the heap over the held messages: messages of the measurement and waiting ones must fit too."""


def bytes_to_hold(config: Config, messages: int) -> int:
    """Return how much memory a machine needs for a system that holds this number of messages."""
    heaps = len(config.hazelcast.hazelcast_clients) * heap_bytes(heap_to_hold(config, messages))
    return BASE_BYTES + heaps + messages * BYTES_OF_MESSAGE


def heap_to_hold(config: Config, messages: int) -> str:
    """Return a heap for this number of messages and some more, at least the configured one."""
    return max(config.hazelcast.heap, config.capacity.heap_to_hold(_carried(messages)), key=heap_bytes)


def _carried(messages: int) -> int:
    return round(SPARE * messages)


def settings_to_hold(config: Config, messages: int) -> list[str]:
    """Return the settings, in the form of `--set`, of a system that can hold this number of messages."""
    found = []
    if (heap := heap_to_hold(config, messages)) != config.hazelcast.heap:
        found.append(f"hazelcast.heap={heap}")
    if config.limits.max_held < _carried(messages):
        found.append(f"limits.max-held={_carried(messages)}")
    return found


class Holding:
    """A system that is filled step by step, and measured at each size.

    The `reader` is a second load generator, which reads everything while the first one sends.
    """

    def __init__(self, system: System, reader: Generator, ceiling: Address, seconds: float) -> None:
        self._ips, self._system, self._sender = system.config.service_ips, system, system.generator
        self._reader, self._ceiling, self._seconds = reader, ceiling, seconds
        self.fill_per_s: float | None = None

    async def fill(self, messages: int) -> None:
        """Send through the batch API until this number is held; raises `MachineError` if it is not reached."""
        held = await self._system.held() or 0
        if held >= messages:
            return
        began = time.perf_counter()
        sent = await self._sender.send_lines(self._ips.facade_service, messages - held)
        stored = await self._system.until_stored(held, sent.acknowledged)
        if not stored:
            now = await self._system.held()
            raise MachineError(f"of {messages - held} more {sent.acknowledged} were acknowledged, and {now} are held")
        self.fill_per_s = (messages - held) / (time.perf_counter() - began)

    async def settle(self) -> None:
        """Wait until the system is idle: work after many messages would count as load of other programs."""
        patience = time.perf_counter() + LONGEST_SETTLING
        while time.perf_counter() < patience:
            before = self._system.used()
            await asyncio.sleep(1)
            used = since(before, self._system.used()).values()
            if sum(each or 0.0 for each in used) < QUIET_CORES:
                return

    async def measure(self, messages: int) -> Held:
        """Measure with the messages that it holds now, about this number."""
        memory = by_role(sizes(self._system.groups))
        known = list(memory.values())
        one = await measure_level(self._system, self._ceiling, HELD_CONNECTIONS, self._seconds)
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
            meanwhile = await self._sender.send(self._ips.facade_service, 1, seconds)
            await reading
        finally:
            reading.cancel()
        return Held(
            messages=messages,
            fill_per_s=self.fill_per_s and round(self.fill_per_s, 1),
            level=one,
            reads=tuple(shown),
            idle_p99_ms=milliseconds(idle.latencies, 0.99),
            reading_p99_ms=milliseconds(meanwhile.latencies, 0.99),
            reading_worst_ms=milliseconds(meanwhile.latencies, 1),
            consumers_bytes=memory.get(Role.MESSAGES),
            system_bytes=None if None in known else sum(each or 0.0 for each in known),
        )

    async def _seen(self, what: str, address: Address, path: str) -> Seen:
        got = await self._reader.read(address, path)
        if got.status != 200:  # noqa: PLR2004 - HTTP's "OK"
            raise MachineError(f"{what} answered {got.status}")
        return Seen(what, round(got.seconds, 4), round(got.first_s, 4), got.bytes, got.texts)


BARE: Mapping[str, str] = {Role.FACADE.value: "no-redelivery", Role.MESSAGES.value: "no-dedupe"}
"""Role -> the defect that removes crash safety: no redelivery, and no claims."""

WARM_SECONDS = 1.5
"""Seconds for which a restarted system is used before it is measured."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Acknowledged messages per second, with or without crash safety."""

    safe: bool
    per_second: float


async def cost_rates(
    operator: Operator, generator: Generator, facade: Address, connections: int, seconds: float, rounds: int
) -> AsyncIterator[Rate]:
    """Measure both alternately, `rounds` times, each for `seconds`, on a system that is not used afterwards."""
    for _ in range(rounds):
        for safe in (True, False):
            await _become(operator, safe=safe)
            await generator.send(facade, connections, WARM_SECONDS)
            yield Rate(safe, (await generator.send(facade, connections, seconds)).per_second)


def cost_of(found: list[Rate]) -> Cost:
    """Return the cost of crash safety from the rates."""
    safe, bare = (median(rate.per_second for rate in found if rate.safe is which) for which in (True, False))
    return Cost(round(safe, 1), round(bare, 1), round(1 - safe / bare, 3) if bare else 0.0)


async def _become(operator: Operator, *, safe: bool) -> None:
    for role, defect in BARE.items():
        await operator.sabotage(role, "" if safe else defect)
    await operator.restart(list(BARE))
