"""The load generator: one process that sends over many connections for a while, and counts."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from microq.client import FacadeClient
from microq.message import Outcome

LONGEST_PAUSE = 1.0
"""How long a connection waits at most, in seconds, where the facade asks for a pause."""


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


async def send_for(facade: FacadeClient, connections: int, seconds: float) -> Sent:
    """Send one message after another over each of so many connections; each answer is waited for, in time."""
    latencies: list[float] = []
    failed = 0
    began, used = time.perf_counter(), time.process_time()

    async def work() -> None:
        nonlocal failed
        while time.perf_counter() - began < seconds:
            receipt = await facade.send("a message of the benchmark")
            if receipt.outcome is Outcome.ACKNOWLEDGED:
                latencies.append(receipt.seconds)
                continue
            failed += 1
            await asyncio.sleep(min(receipt.retry_after, LONGEST_PAUSE))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(work())
    took = time.perf_counter() - began
    return Sent(len(latencies), failed, took, tuple(sorted(latencies)), (time.process_time() - used) / took)
