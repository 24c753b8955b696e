"""The load: messages sent one after another over each of many connections, or spaced at a rate; and what came of it."""

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from microq.bench.wire import OK, Connection, open_connections
from microq.config import Address

TEXT = "a message of the benchmark"

LONGEST_PAUSE = 1.0
"""How long a connection waits at most, in seconds, where the facade asks for a pause."""

ANSWER_SECONDS = 20.0
"""How long the last answers may take, failover of the cluster included."""

TICK = 0.0005
"""What is due within so many seconds is sent at once: an event loop's clock is no finer."""

_BODY = json.dumps({"msg": TEXT}).encode()


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of sending for `seconds`, until the last answer.

    `latencies` are those of the acknowledged messages, in seconds, the shortest first. `client_cpu` is the share of one
    core that this process used meanwhile: near 1 it is the generator that was measured.
    """

    acknowledged: int
    failed: int
    seconds: float
    latencies: tuple[float, ...]
    client_cpu: float

    @property
    def per_second(self) -> float:
        """How many messages a second were acknowledged."""
        return self.acknowledged / self.seconds


async def send_for(address: Address, connections: int, seconds: float) -> Sent:
    """Send one message after another over each of so many connections; each answer is waited for, in time.

    Raises `NotRunningError` if nobody listens.
    """
    latencies: list[float] = []
    sent = 0
    prefix, clock = uuid.uuid4().hex, time.perf_counter

    async def work(connection: Connection, began: float) -> None:
        nonlocal sent
        while (now := clock()) - began < seconds:
            sent += 1
            try:
                answer = await connection.post("/facade", f"{prefix}-{sent}", _BODY)
            except OSError:
                return
            if answer.status == OK:
                latencies.append(clock() - now)
                continue
            await asyncio.sleep(min(answer.retry_after, LONGEST_PAUSE))

    took, cpu = await _all_at_work(address, connections, seconds, work)
    rounded = tuple(round(each, 6) for each in sorted(latencies))
    return Sent(len(latencies), sent - len(latencies), took, rounded, cpu)


@dataclass(frozen=True, slots=True)
class Spaced:
    """What came of sending at a fixed rate for `seconds`, until the last answer.

    `acknowledged` has the wall time of each acknowledgement by the message's id. `late_s` is how long after its time
    the latest message was sent: when every connection waits for an answer, the rate is not kept.
    """

    acknowledged: Mapping[str, float]
    failed: int
    seconds: float
    late_s: float
    client_cpu: float

    @property
    def per_second(self) -> float:
        """How many messages a second were acknowledged."""
        return len(self.acknowledged) / self.seconds


async def send_spaced(address: Address, connections: int, rate: float, seconds: float) -> Spaced:
    """Send `rate` messages a second, whatever becomes of those before, as far as the connections suffice.

    Raises `NotRunningError` if nobody listens.
    """
    acknowledged: dict[str, float] = {}
    late, taken = 0.0, 0
    prefix, clock = uuid.uuid4().hex, time.perf_counter
    most = math.ceil(rate * seconds)

    async def work(connection: Connection, began: float) -> None:
        nonlocal late, taken
        while taken < most:
            number, taken = taken, taken + 1
            wait = began + number / rate - clock()
            if wait > TICK:
                await asyncio.sleep(wait)
            late = max(late, clock() - began - number / rate)
            try:
                answer = await connection.post("/facade", f"{prefix}-{number}", _BODY)
            except OSError:
                return
            if answer.status == OK:
                acknowledged[f"{prefix}-{number}"] = time.time()

    took, cpu = await _all_at_work(address, connections, seconds, work)
    return Spaced(acknowledged, taken - len(acknowledged), took, late, cpu)


async def _all_at_work(
    address: Address, connections: int, seconds: float, work: Callable[[Connection, float], Coroutine[Any, Any, None]]
) -> tuple[float, float]:
    """Let each of so many connections `work`, told when all began, for about so long.

    Return how long it took until the last answer, and the share of one core that this process used.
    """
    async with open_connections(address, connections) as opened:
        began, used = time.perf_counter(), time.process_time()
        # What has no answer by then is none; a deadline for each message would cost more than the rest.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + ANSWER_SECONDS), asyncio.TaskGroup() as tasks:
                for connection in opened:
                    tasks.create_task(work(connection, began))
        took = time.perf_counter() - began
        return took, (time.process_time() - used) / took
