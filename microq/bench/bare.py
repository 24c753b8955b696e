"""What the bare client of Hazelcast does on the same members: no facade, no log, no consumer."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Any

from microq import hz
from microq.bench.load import TEXT
from microq.config import Config
from microq.message import Message

BATCH = 256

ROUND = 20
"""Batches of one round. Between rounds the queue is emptied, unmeasured: the members' memory is not endless."""


@dataclass(frozen=True, slots=True)
class Bare:
    """Items per second: appended to a queue in batches, and put into a map if absent, so many under way."""

    add_all_per_s: float
    put_if_absent_per_s: float


async def bare(config: Config, seconds: float) -> Bare:
    """Measure each for so long on structures of its own, which are destroyed afterwards.

    Such a queue has one backup, where the one of the system has `[queue] backup-count`. Raises `DeadlineError` without
    a cluster, and the client's errors as `hz.AwayError` and `hz.UncertainError`.
    """
    async with hz.connect(config, "bench") as cluster:
        name = f"bench-{uuid.uuid4().hex}"
        queue, keys = await cluster.queue(name), await cluster.map(name)
        try:
            return Bare(await _append(cluster, queue, seconds), await _put(cluster, keys, seconds))
        finally:
            await cluster.call(queue.destroy())
            await cluster.call(keys.destroy())


async def _append(cluster: hz.Cluster, queue: Any, seconds: float) -> float:
    items = [Message(str(uuid.uuid4()), TEXT, time.time()).to_json() for _ in range(BATCH)]
    took = count = 0.0
    while took < seconds:
        began = time.perf_counter()
        for _ in range(ROUND):
            await cluster.call(queue.add_all(items))
        took += time.perf_counter() - began
        count += ROUND * BATCH
        await cluster.call(queue.clear())
    return count / took


async def _put(cluster: hz.Cluster, keys: Any, seconds: float) -> float:
    count = 0
    began = time.perf_counter()

    async def work() -> None:
        nonlocal count
        while time.perf_counter() - began < seconds:
            message = Message(str(uuid.uuid4()), TEXT, time.time())
            await cluster.call(keys.put_if_absent(message.id, message.to_json()))
            count += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(BATCH):
            tasks.create_task(work())
    return count / (time.perf_counter() - began)
