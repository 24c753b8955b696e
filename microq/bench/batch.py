"""The batch API under one sender: its rates, and whether the facade's memory stays flat."""

from __future__ import annotations

import time
from collections.abc import Sequence

from microq.bench.generator import Generator
from microq.bench.pace import System, since
from microq.bench.result import Lines
from microq.bench.usage import CLIENT, forget_peaks, peaks, sizes
from microq.config import Address


async def batch(system: System, generator: Generator, facade: Address, facade_pids: Sequence[int], count: int) -> Lines:
    """Send so many lines, and wait until all of them are stored."""
    of_facade = {"facade": facade_pids}
    held, used, size = await system.held(), system.used(), sizes(of_facade)["facade"]
    forget_peaks(of_facade)
    began = time.perf_counter()
    sent = await generator.send_lines(facade, count)
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
