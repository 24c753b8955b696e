"""The layout of a topic: its partitions, their leaders, in-sync replicas and waiting messages."""

from __future__ import annotations

from dataclasses import dataclass

from microq.config import Config
from microq.settings import Address


def replicas_of(config: Config, brokers: int) -> int:
    """Return the number of replicas of a partition, on this number of brokers."""
    return min(brokers, config.queue.backup_count + 1)


def least_in_sync(replicas: int) -> int:
    """Return how many replicas must have a message before it is acknowledged: all but one."""
    return max(1, replicas - 1)


def largest_record(config: Config) -> int:
    """Return the largest size of a message in bytes: JSON is longer than the text if letters must be escaped."""
    return 4 * config.limits.max_body + (64 << 10)


def segment_bytes(config: Config) -> int:
    """Return the size at which a partition begins a new segment file: only whole segments can be deleted."""
    return 2 * largest_record(config)


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: its leader, if it has one, its replicas, and those in sync."""

    number: int
    leader: Address | None
    in_sync: tuple[Address, ...]
    replicas: int

    @property
    def whole(self) -> bool:
        """Whether it has a leader and every replica is in sync."""
        return self.leader is not None and len(self.in_sync) == self.replicas


@dataclass(frozen=True, slots=True)
class Layout:
    """How one broker sees the cluster: the live brokers, and the partitions of the topic.

    `whole`: every replica of the topic and of the consumers' offsets is in sync.
    """

    servers: tuple[Address, ...]
    partitions: tuple[Partition, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class Span:
    """The waiting part of a partition: from the offset that consumers have confirmed to the end; None: unknown."""

    confirmed: int
    end: int | None

    @property
    def waiting(self) -> int | None:
        """The number of waiting messages."""
        return None if self.end is None else max(0, self.end - self.confirmed)
