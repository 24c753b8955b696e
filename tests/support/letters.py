"""Dead letters that a test plants into a running system."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from support.project import Project

from microq.backends.hazelcast import client as hz
from microq.message import DeadLetter
from microq.store import names


def letter(message_id: str, text: str = "hello", *, replayable: bool = True) -> DeadLetter:
    return DeadLetter(message_id, text, "not stored after 5 deliveries", "facade", time.time() - 90, replayable)


def plant(system: Project, *letters: DeadLetter) -> None:
    """Make these the only dead letters of a system."""
    # In a thread: a browser's thread has a running loop.
    with ThreadPoolExecutor() as thread:
        thread.submit(asyncio.run, _put(system, letters)).result()


async def _put(system: Project, letters: Sequence[DeadLetter]) -> None:
    async with hz.connect(system.config, "the test") as cluster:
        dead = await cluster.map(names(system.config.queue.name).dead)
        await dead.clear()
        for each in letters:
            await dead.set(each.id, each.to_json())
