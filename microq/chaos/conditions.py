"""What is switched on along the links, on which connections, and what it did."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from microq.chaos.wire import Kind, Reply


@dataclass(frozen=True, slots=True)
class Ends:
    """A connection: what is spoken, the process it leads to, and if a member opened it, that member's name."""

    kind: Kind
    target: str
    opener: str = ""


Selection = Callable[[Ends], bool]
"""Says of a connection whether something is done to it."""


def everywhere(_ends: Ends) -> bool:
    """Select every connection."""
    return True


def clients(ends: Ends) -> bool:
    """Select the connections of the services to the members and brokers."""
    return ends.kind in {Kind.CLIENT, Kind.KAFKA}


def around(member: str) -> Selection:
    """Select the connections between one member and the others, whoever opened them."""
    return lambda ends: ends.kind is Kind.MEMBER and member in (ends.opener, ends.target)


def to(*names: str) -> Selection:
    """Select the connections that lead to some processes."""
    return lambda ends: ends.target in names


@dataclass(slots=True)
class Counts:
    """What was done since the links are open."""

    cut: int = 0
    """Connections that were open, and were reset."""
    refused: int = 0
    """Connections that were reset as soon as they were opened."""
    held: int = 0
    """Connections over which nothing passed any more, although they stayed open."""
    delayed: int = 0
    """Bytes that were kept for a while."""
    lost: Counter[Reply] = field(default_factory=Counter)
    """Replies that were lost, each with its connection."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Which connections are cut, and whether they stay open and are silent, or are reset."""

    where: Selection
    silent: bool


@dataclass(frozen=True, slots=True)
class Slowness:
    """How slow every link is, each way: seconds, more or less than them, and bytes per second."""

    delay: float
    jitter: float
    rate: float
    rng: Random


@dataclass(slots=True)
class Loss:
    """Which replies are lost: one in `every`, by chance if there is an `rng`."""

    reply: Reply
    every: int
    rng: Random | None
    where: Selection
    seen: int = 0

    def hits(self, reply: Reply, ends: Ends) -> bool:
        """Return whether this reply is lost."""
        if reply is not self.reply or not self.where(ends):
            return False
        self.seen += 1
        return self.rng.randrange(self.every) == 0 if self.rng else self.seen % self.every == 0


@dataclass(slots=True)
class Conditions:
    """All of it, shared by the links of a system."""

    counts: Counts = field(default_factory=Counts)
    cut: Cut | None = None
    slowness: Slowness | None = None
    loss: Loss | None = None
    healed: asyncio.Event = field(default_factory=asyncio.Event)

    def loses(self, reply: Reply, ends: Ends) -> bool:
        """Return whether this reply is lost, and count it."""
        if self.loss is None or not self.loss.hits(reply, ends):
            return False
        self.counts.lost[reply] += 1
        return True


@dataclass(slots=True)
class Lane:
    """One direction of a link, shared by its connections: how many bytes it took, and when it is free for more."""

    taken: int = 0
    free_at: float = 0.0

    def due(self, slowness: Slowness | None, size: int, now: float) -> float:
        """Return when bytes that come in now are through."""
        if slowness is None:
            return now
        self.free_at = max(self.free_at, now) + size / slowness.rate
        return self.free_at + max(0.0, slowness.delay + slowness.rng.uniform(-slowness.jitter, slowness.jitter))
