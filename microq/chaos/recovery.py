"""Watch the recovery after a fault: when survivors notice it, who owns the items, when all copies are in place again.

Hazelcast makes new copies on the members that are left. Kafka makes none: it continues with the replicas in sync, and
its cluster is safe again only when the lost broker is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from microq.aio import poll_until
from microq.figures import Figures, PartitionView
from microq.fleet import Operator, Role, Snapshot

LOOK = 0.02
"""Seconds between two snapshots."""

WATCH_SECONDS = 20.0
"""Seconds that the survivors may take until the cluster is safe again."""

COPIES_SECONDS = 5.0
"""Seconds that every server may take to report its items; one that is busy for a moment reports nothing."""

Tell = Callable[[str], None]
"""Called with each step of the recovery."""


@dataclass(frozen=True, slots=True)
class Copies:
    """Where the queue's items are: server -> (owned, backed up), the owners of primaries, and a topic's partitions."""

    members: dict[str, tuple[int, int]]
    owners: frozenset[str]
    partitions: tuple[PartitionView, ...] = ()

    @classmethod
    def of(cls, view: Snapshot) -> Copies:
        """Read them from a snapshot."""
        return cls(
            {
                figures.name: (figures.items, figures.backups)
                for figures in view.servers
                if figures.items is not None and figures.backups is not None
            },
            view.owners,
            view.partitions,
        )

    @property
    def items(self) -> int:
        """The number of items in the queue."""
        return sum(owned for owned, _ in self.members.values())

    @property
    def backups(self) -> int:
        """The total number of backup items."""
        return sum(backups for _, backups in self.members.values())

    def __str__(self) -> str:
        if not self.members:
            return "no server of the queue reports its items"
        if self.partitions:
            return "; ".join(map(_in_words, self.partitions))
        parts = [
            f"{'★ ' if name in self.owners else ''}{name} owns {owned}, backs up {backups}"
            for name, (owned, backups) in self.members.items()
        ]
        return "; ".join(parts)


def _in_words(partition: PartitionView) -> str:
    waiting = "an unknown number" if partition.waiting is None else partition.waiting
    leader = f"★ {partition.leader} leads" if partition.leader else "no leader for"
    followers = [name for name in partition.in_sync if name != partition.leader]
    copies = f"{', '.join(followers)} in sync" if followers else "no other copy is in sync"
    return f"{leader} partition {partition.number} with {waiting}, {copies}"


async def until(operator: Operator, effect: Callable[[Snapshot], bool], seconds: float, look: float = LOOK) -> bool:
    """Wait until a snapshot shows an effect; return whether it was in time."""

    async def seen() -> bool:
        return effect(await operator.snapshot())

    return await poll_until(seen, look, seconds)


async def copies_now(operator: Operator, seconds: float = COPIES_SECONDS, look: float = LOOK) -> Copies:
    """Return where the items are as soon as every server that is up reports it; after `seconds` what is known."""
    known = lambda view: view.ready(Role.QUEUE) <= Copies.of(view).members.keys()  # noqa: E731 - a condition
    return Copies.of(await operator.look(known, seconds, look))


async def until_settled(operator: Operator, seconds: float = WATCH_SECONDS, look: float = LOOK) -> bool:
    """Wait until the cluster is as safe as its servers allow; return whether it was in time."""
    return await until(operator, lambda view: view.settled, seconds, look)


async def watch(
    operator: Operator,
    killed: Sequence[str],
    before: Copies,
    backup_count: int,
    tell: Tell,
    seconds: float = WATCH_SECONDS,
) -> bool:
    """Report each step of the recovery when it is observed; return whether all were in time.

    The steps are reported in order, even if a later one is observed first.
    """
    steps = list(_steps(killed, before, backup_count))
    try:
        async with asyncio.timeout(seconds):
            while steps:
                view = await operator.snapshot()
                while steps and steps[0][1](view):
                    tell(steps.pop(0)[0])
                await asyncio.sleep(LOOK if steps else 0)
    except TimeoutError:
        tell(f"not seen in {seconds:g} s: {', '.join(name for name, _ in steps)}")
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
        promoted = "backup promoted to owner" if backup_count else "another member owns the queue, which is empty there"
        yield promoted, lambda view: bool(view.owners & set(survivors))
    if copies:
        yield "new backups made", lambda view: left(view) and _complete(Copies.of(view), copies)
    reached = "cluster safe" if 0 < backup_count <= copies else f"{copies} of {backup_count} backups in place"
    yield reached, lambda view: left(view) and all(figures.cluster_safe for figures in alive(view))


def _complete(now: Copies, copies: int) -> bool:
    return now.backups == now.items * copies


def _led(view: Snapshot, survivors: Sequence[str]) -> bool:
    return bool(view.partitions) and all(partition.leader in survivors for partition in view.partitions)


def _followed(view: Snapshot, survivors: Sequence[str]) -> bool:
    """Return whether every surviving replica is in sync; replicas that are gone are not in the list."""
    wanted = [min(partition.replicas, len(survivors)) for partition in view.partitions]
    return (
        [len(set(p.in_sync) & set(survivors)) for p in view.partitions]
        == wanted
        == [len(p.in_sync) for p in view.partitions]
    )
