"""Faults of the servers of the queue."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from microq.backends import backend, with_traits
from microq.backends.base import Backend, Trait
from microq.chaos.faults.base import Arena, Fault, Hit, alive, dropped, gone, hit_of, option, paused
from microq.chaos.recovery import LOOK, until
from microq.config import Address, Config
from microq.errors import UsageError
from microq.fleet import SERVER_WORDS, ProcessView, Role, Snapshot, called, name_of

KINDS = (*SERVER_WORDS, "backup", "random")
"""The words that select a target without a name."""

OWNERSHIP = ("owner", "leader", "backup")

TARGET = "Which server: lowest (address), owner or leader, backup (not the owner), random, or a name."


@dataclass(frozen=True, slots=True)
class ServerFault(Fault):
    """A fault of servers: `target` selects the first one; lowest addresses of the rest follow, `victims` in all.

    They are hit at the same moment. It can also be applied quietly, with the consumers off.
    """

    target: str = option("owner", TARGET, flag="-t")

    @property
    def victims(self) -> int:
        """The number of servers that are hit at the same moment."""
        return 1

    def target_word(self, of_queue: Backend) -> str:  # noqa: ARG002 - a fault may have another one for another backend
        """Return the word that selects the target."""
        return self.target

    def check(self, config: Config, up: Sequence[Address]) -> None:
        """Raise `UsageError` if too few servers are up, or the target is not one of them."""
        super(ServerFault, self).check(config, up)
        of_queue = backend(config.queue.backend)
        down = [name_of(config, Role.QUEUE, address) for address in config.servers if address not in up]
        if len(up) <= self.victims < len(config.servers):
            raise UsageError(
                f"{len(up)} of {len(config.servers)} {of_queue.words.servers(2)} {_are(len(up))} up, and {self.name} "
                f"needs {self.victims + 1} or more; `microq start {' '.join(down)}`"
            )
        self._check(of_queue, [(name_of(config, Role.QUEUE, address), address) for address in sorted(up)])

    def _check(self, of_queue: Backend, up: Sequence[tuple[str, Address]]) -> None:
        target, what = self.target_word(of_queue), of_queue.words.server
        if len(up) <= self.victims:
            raise UsageError(
                f"{self.name} needs {self.victims + 1} {of_queue.words.servers(2)}, so that one survives; "
                f"{len(up)} {_are(len(up))} up"
            )
        if target not in KINDS and called(target, up) is None:
            known = ", ".join([*KINDS, *(name for name, _ in up)])
            raise UsageError(f"--target {target} is not a {what} that is up; choose one of {known}")

    def choose(self, view: Snapshot, random: Random) -> list[Hit]:
        """Choose the targets; raises `UsageError` if that is not possible."""
        up = alive(view, Role.QUEUE)
        self._check(backend(view.backend), [(process.name, Address.parse(process.address)) for process in up])
        first = self._first(view, up, random)
        others = [process for process in up if process is not first]
        return [hit_of(view, process) for process in [first, *others][: self.victims]]

    def _first(self, view: Snapshot, up: Sequence[ProcessView], random: Random) -> ProcessView:
        target = self.target_word(backend(view.backend))
        if target == "random":
            return random.choice(up)
        if target == "lowest":
            return up[0]
        if target in KINDS:
            owner = self._owner(view, up)
            return next(process for process in up if process is not owner) if target == "backup" else owner
        name = called(target, [(process.name, Address.parse(process.address)) for process in up])
        return next(process for process in up if process.name == name)

    def _owner(self, view: Snapshot, up: Sequence[ProcessView]) -> ProcessView:
        for process in up:
            if view.owner == process.name:
                return process
        raise UsageError("the owner of the queue is unknown now; see `microq queue`")

    async def strike(self, arena: Arena) -> None:
        """Choose the targets, report them, and hit them."""
        view = await arena.look(self.suffices)
        hits = self.choose(view, arena.random)
        self.report(arena, view, hits)
        await self.hit(arena, hits)

    def suffices(self, view: Snapshot) -> bool:
        """Return whether a snapshot has what the choice needs: for some targets, the owner of the queue."""
        return self.target_word(backend(view.backend)) not in OWNERSHIP or _owned(view)

    def report(self, arena: Arena, view: Snapshot, hits: Sequence[Hit]) -> None:
        """Report the targets, and the part that each of them has in the queue."""
        for hit in hits:
            what = f"Hitting {hit.target} (pid {hit.pid}, {hit.address}) with {self.name}."
            arena.say(f"{what} {_role_of(view, hit)}")

    @abstractmethod
    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """Apply the fault to these servers; return when its effect is observed."""


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _role_of(view: Snapshot, hit: Hit) -> str:
    """Return the part that a target has in the queue, in words."""
    if view.partitioned:
        led = [f"{p.number} (messages: {p.waiting})" for p in view.partitions if p.leader == hit.target]
        if not led:
            return "It leads no partition."
        return f"It leads partition{'s' if len(led) > 1 else ''} {' and '.join(led)} of {len(view.partitions)}."
    return "It owns the queue." if hit.owner else "It does not own the queue."


class _Kill(ServerFault):
    __slots__ = ()

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """Kill these servers with SIGKILL."""
        async with arena.hitting(hits, "killed", gone) as names:
            await arena.operator.kill(names)


@dataclass(frozen=True, slots=True)
class KillMember(_Kill):
    r"""Kill a server of the queue with SIGKILL; consumers off unless --live.

    Uses the system that runs here and restores it; starts one for the run if none runs.

    \b
    microq chaos kill-member                    the lowest address; of Kafka's brokers a leader
    microq chaos kill-member --queue kafka      the same, with the queue in Kafka
    microq chaos kill-member --target owner     the one that holds the queue
    microq chaos kill-member --members 2        two of three at the same moment
    microq chaos kill-member --live             under traffic, the consumers on
    """

    name: ClassVar[str] = "kill-member"

    target: str = option("", f"{TARGET} Without it: lowest, or of Kafka's brokers the leader.", flag="-t")
    members: int = option(1, "The number of servers at once.", 1, 2)

    @property
    def victims(self) -> int:
        """The number of servers that are killed at once."""
        return self.members

    def check(self, config: Config, up: Sequence[Address]) -> None:
        """Raise `UsageError` also if fewer servers would be left than sending and receiving need."""
        super(KillMember, self).check(config, up)
        of_queue = backend(config.queue.backend)
        if Trait.QUORUM in of_queue.traits and self.members * 2 >= len(up):
            raise UsageError(
                f"without {self.members} of {len(up)} {of_queue.words.servers(2)} nothing can be sent or received; "
                f"`microq chaos {KillTwoMembers.name}` shows that messages are refused then, and none is lost"
            )

    def target_word(self, of_queue: Backend) -> str:
        """Return the target that was asked for, else that of the task."""
        return self.target or of_queue.default_target


@dataclass(frozen=True, slots=True)
class KillLeader(_Kill):
    r"""Kill the broker that leads a partition with SIGKILL; consumers off unless --live.

    Of several leaders it is the one with the most messages. Uses the system that runs here, and restores it.

    \b
    microq chaos kill-leader              send 100, kill, start the consumers, account
    microq chaos kill-leader --live       under traffic, the consumers on
    """

    name: ClassVar[str] = "kill-leader"
    needs: ClassVar[frozenset[Trait]] = frozenset({Trait.PARTITIONED})
    settings: ClassVar[tuple[str, ...]] = (f"queue.backend={with_traits(needs)[0]}",)


@dataclass(frozen=True, slots=True)
class KillTwoMembers(_Kill):
    """Kill two of three servers with SIGKILL at the same moment, including the primary owner.

    Hazelcast's queue continues with the last copy. Kafka's must refuse messages that too few brokers would have.
    """

    name: ClassVar[str] = "kill-two-members"

    @property
    def victims(self) -> int:
        """Two."""
        return 2

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """Kill both; where a majority must survive, wait until messages are refused."""
        await super(KillTwoMembers, self).hit(arena, hits)
        if Trait.QUORUM in backend(arena.config.queue.backend).traits:
            await arena.refused(f"messages are refused while {' and '.join(hit.target for hit in hits)} are gone")


@dataclass(frozen=True, slots=True)
class StopMember(ServerFault):
    """Stop a server with SIGTERM: it leaves the cluster in order."""

    name: ClassVar[str] = "stop-member"

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """Stop these servers with SIGTERM."""
        async with arena.hitting(hits, "stopped", gone) as names:
            await arena.operator.stop(names)


@dataclass(frozen=True, slots=True)
class PauseMember(ServerFault):
    """Freeze a server past the heartbeat limit, so that the others drop it, then resume it."""

    name: ClassVar[str] = "pause-member"
    reorders: ClassVar[bool] = True

    seconds: float = option(5.0, "The minimum duration, in seconds.", 0.1, 120)

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """Freeze these servers until the others have dropped them, and for `seconds` at least."""
        async with arena.pausing(hits, self.seconds, "frozen, and dropped by the others", dropped) as names:
            await arena.until(lambda view: all(dropped(view, hit) for hit in hits), f"{names[0]} dropped by the others")
        arena.step(f"{' and '.join(names)} runs again")


@dataclass(frozen=True, slots=True)
class BounceOwner(Fault):
    """Kill the current owner or leader and restart it, repeatedly."""

    name: ClassVar[str] = "bounce-owner"

    times: int = option(5, "The number of kills.", 1, 100)

    def check(self, config: Config, up: Sequence[Address]) -> None:
        """Raise `UsageError` if no server could be lost."""
        StopMember().check(config, up)

    async def strike(self, arena: Arena) -> None:
        """Kill the current owner and restart it, repeatedly."""
        for _ in range(self.times):
            if not await arena.until(_owned, "an owner of the queue that is up"):
                return
            await KillMember("owner").strike(arena)
            await arena.revive()
            await arena.flow.passes(arena.random.randint(1, 50))


@dataclass(frozen=True, slots=True)
class Starve(Fault):
    """Freeze one server after another for 1 to 4 s each, as on a busy machine: too short to be dropped."""

    name: ClassVar[str] = "starve"
    reorders: ClassVar[bool] = True

    times: int = option(6, "The number of pauses.", 1, 1000)
    least: float = option(1.0, "Seconds that a pause takes at least.", 0.1, 120)
    seconds: float = option(4.0, "Seconds that a pause takes at most.", 0.1, 120)

    def check(self, config: Config, up: Sequence[Address]) -> None:
        """Raise `UsageError` if no server could be lost."""
        super(Starve, self).check(config, up)
        PauseMember("random").check(config, up)

    async def strike(self, arena: Arena) -> None:
        """Pause one server after another, without waiting for the cluster in between."""
        view = await arena.operator.snapshot()
        servers = [hit_of(view, process) for process in alive(view, Role.QUEUE)]
        for number in range(self.times):
            await self._pause(arena, servers[number % len(servers)])

    async def _pause(self, arena: Arena, hit: Hit) -> None:
        seconds = arena.random.uniform(min(self.least, self.seconds), self.seconds)
        async with arena.pausing([hit], seconds, f"frozen for {seconds:.1f} s", paused):
            pass


@dataclass(frozen=True, slots=True)
class KillWhileRestoring(Fault):
    """Kill the owner, start it again, and kill the next owner while the first one's copies are still being restored."""

    name: ClassVar[str] = "kill-while-restoring"

    tries: int = option(5, "The maximum number of tries until the second kill is in time.", 1, 100)

    def check(self, config: Config, up: Sequence[Address]) -> None:
        """Raise `UsageError` if two servers could not be lost."""
        super(KillWhileRestoring, self).check(config, up)
        KillTwoMembers().check(config, up)

    async def strike(self, arena: Arena) -> None:
        """Kill the second owner when the others see the first one again and copies are still missing."""
        for _ in range(self.tries):
            if not await arena.until(_owned, "an owner of the queue that is up"):
                return
            await KillMember("owner").strike(arena)
            if not await arena.until(_owned, "an owner of the queue that is up") or await self._second(arena):
                return
            await arena.revive()
            arena.say("  Every copy was in place before the second kill; trying again.")
        arena.doubt(f"in {self.tries} tries every copy was in place before the second kill")

    async def _second(self, arena: Arena) -> bool:
        """Kill the owner while the server that was hit last starts again; return whether that was in time."""
        first = arena.hits[-1].target
        starting = asyncio.create_task(arena.operator.start([first]))
        try:
            return await self._strike_again(arena, first, starting)
        finally:
            await asyncio.wait([starting])
            starting.result()

    async def _strike_again(self, arena: Arena, first: str, starting: asyncio.Task[list[str]]) -> bool:
        views: list[Snapshot] = []

        def back(view: Snapshot) -> bool:
            views.append(view)
            return _restoring(view, first) or (starting.done() and view.settled)

        await until(arena.operator, back, arena.timeouts.watch, LOOK)
        if not (views and _restoring(view := views[-1], first) and _owned(view)):
            return False
        owner = next(process for process in alive(view, Role.QUEUE) if process.name == view.owner)
        async with arena.hitting([hit_of(view, owner)], f"killed before {first} had its copies", gone) as names:
            await arena.operator.kill(names)
        return True


def _restoring(view: Snapshot, name: str) -> bool:
    """Return whether the others see a server again, copies are missing, and another server owns the queue."""
    others = [figures for figures in view.servers if figures.name != name]
    up = len(alive(view, Role.QUEUE))
    seen = bool(others) and all(figures.members_seen == up for figures in others)
    return seen and view.owner != name and not all(figures.cluster_safe for figures in others)


def _owned(view: Snapshot) -> bool:
    """Return whether a server that is up is known to own the queue."""
    return view.owner in {process.name for process in alive(view, Role.QUEUE)}
