"""Where a topic lies: its partitions, who leads them, whose copies are in sync, how much waits in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from microq.config import Config
from microq.values import Address


def replicas_of(config: Config, brokers: int) -> int:
    """Return how many copies a partition has on so many brokers."""
    return min(brokers, config.queue.backup_count + 1)


def least_in_sync(replicas: int) -> int:
    """Return how many of its copies must have a message before it is acknowledged: all of them but one."""
    return max(1, replicas - 1)


def largest_record(config: Config) -> int:
    """Return the bytes that a message may take: JSON needs more than its text where letters must be escaped."""
    return 4 * config.limits.max_body + (64 << 10)


def fullest(held: Iterable[tuple[str, int | None]]) -> str | None:
    """Return which leader has the most messages in all its partitions; what is unknown counts for nothing."""
    sums: Counter[str] = Counter()
    for leader, waiting in held:
        sums[leader] += waiting or 0
    return next((leader for leader, _ in sums.most_common(1)), None)


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
