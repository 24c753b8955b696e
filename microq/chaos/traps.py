"""Faults for the negative controls only: what a proof must see through, or what breaks a promise that was weakened."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from microq.chaos.faults.base import Arena, Fault, Hit, alive, gone
from microq.chaos.faults.members import MemberFault
from microq.fleet import Role, Snapshot
from microq.message import Message

STRANDED_SECONDS = 1.0
"""For how long the leader is alone at most; brokers are declared dead only later."""


@dataclass(frozen=True, slots=True)
class Miss(MemberFault):
    """Say that a member is hit, and do nothing."""

    name: ClassVar[str] = "miss"

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """See `MemberFault.hit`."""
        async with arena.hitting(hits, "hit", lambda _view, _hit: False):
            arena.say("  nothing is done to it")


@dataclass(frozen=True, slots=True)
class Plant(Fault):
    """Put messages straight into the queue that nobody sent."""

    name: ClassVar[str] = "plant"

    count: int = 3

    async def strike(self, arena: Arena) -> None:
        """See `Fault.strike`."""
        ids = [f"planted-{uuid.UUID(int=arena.random.getrandbits(128))}" for _ in range(self.count)]
        async with arena.hitting([Hit(arena.config.queue.name)], "given items that nobody sent", _planted):
            await arena.flow.plant([Message(i, "planted", 1.0).to_json() for i in ids])

    async def heal(self, arena: Arena) -> None:
        """See `Fault.heal`: nothing was broken."""


def _planted(_view: Snapshot, _hit: Hit) -> bool:
    """Prove a planting: it would have raised an error."""
    return True


@dataclass(frozen=True, slots=True)
class StrandLeader(MemberFault):
    """Freeze all brokers but the leader, let it accept what it can, kill it, and let the others go on.

    What the leader alone has is gone then. With acks from all replicas it can accept nothing while it is alone.
    """

    name: ClassVar[str] = "strand-leader"
    backends: ClassVar[tuple[str, ...]] = (Role.KAFKA.value,)

    count: int = 50

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """See `MemberFault.hit`: the leader is gone, and was alone before."""
        others = [p.name for p in alive(await arena.operator.snapshot(), Role.KAFKA) if p.name != hits[0].target]
        async with arena.hitting(hits, "killed alone", gone) as names:
            await arena.operator.pause(others)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STRANDED_SECONDS):
                    await arena.flow.passes(self.count)
            await arena.operator.kill(names)
            await arena.operator.resume(others)
