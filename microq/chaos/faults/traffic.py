"""Faults of the traffic: too many messages, and items that are not messages."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from microq.chaos.faults.base import Arena, Fault, Hit, option
from microq.fleet import Role

LOOK = 0.1
"""Seconds between two readings of the dead letters."""


@dataclass(frozen=True, slots=True)
class FullQueue(Fault):
    """Send more messages than the queue can hold while the consumers are off: a rejected message must be nowhere."""

    name: ClassVar[str] = "full-queue"
    breaks: ClassVar[frozenset[str]] = frozenset({Role.MESSAGES.value})
    settings: ClassVar[tuple[str, ...]] = ("queue.max-size=100",)
    bounds: ClassVar[Mapping[str, float]] = {"accepted": 0}

    sends: int = option(1000, "The number of messages that are sent to the full queue.", 1, 100_000)

    async def strike(self, arena: Arena) -> None:
        """Stop the consumers and send more than the queue can hold; rejections prove it."""
        rejected = 0
        async with arena.hitting([Hit(arena.config.queue.name)], "full", lambda _view, _hit: rejected > 0):
            await arena.operator.stop([Role.MESSAGES.value])
            rejected = await arena.flow.burst(self.sends)
        arena.say(f"  {rejected} of {self.sends} were rejected.")

    async def heal(self, arena: Arena) -> None:
        """Start the consumers, which empty the queue."""
        await arena.operator.start([Role.MESSAGES.value])


@dataclass(frozen=True, slots=True)
class FillMemory(Fault):
    """Send more than the members' memory can hold while the consumers are off: POST must be refused, nothing lost."""

    name: ClassVar[str] = "fill-memory"
    needs_own: ClassVar[frozenset[str]] = frozenset({Role.FACADE})
    breaks: ClassVar[frozenset[str]] = frozenset({Role.MESSAGES.value})
    settings: ClassVar[tuple[str, ...]] = ("hazelcast.heap=48m",)
    bounds: ClassVar[Mapping[str, float]] = {"accepted": 0}

    sends: int = option(200, "The number of large messages that are sent.", 1, 100_000)
    size: int = option(200_000, "Characters of each of them.", 1, 1_000_000)

    async def strike(self, arena: Arena) -> None:
        """Stop the consumers and send large messages; rejections for lack of memory prove it."""
        rejected = 0
        async with arena.hitting(
            [Hit(arena.config.queue.name)], "out of memory for more", lambda _view, _hit: rejected > 0
        ):
            await arena.operator.stop([Role.MESSAGES.value])
            rejected = await arena.flow.burst(self.sends, self.size, "memory")
        sent = f"{self.sends} messages of {self.size:,} characters"
        arena.say(f"  {rejected} of {sent} were rejected: the members' memory has no room for them.")

    async def heal(self, arena: Arena) -> None:
        """Start the consumers; when they have stored the waiting messages there must be room again."""
        await arena.operator.start([Role.MESSAGES.value])
        await arena.accepted("there is room again")


@dataclass(frozen=True, slots=True)
class Poison(Fault):
    """Put items that are not messages into the queue, one in a thousand: each must become a dead letter."""

    name: ClassVar[str] = "poison"
    needs_own: ClassVar[frozenset[str]] = frozenset({Role.FACADE, Role.MESSAGES})
    breaks: ClassVar[frozenset[str]] = frozenset({"dead letters"})

    every: int = option(1000, "One bad item in this number of messages, and at least one of each kind.", 1, 100_000)

    async def strike(self, arena: Arena) -> None:
        """Put bad items into the queue between the messages; each must be found among the dead letters."""
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
        """Wait until a dead letter contains the token; return whether it was in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(arena.timeouts.effect):
                while (letters := await arena.flow.dead_letters()) is not None:
                    if any(token in letter for letter in letters):
                        return True
                    await asyncio.sleep(LOOK)
        return False

    async def heal(self, arena: Arena) -> None:
        """Do nothing: nothing is broken, and the dead letters stay for the user to read."""


KINDS = ("{token} is not JSON", '{{"poison": "{token}"}}', '{{"id": "{token}", "text": 3, "at": "now", "by": []}}')
"""The bad items: not JSON, JSON that is not an envelope, an envelope with wrong types."""


def _poison(random: Random, number: int) -> tuple[str, str]:
    """Return the token by which a bad item is found again, and the item."""
    token = f"poison-{uuid.UUID(int=random.getrandbits(128))}"
    return token, KINDS[number % len(KINDS)].format(token=token)
