"""What the servers of the queue, and the queue itself, say of themselves: items, copies, leaders, memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """What one server of a cluster says: the queue's items on it, and how it sees the cluster.

    It owns `items` of the queue and holds `backups` of others' items; it sees `members_seen` servers, itself included.
    """

    name: str
    taken_at: float
    items: int
    backups: int
    cluster_safe: bool
    members_seen: int


@dataclass(frozen=True, slots=True)
class BrokerFigures(Figures):
    """What one broker says. It leads partitions of the topic, and is an in-sync follower of others."""

    leads: tuple[int, ...]
    follows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition of the topic: its leader and in-sync replicas by name, and how many messages wait in it.

    None is unknown: nobody leads it, or the leader did not answer.
    """

    number: int
    leader: str | None
    in_sync: tuple[str, ...]
    replicas: int
    waiting: int | None
    consumer: str | None = None
    """Which messages-service consumes it, if one does and it is known; what waits is what that one lags behind."""


@dataclass(frozen=True, slots=True)
class MemberFigures(Figures):
    """What one member of Hazelcast says of itself; ages are in seconds, memory is in bytes.

    The garbage collector ran `gc_count` times for `gc_seconds` in all. `clients` counts the connections that the
    services have to it; the facade and the messages-services have one for the queue and one for the maps. `oldest` is
    for how long the next item of the queue has waited, known of its owner only.
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

    Of several partitions the one with the most messages counts. `oldest_at` is when what is next was put into it, in
    seconds since the epoch; None if nothing waits, or if it is not known.

    `pending` counts the messages whose arrival the facade waits for, `redelivered` those that were put into the queue
    again, `dead` the dead letters; None is unknown.
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
