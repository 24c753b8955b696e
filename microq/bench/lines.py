"""Many messages over one connection, as `microq send` sends them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp

from microq.config import Address
from microq.message import Outcome
from microq.sending import one_by_one, send_all

UNDER_WAY = 256
"""Messages under way at the same time, as `microq send` has them."""

MARK = "of the benchmark"
"""What every text of the benchmark has, so that a reader can count them."""

TEXT_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Batched:
    """What came of sending a batch, until its last outcome. `client_cpu` is the share of one core of the sender."""

    acknowledged: int
    failed: int
    seconds: float
    client_cpu: float

    @property
    def per_second(self) -> float:
        """How many messages a second were acknowledged."""
        return self.acknowledged / self.seconds


async def send_lines(session: aiohttp.ClientSession, address: Address, count: int) -> Batched:
    """Send so many texts of 100 characters through the batch API, each with its outcome."""
    acknowledged = failed = 0
    began, used = time.perf_counter(), time.process_time()
    async for receipt in send_all(session, address, one_by_one(_texts(count)), UNDER_WAY):
        if receipt.outcome is Outcome.ACKNOWLEDGED:
            acknowledged += 1
        else:
            failed += 1
    took = time.perf_counter() - began
    return Batched(acknowledged, failed, took, (time.process_time() - used) / took)


def _texts(count: int) -> Iterator[str]:
    return (f"line {number} {MARK} ".ljust(TEXT_LENGTH, ".") for number in range(count))
