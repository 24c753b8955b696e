"""What a system uses while nobody wants anything of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from microq.bench.pace import processor_time, since
from microq.bench.result import Idle
from microq.bench.usage import sizes

SETTLE_SECONDS = 10.0
"""How long after its start a system is left alone before it is watched: its JVMs have compiled what they began with."""


async def idle(groups: Mapping[str, Sequence[int]], seconds: float) -> Idle:
    """Watch these processes for so long."""
    await asyncio.sleep(SETTLE_SECONDS)
    before = {name: processor_time(pids) for name, pids in groups.items()}
    await asyncio.sleep(seconds)
    now = {name: processor_time(pids) for name, pids in groups.items()}
    return Idle(seconds, since(before, now), sizes(groups))
