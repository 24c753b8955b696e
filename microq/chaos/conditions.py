"""What a fault can do to the links, on which connections, and how often it was done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

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


@dataclass(slots=True)
class Lane:
    """One direction of a link, shared by its connections: the bytes it took, and when it is free for more."""

    taken: int = 0
    free_at: float = 0.0


class Condition:
    """A condition of the links. This one changes nothing; a subclass overrides what it does.

    The links are in another process, so a condition must be picklable.
    """

    __slots__ = ()

    def holds(self, ends: Ends) -> bool:  # noqa: ARG002 - a subclass looks at it
        """Return whether a connection stays open and passes nothing. What is sent meanwhile arrives afterwards."""
        return False

    def resets(self, ends: Ends) -> bool:  # noqa: ARG002 - a subclass looks at it
        """Return whether a connection is reset: an open one at once, a new one as soon as it is opened."""
        return False

    def due(self, lane: Lane, size: int, now: float) -> float | None:  # noqa: ARG002 - a subclass looks at it
        """Return the time when `size` bytes that come in now have passed; None: at once."""
        return None

    def loses(self, reply: Reply, ends: Ends) -> bool:  # noqa: ARG002 - a subclass looks at it
        """Return whether a reply is lost: instead of it the connection is closed, with all its unfinished requests."""
        return False
