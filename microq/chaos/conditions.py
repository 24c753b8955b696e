"""The conditions of the links: cuts, slowness and losses, on which connections, and their counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from microq.backends.base import Kind, Reply


@dataclass(frozen=True, slots=True)
class Ends:
    """A connection: its protocol, its target, and if a member opened it, that member's name."""

    kind: Kind
    target: str
    opener: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects connections: those for which every condition that is not empty holds."""

    kinds: tuple[Kind, ...] = ()
    """Its protocol is one of these."""
    targets: tuple[str, ...] = ()
    """Its target is one of these processes."""
    member: str = ""
    """This process is one of its two ends."""

    def __contains__(self, ends: Ends) -> bool:
        return (
            (not self.kinds or ends.kind in self.kinds)
            and (not self.targets or ends.target in self.targets)
            and (not self.member or self.member in (ends.opener, ends.target))
        )


EVERYWHERE = Selection()

CLIENTS = Selection(kinds=(Kind.CLIENT,))
"""The connections of the services to the servers."""


def around(member: str) -> Selection:
    """Select the connections between one member and the others, in both directions."""
    return Selection(kinds=(Kind.PEER,), member=member)


def to(*names: str) -> Selection:
    """Select the connections that lead to some processes."""
    return Selection(targets=names)


@dataclass(slots=True)
class Counts:
    """The effects of the conditions since the links were opened."""

    cut: int = 0
    """Open connections that were reset."""
    refused: int = 0
    """Connections that were reset as soon as they were opened."""
    held: int = 0
    """Connections that stayed open and passed nothing."""
    delayed: int = 0
    """Bytes that were delayed."""
    lost: Counter[Reply] = field(default_factory=Counter)
    """Lost replies by kind; each loss also closed a connection."""
    stalled: float = 0.0
    """The longest time in seconds for which the proxy did not run because it got no processor."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Which connections are cut: they stay open and are silent, or they are reset."""

    where: Selection
    silent: bool


@dataclass(frozen=True, slots=True)
class Slowness:
    """The slowness of every link in each direction: delay and jitter in seconds, and bytes per second."""

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
        if reply is not self.reply or ends not in self.where:
            return False
        self.seen += 1
        return self.rng.randrange(self.every) == 0 if self.rng else self.seen % self.every == 0


@dataclass(slots=True)
class Conditions:
    """All current conditions, shared by the links of a system."""

    counts: Counts = field(default_factory=Counts)
    cut: Cut | None = None
    slowness: Slowness | None = None
    loss: Loss | None = None
    healed: asyncio.Event = field(default_factory=asyncio.Event)

    def cuts(self, ends: Ends) -> Cut | None:
        """Return the cut that a connection is subject to."""
        return self.cut if self.cut and ends in self.cut.where else None

    def loses(self, reply: Reply, ends: Ends) -> bool:
        """Return whether this reply is lost, and count it."""
        if self.loss is None or not self.loss.hits(reply, ends):
            return False
        self.counts.lost[reply] += 1
        return True


@dataclass(slots=True)
class Lane:
    """One direction of a link, shared by its connections: the bytes it took, and when it is free for more."""

    taken: int = 0
    free_at: float = 0.0

    def due(self, slowness: Slowness | None, size: int, now: float) -> float:
        """Return when bytes that come in now have passed."""
        if slowness is None:
            return now
        self.free_at = max(self.free_at, now) + size / slowness.rate
        return self.free_at + max(0.0, slowness.delay + slowness.rng.uniform(-slowness.jitter, slowness.jitter))
