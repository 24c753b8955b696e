"""Figures that the servers and the queue report about themselves: items, copies, leaders, memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figures:
    """What one server reports: its items of the queue, and how it sees the cluster.

    It owns `items` of the queue and holds `backups` of other servers' items; None: unknown. It sees `members_seen`
    servers, itself included. `cluster_safe`: the servers have joined, and no copy is still being made; there may be
    too few servers for all configured copies.
    """

    name: str
    taken_at: float
    items: int | None
    backups: int | None
    cluster_safe: bool
    members_seen: int
    copies: int | None = field(default=None, kw_only=True)
    """Backups counted on the servers, of the structure with the fewest; None if it is empty or was moving."""
    backup_count: int | None = field(default=None, kw_only=True)
    """Backups that the server says are configured, of the structure with the fewest; None: unknown."""
    differs: tuple[str, ...] = field(default=(), kw_only=True)
    """How it differs from the configuration, a phrase each."""


@dataclass(frozen=True, slots=True)
class BrokerFigures(Figures):
    """What one server of a queue reports that is not in the members.

    If the queue has partitions, the server leads some, and is an in-sync follower of others.
    """

    leads: tuple[int, ...] = ()
    follows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition of the topic: the names of its leader and in-sync replicas, and how many messages wait in it.

    None: unknown, because it has no leader or the leader did not answer.
    """

    number: int
    leader: str | None
    in_sync: tuple[str, ...]
    replicas: int
    waiting: int | None
    consumer: str | None = None
    """The messages-service that consumes it, if known; the waiting messages are its lag."""


@dataclass(frozen=True, slots=True)
class MemberFigures(Figures):
    """What one Hazelcast member reports; ages are in seconds, memory is in bytes.

    The garbage collector ran `gc_count` times, `gc_seconds` in total. `clients` counts the services' connections to it;
    the facade and each messages-service have one for the queue and one for the maps. `oldest` is how long the next item
    of the queue has waited; only the owner reports it.
    """

    oldest: float | None
    offers: int
    polls: int
    rejected: int
    empty_polls: int
    log_entries: int
    log_backups: int
    partitions: int
    heap_used: int
    heap_max: int
    gc_count: int = 0
    gc_seconds: float = 0.0
    clients: int = 0


@dataclass(frozen=True, slots=True)
class QueueView:
    """The queue as the facade's client sees it; `owner` is the name of the primary owner, if known.

    With several partitions it is the leader of the one with the most messages. `oldest_at` is when the next message was
    put into the queue, in seconds since the epoch; None if no message waits, or if it is unknown.

    `pending` counts the messages that the facade waits for until they are stored, `redelivered` those that were put
    into the queue again, `dead` the dead letters; None: unknown.
    """

    backend: str
    name: str
    size: int | None
    max_size: int
    backup_count: int
    owner: str | None
    pending: int | None = None
    redelivered: int | None = None
    dead: int | None = None
    oldest_at: float | None = None
    hidden: Mapping[str, int] = field(default_factory=dict)
    """Silent messages-service -> how many messages it stored that no other one shows, as far as is known."""
    take_over_after: int = 0
    """Seconds of silence after which the others take its messages over; 0: never."""


def fullest(held: Iterable[tuple[str, int | None]]) -> str | None:
    """Return the leader with the most messages in its partitions; an unknown number counts as 0."""
    sums: Counter[str] = Counter()
    for leader, waiting in held:
        sums[leader] += waiting or 0
    return next((leader for leader, _ in sums.most_common(1)), None)
