"""Defects of today's protocol, planted one at a time: the simulation must find each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from simulation.system import Parts

from microq.message import Message
from microq.services.acceptance import Acceptance, Logged, UnacknowledgedError
from microq.services.faulty import Blind, Undiscerning
from microq.services.messages import Consumer
from microq.services.redelivery import Watch
from microq.services.takeover import Claims, Tenancy


class EarlyAcknowledgement(Acceptance):
    """It acknowledges a message, and then writes the log and puts the message into the queue."""

    def __init__(self, tasks: asyncio.TaskGroup, *others: Any) -> None:
        super().__init__(tasks, *others)
        self._tasks = tasks

    async def accept(self, message: Message) -> str:
        """Acknowledge at once."""
        self._tasks.create_task(self._try(message))
        return "nobody"

    async def _try(self, message: Message) -> None:
        with suppress(UnacknowledgedError):
            await super().accept(message)


class UnloggedAcceptance(Acceptance):
    """It puts a message into the queue before it writes the log, and takes nothing back."""

    async def _log_and_put(self, message: Message) -> str:
        self._watch.begin(message)
        await self._enqueue(message, Logged("nobody", new=True, at=0.0, repeated=True), sent_before=True)
        self._watch.put(message.id)
        return "nobody"


class ShownFirst(Consumer):
    """It shows a message before it has claimed it."""

    async def store(self, messages: Sequence[Message]) -> None:
        """Hold, then claim."""
        self.held.add(messages)
        await super().store(messages)


class Unchecked(Consumer):
    """It claims a message, and shows it whoever has the claim."""

    async def store(self, messages: Sequence[Message]) -> None:
        """Claim, then hold all."""
        await super().store(messages)
        self.held.add(messages)


class Forgetting(Watch):
    """It does not ask, after a start or later, which messages an earlier facade left."""

    async def _compare(self) -> bool:
        return True


class Empty(Claims):
    """It does not load what it stored before a restart."""

    async def _restore(self) -> None:
        """Load nothing."""


class Keeping(Claims):
    """It does not give up, after a pause or a merge, what others have."""

    async def _reconcile(self, page: Mapping[int, Message]) -> int:
        del page
        return 0


class Sleeping(Claims):
    """It does not look after a merge what is its own."""

    async def reconcile_after_joins(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()


class Unfenced(Claims):
    """It does not change its claims before it shows them again."""

    async def fence(self) -> None:
        """Change nothing."""


class Confident(Tenancy):
    """It shows what it holds whether or not it has its lease."""

    @property
    def valid(self) -> bool:
        """Whether it has begun."""
        return True


MUTATIONS: dict[str, Parts] = {
    "confirm before stored": Parts(acceptance=EarlyAcknowledgement),
    "no log": Parts(acceptance=UnloggedAcceptance),
    "shown before stored": Parts(consumer=ShownFirst),
    "shown whoever has it": Parts(consumer=Unchecked),
    "no claim": Parts(consumer=Undiscerning),
    "no redelivery": Parts(watch=Blind),
    "pending forgotten on restart": Parts(watch=Forgetting),
    "stored forgotten on restart": Parts(claims=Empty),
    "nothing given up": Parts(claims=Keeping),
    "merge overlooked": Parts(claims=Sleeping),
    "lease ignored": Parts(tenancy=Confident),
}
"""Name of a defect -> the parts of a system that has it."""
