"""Faults of the links between processes, and the conditions that they impose on them.

The system must have been started with links.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import mean
from typing import ClassVar

from microq.backends.base import Reply, Trait
from microq.chaos.conditions import CLIENTS, EVERYWHERE, Condition, Counts, Ends, Lane, Selection, around
from microq.chaos.faults.base import LINKS, SERVERS, Arena, Fault, Hit, option
from microq.chaos.faults.servers import ServerFault
from microq.fleet import Snapshot

RECOVERY = 50
"""Messages that pass between the loss of one kind of reply and of the next kind."""


PINGS = 3
"""Pings whose mean is taken, because the delay varies."""

LOSING = 2.0
"""Factor of the time limit for the losses of one kind of reply."""


@dataclass(frozen=True, slots=True)
class Cut(Condition):
    """Connections are reset."""

    where: Selection

    def resets(self, ends: Ends) -> bool:
        """Return whether it is one of them."""
        return ends in self.where


@dataclass(frozen=True, slots=True)
class CutClient(Fault):
    """Cut every service off from the queue and the maps, with requests in flight, and let them reconnect."""

    name: ClassVar[str] = "cut-client"
    breaks: ClassVar[frozenset[str]] = frozenset({LINKS})
    needs_links: ClassVar[bool] = True

    seconds: float = option(5.0, "The duration, in seconds.", 0.1, 120)

    async def strike(self, arena: Arena) -> None:
        """Cut the services off; connections that were reset prove it."""
        cut = 0
        async with arena.hitting([Hit("services to clusters")], "cut", lambda _view, _hit: cut > 0):
            cut = await arena.links.impose(Cut(CLIENTS))
        await asyncio.sleep(self.seconds)

    async def heal(self, arena: Arena) -> None:
        """Heal the links, and wait until a message passes."""
        await arena.links.lift()
        arena.step("the links are healed")
        await arena.flow.passes(1)


@dataclass(frozen=True, slots=True)
class Silence(Condition):
    """Connections stay open and pass nothing, as in a split network."""

    where: Selection

    def holds(self, ends: Ends) -> bool:
        """Return whether it is one of them."""
        return ends in self.where


@dataclass(frozen=True, slots=True)
class SplitCluster(ServerFault):
    """Cut a member off from the others, silently and in both directions, and let the two halves merge again."""

    name: ClassVar[str] = "split-cluster"
    breaks: ClassVar[frozenset[str]] = frozenset({LINKS, SERVERS})
    reorders: ClassVar[bool] = True
    needs_links: ClassVar[bool] = True
    needs: ClassVar[frozenset[Trait]] = frozenset({Trait.LINKED_PEERS})

    seconds: float = option(5.0, "The duration after both halves have noticed, in seconds.", 0, 120)

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """Cut the member off; the proof is that each half sees only itself."""
        split = lambda view, hit: _split(view, hit.target)  # noqa: E731 - a proof
        async with arena.hitting(hits, "cut off from the others", split) as names:
            await arena.links.impose(Silence(around(names[0])))
            await arena.until(lambda view: _split(view, names[0]), "two halves of the cluster")
        await asyncio.sleep(self.seconds)

    async def heal(self, arena: Arena) -> None:
        """Heal the links, and wait until the members are one cluster again."""
        await arena.links.lift()
        arena.step("the links are healed")
        await arena.until_settled()


def _split(view: Snapshot, lonely: str) -> bool:
    """Return whether a member sees only itself, and the others no longer see it.

    The others may lose each other too: a short timeout on a slow machine is enough for that.
    """
    seen = {figures.name: figures.members_seen for figures in view.members}
    return seen.get(lonely) == 1 < len(seen) and all(count < len(seen) for count in seen.values())


@dataclass(slots=True)
class Slowness(Condition):
    """Every link has a delay and a jitter in seconds, and a number of bytes a second, each way."""

    delay: float
    jitter: float
    rate: float
    seed: float | None = None
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        """Choose the jitter by the seed."""
        self.random = Random(self.seed)

    def due(self, lane: Lane, size: int, now: float) -> float:
        """Return when the bytes have passed: after all that came in before them."""
        lane.free_at = max(lane.free_at, now) + size / self.rate
        return lane.free_at + max(0.0, self.delay + self.random.uniform(-self.jitter, self.jitter))


@dataclass(frozen=True, slots=True)
class SlowNetwork(Fault):
    """Slow every link down: a varying delay, and few bytes a second."""

    name: ClassVar[str] = "slow-network"
    breaks: ClassVar[frozenset[str]] = frozenset({LINKS})
    needs_links: ClassVar[bool] = True

    delay: float = option(100.0, "Milliseconds, each way.", 1, 5000)
    jitter: float = option(50.0, "Milliseconds more or less than that.", 0, 5000)
    rate: int = option(500, "KiB per second, each way.", 1, 1_000_000)
    passing: int = option(100, "The number of messages that pass meanwhile.", 1, 100_000)

    async def strike(self, arena: Arena) -> None:
        """Slow the links down; pings that take longer by one delay at least prove it."""
        before, ping = await arena.flow.ping(), 0.0
        longer = before + self.delay / 1000
        async with arena.hitting([Hit("every link")], "slow", lambda _view, _hit: ping >= longer):
            seed = arena.random.random()
            await arena.links.impose(Slowness(self.delay / 1000, self.jitter / 1000, self.rate * 1024, seed))
            ping = mean([await arena.flow.ping() for _ in range(PINGS)])
        arena.say(f"  A request to the facade and its answer take {ping:.2f} s, before it was {before:.2f} s.")
        await arena.flow.passes(self.passing)

    async def heal(self, arena: Arena) -> None:
        """Restore the full speed."""
        await arena.links.lift()


@dataclass(slots=True)
class Loss(Condition):
    """One reply of a kind in `every` is lost: each `every`-th one, or with a `seed` by chance."""

    reply: Reply
    every: int = 1
    seed: float | None = None
    where: Selection = EVERYWHERE
    seen: int = 0
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        """Choose the replies by the seed."""
        self.random = Random(self.seed)

    def loses(self, reply: Reply, ends: Ends) -> bool:
        """Return whether this reply is lost."""
        if reply is not self.reply or ends not in self.where:
            return False
        self.seen += 1
        return self.seen % self.every == 0 if self.seed is None else self.random.randrange(self.every) == 0


@dataclass(frozen=True, slots=True)
class LoseReplies(Fault):
    """Cut connections after a request was carried out and before its reply: enqueue, dequeue, store, HTTP in turn."""

    name: ClassVar[str] = "lose-replies"
    breaks: ClassVar[frozenset[str]] = frozenset({LINKS})
    needs_links: ClassVar[bool] = True

    every: int = option(20, "One reply in so many is lost.", 1, 100_000)
    losses: int = option(10, "The minimum number of lost replies of each kind.", 1, 10_000)

    async def strike(self, arena: Arena) -> None:
        """Lose replies of one kind after another; the number of lost ones, which the links count, proves it."""
        for reply in Reply:
            await self._lose(arena, reply)
            await arena.flow.passes(RECOVERY)

    async def _lose(self, arena: Arena, reply: Reply) -> None:
        before, lost = await self._lost(arena, reply), 0
        async with arena.hitting([Hit(f"{reply} replies")], "lost", lambda _view, _hit: lost >= self.losses):
            # By chance: if two kinds alternate, as fetch and commit do, every n-th reply is always of the same kind.
            await arena.links.impose(Loss(reply, self.every, arena.random.random()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOSING * arena.timeouts.effect):
                    # In steps, because no more replies can be lost once the traffic ends.
                    while lost < self.losses and await arena.flow.passes(self.every):
                        lost = await self._lost(arena, reply) - before
            await arena.links.lift()
            lost = await self._lost(arena, reply) - before
        arena.say(f"  {lost} {reply} replies were lost.")

    @staticmethod
    async def _lost(arena: Arena, reply: Reply) -> int:
        counts: Counts = await arena.links.counts()
        return counts.lost[reply]

    async def heal(self, arena: Arena) -> None:
        """Stop losing replies."""
        await arena.links.lift()
