"""Faults of the traffic itself: too much of it, and what is no message."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from microq.chaos.faults.base import Arena, Fault, Hit, option
from microq.fleet import Role

LOOK = 0.1
"""Pause between two looks at the dead letters, in seconds."""


@dataclass(frozen=True, slots=True)
class FullQueue(Fault):
    """Send more than the queue takes while the consumers are off: what is refused must be nowhere."""

    name: ClassVar[str] = "full-queue"
    settings: ClassVar[tuple[str, ...]] = ("queue.max-size=100",)

    sends: int = option(1000, "How many messages are sent to the full queue.", 1, 100_000)

    async def strike(self, arena: Arena) -> None:
        """See `Fault.strike`: rejections are the proof."""
        rejected = 0
        async with arena.hitting([Hit(arena.config.queue.name)], "full", lambda _view, _hit: rejected > 0):
            await arena.operator.stop([Role.MESSAGES.value])
            rejected = await arena.flow.burst(self.sends)
        arena.say(f"  {rejected} of {self.sends} were rejected.")

    async def heal(self, arena: Arena) -> None:
        """See `Fault.heal`: the consumers empty the queue."""
        await arena.operator.start([Role.MESSAGES.value])


@dataclass(frozen=True, slots=True)
class Poison(Fault):
    """Put items into the queue that are no messages, one in a thousand: each must become a dead letter."""

    name: ClassVar[str] = "poison"

    every: int = option(1000, "One bad item in so many messages, and one of each kind at least.", 1, 100_000)

    async def strike(self, arena: Arena) -> None:
        """See `Fault.strike`: each is found among the dead letters."""
        count = max(len(KINDS), arena.messages // self.every)
        between = max(1, min(self.every, arena.messages // (2 * count)))
        for number in range(count):
            await self._plant(arena, *_poison(arena.random, number))
            await arena.flow.passes(between)

    async def _plant(self, arena: Arena, token: str, item: str) -> None:
        dead = False
        async with arena.hitting([Hit(token)], "a dead letter", lambda _view, _hit: dead):
            await arena.flow.plant([item])
            dead = await self._buried(arena, token)

    async def _buried(self, arena: Arena, token: str) -> bool:
        """Wait until a dead letter holds the token; return whether it was in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(arena.patience.effect):
                while (letters := await arena.flow.dead_letters()) is not None:
                    if any(token in letter for letter in letters):
                        return True
                    await asyncio.sleep(LOOK)
        return False

    async def heal(self, arena: Arena) -> None:
        """See `Fault.heal`: nothing was broken; dead letters stay, for people to look at."""


KINDS = ("{token} is not JSON", '{{"poison": "{token}"}}', '{{"id": "{token}", "text": 3, "at": "now", "by": []}}')
"""What is planted: no JSON, JSON that is no envelope, an envelope with wrong types."""


def _poison(random: Random, number: int) -> tuple[str, str]:
    """Return the text by which a bad item is found again, and the item."""
    token = f"poison-{uuid.UUID(int=random.getrandbits(128))}"
    return token, KINDS[number % len(KINDS)].format(token=token)
