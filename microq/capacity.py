"""The number of messages that fit into the members' memory, and the settings that allow more.

A member's JVM runs with the serial collector and `NewRatio` 7: seven eighths of its heap are the old generation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from microq.backends import backend
from microq.message import Message
from microq.settings import Hazelcast, Limits, Queue, heap_bytes

BOUND = 0.75
"""The share of a member's old generation that may be live: the rest is for requests in progress, merges and reads."""

OLD_SHARE = 7 / 8

BASE_BYTES = 16 << 20
"""Bytes that a member needs for itself; 12 MiB are live in an empty one (5.7.0)."""

QUEUE_SHARE = 0.75
"""The share of the room for messages that waiting messages may take: they need more room once they are stored."""

ENTRY_BYTES = 180
"""Bytes of a map entry beside its key and value, such as the name of its writer; an item of the queue takes no more.

Measured on 5.7.0: 40,000 messages of 100 characters take 734 bytes each as log entries and items of the queue, of
which 2 * 246 are keys and values.
"""

USUAL = Message("x" * 36, "x" * 100)
"""The message by which numbers of messages are stated."""


def entry_bytes(message: Message) -> int:
    """Return the bytes of a member's heap that a message takes at most as a map entry or as an item of the queue."""
    return ENTRY_BYTES + len(message.id.encode()) + len(message.to_json().encode())


@dataclass(frozen=True, slots=True)
class Capacity:
    """What fits into the members' memory, in bytes of one member's heap."""

    heap: int
    members: int
    backups: int
    parts: int
    """The number of forms in which a message takes memory: log entry, stored entry, item of a queue in the members."""

    @classmethod
    def of(cls, hazelcast: Hazelcast, queue: Queue) -> Capacity:
        """Return the capacity of configured members."""
        parts = 3 if backend(queue.backend).keeps_maps else 2
        return cls(heap_bytes(hazelcast.heap), len(hazelcast.hazelcast_clients), queue.backup_count, parts)

    @property
    def old(self) -> int:
        """The size of the old generation."""
        return round(self.heap * OLD_SHARE)

    @property
    def bound(self) -> float:
        """The share of the old generation that may be live, so that the surviving members can hold everything."""
        left = max(1, self.members - self.backups)
        return BOUND * self._share(self.members) / self._share(left)

    def _share(self, members: int) -> float:
        """Return the share of all data that each of this number of members holds."""
        return min(1.0, (self.backups + 1) / members)

    @property
    def room(self) -> int:
        """The room for messages."""
        return max(0, round(self.bound * self.old) - BASE_BYTES)

    @property
    def queue(self) -> int:
        """The room for waiting messages, their log entries, and their later stored entries."""
        return round(QUEUE_SHARE * self.room)

    def heap_for(self, room: float) -> str:
        """Return the smallest heap that gives these members so much `room`, in the form of `[hazelcast] heap`."""
        return f"{(int((room + BASE_BYTES) / self.bound / OLD_SHARE) >> 20) + 1}m"

    def heap_to_hold(self, messages: int) -> str:
        """Return a heap with which all consumers together can hold this number of usual messages."""
        return self.heap_for(messages * self._share(self.members) * 2 * entry_bytes(USUAL))

    @property
    def held(self) -> int:
        """The number of usual messages that all consumers together can hold: a log entry and a stored entry each."""
        return _about(int(self.room / self._share(self.members)) // (2 * entry_bytes(USUAL)))

    @property
    def waiting(self) -> int:
        """The number of usual messages that can wait in the queue."""
        return _about(self.queue // (self.parts * entry_bytes(USUAL)))


def _about(count: int) -> int:
    """Return a number rounded down to two digits: the estimate is no more precise than that."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return count // unit * unit


def misfits(hazelcast: Hazelcast, queue: Queue, limits: Limits) -> Iterator[str]:
    """Yield a line for each setting that allows more than fits into the members' memory: POST is refused earlier."""
    capacity = Capacity.of(hazelcast, queue)
    heap = f'[hazelcast] heap = "{hazelcast.heap}" carries about'
    if limits.max_held > capacity.held:
        yield f"[limits] max-held = {limits.max_held}: {heap} {capacity.held:,} messages of 100 characters"
    if queue.max_size > capacity.waiting:
        yield f"[queue] max-size = {queue.max_size}: {heap} {capacity.waiting:,} messages of 100 characters that wait"


def too_large(hazelcast: Hazelcast, queue: Queue, limits: Limits) -> str:
    """Return why not even one message of `max-body` bytes fits; empty if one does."""
    capacity = Capacity.of(hazelcast, queue)
    needed = capacity.parts * (limits.max_body + ENTRY_BYTES)
    if needed <= capacity.queue:
        return ""
    return (
        f"one message of {limits.max_body} bytes takes {needed / (1 << 20):.1f} MiB of each member's memory, and "
        f'[hazelcast] heap = "{hazelcast.heap}" has {capacity.queue / (1 << 20):.1f} MiB for what waits; '
        f'lower it, or set heap to "{capacity.heap_for(needed / QUEUE_SHARE)}" or more'
    )
