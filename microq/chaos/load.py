"""Traffic that goes on while a fault strikes: a producer that never gives up a message lightly."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
import uuid
from collections.abc import Sequence

from microq.chaos.planting import Planter
from microq.chaos.traffic import Traffic
from microq.config import Config
from microq.errors import MicroqError
from microq.message import Outcome

LOOK = 0.005
"""Pause between two looks at how many messages are acknowledged, in seconds."""

RETRY = 0.05
"""Pause before a message is sent again, in seconds, if the facade asked for none."""

AMPLE = 2
"""How many times the messages that were asked for are sent at full speed; a fault that takes longer meets a trickle."""

TRICKLE = 0.1
"""Pause of each connection between two messages of the trickle, in seconds."""


class Load:
    """The `Flow` around a fault. While `run` runs, `connections` workers send until `finish` and a tail after it."""

    def __init__(
        self, traffic: Traffic, config: Config, planter: Planter, messages: int, connections: int = 16
    ) -> None:
        self._traffic, self._config, self._planter = traffic, config, planter
        self._messages, self._connections = messages, connections
        self._numbers = itertools.count(1)
        self._goal = math.inf
        self._end = math.inf
        self._running = False

    @property
    def acknowledged(self) -> int:
        """How many messages are acknowledged by now."""
        return len(self._traffic.acknowledged)

    async def run(self) -> None:
        """Send until the goal is reached, or the patience with the whole load ends."""
        self._end = asyncio.get_running_loop().time() + self._traffic.patience.load
        self._running = True
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._connections):
                    tasks.create_task(self._work())
        finally:
            self._running = False

    def finish(self, tail: int) -> None:
        """Send `tail` messages more, and as many as were asked for in all; then end."""
        self._goal = max(self._messages, self.acknowledged + tail)

    def _goes_on(self) -> bool:
        return self.acknowledged < self._goal and asyncio.get_running_loop().time() < self._end

    async def _work(self) -> None:
        while self._goes_on():
            await self._deliver(f"msg{next(self._numbers)}")
            if self.acknowledged >= self._messages * AMPLE:
                await asyncio.sleep(TRICKLE)

    async def _deliver(self, text: str) -> None:
        """Send one message, again under its id until it is acknowledged or the patience with it ends."""
        message_id = str(uuid.uuid4())
        end = min(asyncio.get_running_loop().time() + self._traffic.patience.probe, self._end)
        while (receipt := await self._traffic.send(text, message_id)).outcome is not Outcome.ACKNOWLEDGED:
            pause = receipt.retry_after or RETRY
            if asyncio.get_running_loop().time() + pause >= end:
                return
            await asyncio.sleep(pause)

    async def passes(self, count: int) -> bool:
        """See `Flow.passes`; nothing is waited for where nothing is under way."""
        wanted = self.acknowledged + count
        while self._running and self.acknowledged < wanted:  # noqa: ASYNC110 - `run` ends in time
            await asyncio.sleep(LOOK)
        return self.acknowledged >= wanted

    async def ping(self) -> float:
        """See `Flow.ping`."""
        began = time.perf_counter()
        try:
            await self._traffic.ask("/healthz")
        except MicroqError:
            return 0.0
        return time.perf_counter() - began

    async def burst(self, count: int) -> int:
        """See `Flow.burst`."""
        receipts = await self._traffic.send_all(f"burst{number}" for number in range(1, count + 1))
        return sum(receipt.outcome is Outcome.REJECTED for receipt in receipts)

    async def plant(self, items: Sequence[str]) -> None:
        """See `Flow.plant`."""
        await self._planter(self._config, items)

    async def dead_letters(self) -> list[str] | None:
        """See `Flow.dead_letters`."""
        try:
            letters = await self._traffic.ask("/dead")
        except MicroqError:
            return None
        return [json.dumps(letter, ensure_ascii=False) for letter in letters]
