"""Faults of the servers of the queue: the members of Hazelcast, or the brokers of Kafka."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from microq.chaos.faults.base import Arena, Fault, Hit, alive, dropped, gone, hit_of, option
from microq.config import Address, Config
from microq.errors import UsageError
from microq.fleet import ProcessView, Role, Snapshot

KINDS = ("lowest", "owner", "leader", "backup", "random")
"""How a target can be meant that is not named; a leader is what an owner is called in Kafka."""

OWNERSHIP = ("owner", "leader", "backup")

TARGET = "Which server: lowest (address), owner or leader, backup (not the owner), random, or a name."


@dataclass(frozen=True, slots=True)
class MemberFault(Fault):
    """A fault of one server or more: `victims` of them at the same moment, the first one as `target` says.

    The others are the lowest addresses of the rest. It can also be done quietly, with the consumers off.
    """

    target: str = option("owner", TARGET, flag="-t")

    @property
    def victims(self) -> int:
        """How many servers are hit at the same moment."""
        return 1

    def meant(self, role: Role) -> str:  # noqa: ARG002 - a fault may mean another one of other servers
        """Return which of the servers of a role is the target."""
        return self.target

    def check(self, config: Config, up: Sequence[Address]) -> None:
        """See `Fault.check`."""
        super(MemberFault, self).check(config, up)
        self._check(Role(config.queue.backend), up)

    def _check(self, role: Role, up: Sequence[Address]) -> None:
        target, what = self.meant(role), "broker" if role is Role.KAFKA else "member"
        if len(up) <= self.victims:
            raise UsageError(f"{len(up)} {what}s cannot lose {self.victims} with one to survive")
        if target not in KINDS and not any(target in _names(role, address) for address in up):
            known = ", ".join([*KINDS, *(_names(role, address)[0] for address in up)])
            raise UsageError(f"--target {target} is no {what} that is up; there are {known}")

    def choose(self, view: Snapshot, random: Random) -> list[Hit]:
        """Return what it will hit; raises `UsageError` if that cannot be."""
        up = alive(view, view.queue_role)
        self._check(view.queue_role, [Address.parse(process.address) for process in up])
        first = self._first(view, up, random)
        others = [process for process in up if process is not first]
        return [hit_of(view, process) for process in [first, *others][: self.victims]]

    def _first(self, view: Snapshot, up: Sequence[ProcessView], random: Random) -> ProcessView:
        target = self.meant(view.queue_role)
        if target == "random":
            return random.choice(up)
        if target == "lowest":
            return up[0]
        if target in KINDS:
            owner = self._owner(view, up)
            return next(process for process in up if process is not owner) if target == "backup" else owner
        return next(p for p in up if target in _names(view.queue_role, Address.parse(p.address)))

    def _owner(self, view: Snapshot, up: Sequence[ProcessView]) -> ProcessView:
        for process in up:
            if view.owner == process.name:
                return process
        raise UsageError("nobody knows now who owns the queue; see `microq queue`")

    async def strike(self, arena: Arena) -> None:
        """See `Fault.strike`."""
        view = await arena.look(self.tells)
        hits = self.choose(view, arena.random)
        self.tell(arena, view, hits)
        await self.hit(arena, hits)

    def tells(self, view: Snapshot) -> bool:
        """Return whether a snapshot has what a choice needs: of some targets, who owns the queue."""
        return self.meant(view.queue_role) not in OWNERSHIP or _owned(view)

    def tell(self, arena: Arena, view: Snapshot, hits: Sequence[Hit]) -> None:
        """Say what is about to be hit, and whether it matters to the queue."""
        for hit in hits:
            what = f"Hitting {hit.target} (pid {hit.pid}, {hit.address}) with {self.name}."
            arena.say(f"{what} {_matter(view, hit)}")

    @abstractmethod
    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """Do it to these members; return when its effect is seen."""


def _matter(view: Snapshot, hit: Hit) -> str:
    """Return what a target is to the queue."""
    if view.queue_role is Role.KAFKA:
        led = [f"{p.number} (messages: {p.waiting})" for p in view.partitions if p.leader == hit.target]
        if not led:
            return "It leads no partition."
        return f"It leads partition{'s' if len(led) > 1 else ''} {' and '.join(led)} of {len(view.partitions)}."
    return "It owns the queue." if hit.owner else "It does not own the queue."


class _Kill(MemberFault):
    __slots__ = ()

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """See `MemberFault.hit`."""
        async with arena.hitting(hits, "killed", gone) as names:
            await arena.operator.kill(names)


@dataclass(frozen=True, slots=True)
class KillMember(_Kill):
    r"""Kill a server of the queue with SIGKILL; consumers off unless --live.

    Uses the system that runs here, and restores it; starts one for the run if there is none.

    \b
    microq chaos kill-member                    the lowest address; of Kafka's brokers a leader
    microq chaos kill-member --queue kafka      the same, with the queue in Kafka
    microq chaos kill-member --target owner     the one that holds the queue
    microq chaos kill-member --members 2        two of three at the same moment
    microq chaos kill-member --live             under traffic, the consumers on
    """

    name: ClassVar[str] = "kill-member"

    target: str = option("", f"{TARGET} Without it: lowest, or of Kafka's brokers the leader.", flag="-t")
    members: int = option(1, "How many servers at once.", 1, 2)

    @property
    def victims(self) -> int:
        """See `MemberFault.victims`."""
        return self.members

    def check(self, config: Config, up: Sequence[Address]) -> None:
        """See `Fault.check`: what is sent and received needs most of the brokers, and of the members one."""
        super(KillMember, self).check(config, up)
        if config.queue.backend == Role.KAFKA.value and self.members * 2 >= len(up):
            raise UsageError(
                f"without {self.members} of {len(up)} brokers nothing can be sent or received; "
                f"`microq chaos {KillTwoMembers.name}` shows that messages are refused then, and none is lost"
            )

    def meant(self, role: Role) -> str:
        """See `MemberFault.meant`: what the task asks for, unless told."""
        return self.target or ("leader" if role is Role.KAFKA else "lowest")


@dataclass(frozen=True, slots=True)
class KillLeader(_Kill):
    r"""Kill the broker that leads a partition with SIGKILL; consumers off unless --live.

    Of several leaders it is the one with the most messages. Uses the system that runs here, and restores it.

    \b
    microq chaos kill-leader              send 100, kill, start the consumers, account
    microq chaos kill-leader --live       under traffic, the consumers on
    """

    name: ClassVar[str] = "kill-leader"
    settings: ClassVar[tuple[str, ...]] = (f"queue.backend={Role.KAFKA}",)
    backends: ClassVar[tuple[str, ...]] = (Role.KAFKA.value,)


@dataclass(frozen=True, slots=True)
class KillTwoMembers(_Kill):
    """Kill two of three servers with SIGKILL at the same moment, the primary owner among them.

    Hazelcast's queue goes on with the last copy. Kafka's must refuse what two brokers cannot keep.
    """

    name: ClassVar[str] = "kill-two-members"

    @property
    def victims(self) -> int:
        """See `MemberFault.victims`."""
        return 2

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """See `MemberFault.hit`; without a majority of the brokers a refusal is awaited."""
        await super(KillTwoMembers, self).hit(arena, hits)
        if arena.config.queue.backend == Role.KAFKA.value:
            await arena.refused(f"messages are refused while {' and '.join(hit.target for hit in hits)} are gone")


@dataclass(frozen=True, slots=True)
class StopMember(MemberFault):
    """Stop a server with SIGTERM: it says goodbye to the others."""

    name: ClassVar[str] = "stop-member"

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """See `MemberFault.hit`."""
        async with arena.hitting(hits, "stopped", gone) as names:
            await arena.operator.stop(names)


@dataclass(frozen=True, slots=True)
class PauseMember(MemberFault):
    """Freeze a server past the heartbeat limit, so that the others drop it, then let it come back as a zombie."""

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
    """Kill the owner, or leader, of the moment and restart it, again and again: the ownership is chased."""

    name: ClassVar[str] = "bounce-owner"

    times: int = option(5, "How many times.", 1, 100)

    def check(self, config: Config, up: Sequence[Address]) -> None:
        """See `Fault.check`."""
        StopMember().check(config, up)

    async def strike(self, arena: Arena) -> None:
        """See `Fault.strike`."""
        for _ in range(self.times):
            if not await arena.until(_owned, "an owner of the queue that is up"):
                return
            await KillMember("owner").strike(arena)
            await arena.revive()
            await arena.flow.passes(arena.random.randint(1, 50))


def _owned(view: Snapshot) -> bool:
    """Return whether a server that is up is known to own the queue."""
    return view.owner in {process.name for process in alive(view, view.queue_role)}


def _names(role: Role, server: Address) -> tuple[str, str, str]:
    """Return what people may call a server: its name, its address, its port."""
    return f"{role}-{server.port}", str(server), str(server.port)
