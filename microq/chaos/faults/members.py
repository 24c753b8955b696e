"""Faults of the queue's members."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from microq.chaos.faults.base import Arena, Fault, Hit, alive, dropped, gone, hit_of, option
from microq.config import Address
from microq.errors import UsageError
from microq.fleet import ProcessView, Role, Snapshot

KINDS = ("lowest", "owner", "backup", "random")
"""How a target can be meant that is not named."""

TARGET = "Which member: lowest (address), owner (of the queue), backup (not the owner), random, or a name."


@dataclass(frozen=True, slots=True)
class MemberFault(Fault):
    """A fault of one member or more: `victims` of them at the same moment, the first one as `target` says.

    The others are the lowest addresses of the rest. It can also be done quietly, with the consumers off.
    """

    target: str = option("owner", TARGET, flag="-t")

    @property
    def victims(self) -> int:
        """How many members are hit at the same moment."""
        return 1

    def check(self, members: Sequence[Address]) -> None:
        """See `Fault.check`."""
        if len(members) <= self.victims:
            raise UsageError(f"{len(members)} members cannot lose {self.victims} with one to survive")
        if self.target not in KINDS and not any(self.target in _names(member) for member in members):
            known = ", ".join([*KINDS, *(_names(member)[0] for member in members)])
            raise UsageError(f"--target {self.target} is no member that is up; there are {known}")

    def choose(self, view: Snapshot, random: Random) -> list[Hit]:
        """Return what it will hit; raises `UsageError` if that cannot be."""
        up = alive(view, Role.HAZELCAST)
        self.check([Address.parse(process.address) for process in up])
        first = self._first(view, up, random)
        others = [process for process in up if process is not first]
        return [hit_of(view, process) for process in [first, *others][: self.victims]]

    def _first(self, view: Snapshot, up: Sequence[ProcessView], random: Random) -> ProcessView:
        if self.target == "random":
            return random.choice(up)
        if self.target == "lowest":
            return up[0]
        if self.target in KINDS:
            owner = self._owner(view, up)
            return owner if self.target == "owner" else next(process for process in up if process is not owner)
        return next(process for process in up if self.target in _names(Address.parse(process.address)))

    def _owner(self, view: Snapshot, up: Sequence[ProcessView]) -> ProcessView:
        for process in up:
            if view.queue and view.queue.owner == process.name:
                return process
        raise UsageError("nobody knows now who owns the queue; see `microq queue`")

    async def strike(self, arena: Arena) -> None:
        """See `Fault.strike`."""
        hits = self.choose(await arena.operator.snapshot(), arena.random)
        self.tell(arena, hits)
        await self.hit(arena, hits)

    def tell(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """Say what is about to be hit, and whether it matters to the queue."""
        for hit in hits:
            role = "It owns the queue." if hit.owner else "It does not own the queue."
            arena.say(f"Hitting {hit.target} (pid {hit.pid}, {hit.address}) with {self.name}. {role}")

    @abstractmethod
    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """Do it to these members; return when its effect is seen."""


class _Kill(MemberFault):
    __slots__ = ()

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """See `MemberFault.hit`."""
        async with arena.hitting(hits, "killed", gone) as names:
            await arena.operator.kill(names)


@dataclass(frozen=True, slots=True)
class KillMember(_Kill):
    r"""Kill a member with SIGKILL; consumers off unless --live.

    Uses the system that runs here, and restores it; starts one for the run if there is none.

    \b
    microq chaos kill-member                    the server with the lowest address
    microq chaos kill-member --target owner     the one that holds the queue
    microq chaos kill-member --members 2        two of three at the same moment
    microq chaos kill-member --live             under traffic, the consumers on
    """

    name: ClassVar[str] = "kill-member"

    target: str = option("lowest", TARGET, flag="-t")
    members: int = option(1, "How many members at once.", 1, 2)

    @property
    def victims(self) -> int:
        """See `MemberFault.victims`."""
        return self.members


@dataclass(frozen=True, slots=True)
class KillTwoMembers(_Kill):
    """Kill two of three members with SIGKILL at the same moment, the primary owner among them."""

    name: ClassVar[str] = "kill-two-members"

    @property
    def victims(self) -> int:
        """See `MemberFault.victims`."""
        return 2


@dataclass(frozen=True, slots=True)
class StopMember(MemberFault):
    """Stop a member with SIGTERM: it says goodbye to the others."""

    name: ClassVar[str] = "stop-member"

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """See `MemberFault.hit`."""
        async with arena.hitting(hits, "stopped", gone) as names:
            await arena.operator.stop(names)


@dataclass(frozen=True, slots=True)
class PauseMember(MemberFault):
    """Freeze a member past the heartbeat limit, so that the others drop it, then let it come back as a zombie."""

    name: ClassVar[str] = "pause-member"

    seconds: float = option(5.0, "For how long at least.", 0.1, 120)

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """See `MemberFault.hit`: it stays frozen until the others have dropped it."""
        end = asyncio.get_running_loop().time() + self.seconds
        async with arena.hitting(hits, "frozen, and dropped by the others", dropped) as names:
            await arena.operator.pause(names)
            await arena.until(lambda view: all(dropped(view, hit) for hit in hits), f"{names[0]} dropped by the others")
        await asyncio.sleep(max(0.0, end - asyncio.get_running_loop().time()))
        await arena.operator.resume(names)
        arena.step(f"{' and '.join(names)} runs again")


@dataclass(frozen=True, slots=True)
class BounceOwner(Fault):
    """Kill the primary owner of the moment and restart it, again and again: the ownership is chased."""

    name: ClassVar[str] = "bounce-owner"

    times: int = option(5, "How many times.", 1, 100)

    def check(self, members: Sequence[Address]) -> None:
        """See `Fault.check`."""
        StopMember().check(members)

    async def strike(self, arena: Arena) -> None:
        """See `Fault.strike`."""
        for _ in range(self.times):
            if not await arena.until(_owned, "an owner of the queue that is up"):
                return
            await KillMember("owner").strike(arena)
            await arena.revive()
            await arena.flow.passes(arena.random.randint(1, 50))


def _owned(view: Snapshot) -> bool:
    """Return whether a member that is up is known to own the queue."""
    return view.queue is not None and view.queue.owner in {process.name for process in alive(view, Role.HAZELCAST)}


def _names(member: Address) -> tuple[str, str, str]:
    """Return what people may call a member: its name, its address, its port."""
    return f"{Role.HAZELCAST}-{member.port}", str(member), str(member.port)
