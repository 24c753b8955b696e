"""Watch the survivors after a fault: when they notice, who owns the items, when all copies are in place again.

Hazelcast makes new copies on the members that are left. Kafka makes none: it goes on with the replicas that are in
sync, and its cluster is safe again only when the broker that was lost is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from microq.figures import Figures, PartitionView
from microq.fleet import Operator, Snapshot

LOOK = 0.02
"""Pause between two looks at the members, in seconds."""

WATCH_SECONDS = 20.0
"""How long the survivors may take until the cluster is safe again."""

Told = Callable[[str], None]
"""Hears a step of the recovery."""


@dataclass(frozen=True, slots=True)
class Copies:
    """Where the queue's items are: server -> (owned, backed up), and who owns primaries; of a topic each partition."""

    members: dict[str, tuple[int, int]]
    owners: frozenset[str]
    partitions: tuple[PartitionView, ...] = ()

    @classmethod
    def of(cls, view: Snapshot) -> Copies:
        """Read them from a snapshot."""
        return cls(
            {figures.name: (figures.items, figures.backups) for figures in view.servers},
            view.owners,
            view.partitions,
        )

    @property
    def items(self) -> int:
        """How many items the queue holds."""
        return sum(owned for owned, _ in self.members.values())

    @property
    def backups(self) -> int:
        """How many backup items there are in all."""
        return sum(backups for _, backups in self.members.values())

    def __str__(self) -> str:
        if not self.members:
            return "no server of the queue says what it holds"
        if self.partitions:
            return "; ".join(map(_told, self.partitions))
        parts = [
            f"{'★ ' if name in self.owners else ''}{name} owns {owned}, backs up {backups}"
            for name, (owned, backups) in self.members.items()
        ]
        return "; ".join(parts)


def _told(partition: PartitionView) -> str:
    waiting = "an unknown number" if partition.waiting is None else partition.waiting
    leader = f"★ {partition.leader} leads" if partition.leader else "nobody leads"
    followers = [name for name in partition.in_sync if name != partition.leader]
    copies = f"{', '.join(followers)} in sync" if followers else "no other copy is in sync"
    return f"{leader} partition {partition.number} with {waiting}, {copies}"


async def until(operator: Operator, effect: Callable[[Snapshot], bool], seconds: float, look: float = LOOK) -> bool:
    """Wait until a snapshot shows an effect; return whether it was in time."""
    try:
        async with asyncio.timeout(seconds):
            while not effect(await operator.snapshot()):  # noqa: ASYNC110 - members tell no events
                await asyncio.sleep(look)
    except TimeoutError:
        return False
    return True


async def until_safe(operator: Operator, seconds: float = WATCH_SECONDS, look: float = LOOK) -> bool:
    """Wait until the cluster is safe; return whether it was in time."""
    return await until(operator, lambda view: view.safe, seconds, look)


async def watch(
    operator: Operator,
    killed: Sequence[str],
    before: Copies,
    backup_count: int,
    told: Told,
    seconds: float = WATCH_SECONDS,
) -> bool:
    """Tell each step of the recovery as it is seen; return whether all of them were, in time."""
    steps = dict(_steps(killed, before, backup_count))
    try:
        async with asyncio.timeout(seconds):
            while steps:
                view = await operator.snapshot()
                for step in [name for name, happened in steps.items() if happened(view)]:
                    del steps[step]
                    told(step)
                await asyncio.sleep(LOOK if steps else 0)
    except TimeoutError:
        told(f"not seen in {seconds:g} s: {', '.join(steps)}")
        return False
    return True


def _steps(
    killed: Sequence[str], before: Copies, backup_count: int
) -> Iterator[tuple[str, Callable[[Snapshot], bool]]]:
    survivors = [name for name in before.members if name not in killed]
    copies = min(backup_count, len(survivors) - 1)

    def alive(view: Snapshot) -> list[Figures]:
        return [figures for figures in view.servers if figures.name in survivors]

    def left(view: Snapshot) -> bool:
        return bool(survivors) and [figures.members_seen for figures in alive(view)] == [len(survivors)] * len(
            survivors
        )

    yield "left the member list", left
    if before.partitions:
        yield "every partition has a leader", lambda view: _led(view, survivors)
        yield "its followers are in sync", lambda view: left(view) and _followed(view, survivors)
        return
    if before.owners & set(killed):
        yield "backup promoted to owner", lambda view: bool(view.owners & set(survivors))
    if copies:
        yield "new backups made", lambda view: left(view) and _complete(Copies.of(view), copies)
    yield "cluster safe", lambda view: left(view) and all(figures.cluster_safe for figures in alive(view))


def _complete(now: Copies, copies: int) -> bool:
    return now.backups == now.items * copies


def _led(view: Snapshot, survivors: Sequence[str]) -> bool:
    return bool(view.partitions) and all(partition.leader in survivors for partition in view.partitions)


def _followed(view: Snapshot, survivors: Sequence[str]) -> bool:
    """Return whether every replica that is left is in sync; those that are gone are dropped from the list."""
    wanted = [min(partition.replicas, len(survivors)) for partition in view.partitions]
    return (
        [len(set(p.in_sync) & set(survivors)) for p in view.partitions]
        == wanted
        == [len(p.in_sync) for p in view.partitions]
    )
