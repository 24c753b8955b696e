"""Faults of the links between the processes; the system must have been started with them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import mean
from typing import ClassVar

from microq.chaos.conditions import around, clients
from microq.chaos.faults.base import Arena, Fault, Hit, option
from microq.chaos.faults.members import MemberFault
from microq.chaos.wire import Reply
from microq.fleet import Role, Snapshot

RECOVERY = 50
"""Messages that pass after one kind of reply was lost, before the next kind is."""


PINGS = 3
"""Pings of which the mean is taken: single ones vary with the delay."""

LOSING = 2.0
"""How many times as long as for another effect is waited for one kind of replies to be lost."""


@dataclass(frozen=True, slots=True)
class CutClient(Fault):
    """Cut every service off from the queue and the maps, with requests under way, and let them find back."""

    name: ClassVar[str] = "cut-client"
    needs_links: ClassVar[bool] = True

    seconds: float = option(5.0, "For how long.", 0.1, 120)

    async def strike(self, arena: Arena) -> None:
        """See `Fault.strike`: connections were reset."""
        cut = 0
        async with arena.hitting([Hit("services to clusters")], "cut", lambda _view, _hit: cut > 0):
            cut = arena.links.cut(clients)
        await asyncio.sleep(self.seconds)

    async def heal(self, arena: Arena) -> None:
        """See `Fault.heal`: messages pass again."""
        arena.links.heal()
        arena.step("the links are healed")
        await arena.flow.passes(1)


@dataclass(frozen=True, slots=True)
class SplitCluster(MemberFault):
    """Cut a member off from the others, silently and both ways, and let the two halves find each other again."""

    name: ClassVar[str] = "split-cluster"
    needs_links: ClassVar[bool] = True
    # Brokers talk to each other past the links.
    backends: ClassVar[tuple[str, ...]] = (Role.HAZELCAST.value,)

    seconds: float = option(5.0, "For how long after both halves have noticed.", 0, 120)

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """See `MemberFault.hit`: each half sees only itself."""
        split = lambda view, hit: _split(view, hit.target)  # noqa: E731 - a proof
        async with arena.hitting(hits, "cut off from the others", split) as names:
            arena.links.cut(around(names[0]), silent=True)
            await arena.until(lambda view: _split(view, names[0]), "two halves of the cluster")
        await asyncio.sleep(self.seconds)

    async def heal(self, arena: Arena) -> None:
        """See `Fault.heal`: the members are one cluster again."""
        arena.links.heal()
        arena.step("the links are healed")
        await arena.until_safe()


def _split(view: Snapshot, lonely: str) -> bool:
    """Return whether a member sees only itself, and the others no longer all.

    They may fall apart as well: whoever follows a master that is cut off is busy for 5 s with that, sends no heartbeat
    meanwhile, and is taken for dead by the rest if the timeout is shorter (seen with 5.7.0, in half of the splits of a
    slow machine).
    """
    seen = {figures.name: figures.members_seen for figures in view.members}
    return seen.get(lonely) == 1 < len(seen) and all(count < len(seen) for count in seen.values())


@dataclass(frozen=True, slots=True)
class SlowNetwork(Fault):
    """Slow every link down: a delay that varies, and few bytes a second."""

    name: ClassVar[str] = "slow-network"
    needs_links: ClassVar[bool] = True

    delay: float = option(100.0, "Milliseconds, each way.", 1, 5000)
    jitter: float = option(50.0, "Milliseconds more or less than that.", 0, 5000)
    rate: int = option(500, "KiB per second, each way.", 1, 1_000_000)
    passing: int = option(100, "How many messages pass meanwhile.", 1, 100_000)

    async def strike(self, arena: Arena) -> None:
        """See `Fault.strike`: pings, which are delayed on both ways, take longer by one of them at least."""
        before, ping = await arena.flow.ping(), 0.0
        longer = before + self.delay / 1000
        async with arena.hitting([Hit("every link")], "slow", lambda _view, _hit: ping >= longer):
            rng = Random(arena.random.random())
            arena.links.slow(self.delay / 1000, self.jitter / 1000, self.rate * 1024, rng)
            ping = mean([await arena.flow.ping() for _ in range(PINGS)])
        arena.say(f"  A request to the facade and its answer take {ping:.2f} s, before it was {before:.2f} s.")
        await arena.flow.passes(self.passing)

    async def heal(self, arena: Arena) -> None:
        """See `Fault.heal`."""
        arena.links.hurry()


@dataclass(frozen=True, slots=True)
class LoseReplies(Fault):
    """Cut connections when a request was carried out, before its reply: enqueue, dequeue, store, HTTP in turn."""

    name: ClassVar[str] = "lose-replies"
    needs_links: ClassVar[bool] = True

    every: int = option(20, "One reply in so many.", 1, 100_000)
    losses: int = option(10, "How many replies of each kind, at least.", 1, 10_000)

    async def strike(self, arena: Arena) -> None:
        """See `Fault.strike`: the links count the replies that they lost."""
        for reply in Reply:
            await self._lose(arena, reply)
            await arena.flow.passes(RECOVERY)

    async def _lose(self, arena: Arena, reply: Reply) -> None:
        lost = arena.links.counts.lost
        async with arena.hitting([Hit(f"{reply} replies")], "lost", lambda _view, _hit: lost[reply] >= self.losses):
            # By chance: where two kinds alternate, as fetching and confirming do, one in so many is always the same.
            arena.links.lose_replies(reply, self.every, Random(arena.random.random()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOSING * arena.patience.effect):
                    # In steps, because traffic that ends lets no more of them be lost.
                    while lost[reply] < self.losses and await arena.flow.passes(self.every):
                        pass
            arena.links.keep_replies()
        arena.say(f"  {lost[reply]} {reply} replies were lost.")

    async def heal(self, arena: Arena) -> None:
        """See `Fault.heal`."""
        arena.links.keep_replies()
