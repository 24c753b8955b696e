"""Where a topic lies: its partitions, who leads them, whose copies are in sync, how much waits in each."""

from __future__ import annotations

from dataclasses import dataclass

from microq.values import Address


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: its leader, if it has one, and its replicas, of which some are in sync."""

    number: int
    leader: Address | None
    in_sync: tuple[Address, ...]
    replicas: int

    @property
    def whole(self) -> bool:
        """Whether it is led, and every copy is in sync."""
        return self.leader is not None and len(self.in_sync) == self.replicas


@dataclass(frozen=True, slots=True)
class Layout:
    """How one broker sees the cluster: the brokers that are alive, and the partitions of the topic.

    `whole` says whether every copy of the topic, and of the consumers' offsets, is in sync.
    """

    servers: tuple[Address, ...]
    partitions: tuple[Partition, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class Span:
    """What of a partition waits: from the offset that consumers have confirmed to the end; None is unknown."""

    confirmed: int
    end: int | None

    @property
    def waiting(self) -> int | None:
        """How many messages wait."""
        return None if self.end is None else max(0, self.end - self.confirmed)
