"""What the brokers say of the queue: who leads which partition, whose copies are in sync, what waits where."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Protocol

from microq.config import Address
from microq.figures import BrokerFigures, PartitionView
from microq.fleet import Role
from microq.kfk import AwayError
from microq.layout import Layout, Span

Found = tuple[tuple[BrokerFigures, ...], tuple[PartitionView, ...]]
"""What each broker says, and the partitions as one of them sees them."""


class Source(Protocol):
    """Whom to ask: `kfk.Brokers`."""

    async def layout(self, topic: str, at: Address | None = None) -> Layout:
        """Return how a broker sees the cluster; raises `AwayError`."""
        ...

    async def consumers(self, topic: str) -> dict[int, str]:
        """Return who consumes which partition, by name; raises `AwayError`."""
        ...

    async def spans(self, topic: str, layout: Layout) -> dict[int, Span]:
        """Return what of each partition waits; raises `AwayError`."""
        ...


async def read_all(brokers: Source, topic: str, up: Collection[Address]) -> Found:
    """Ask the brokers that are up side by side; those that do not answer are missing from the result.

    So are those of whose messages nobody knows how many there are, as while a partition has no leader.
    """
    answers = dict(zip(up, await asyncio.gather(*(_layout(brokers, topic, each) for each in up)), strict=True))
    layouts = {address: layout for address, layout in answers.items() if layout}
    if not layouts:
        return (), ()
    # Of those who see different things the one who sees the fewest brokers has heard the news.
    newest = min(layouts.values(), key=lambda layout: len(layout.servers))
    try:
        spans, consumers = await asyncio.gather(brokers.spans(topic, newest), _consumers(brokers, topic))
    except AwayError:
        return (), ()
    waiting = {number: span.waiting for number, span in spans.items()}
    agreed = all(set(layout.servers) == set(layouts) for layout in layouts.values()) and len(layouts) == len(up)
    safe = agreed and all(layout.whole for layout in layouts.values())
    figures = (_figures(address, layout, newest, waiting, safe=safe) for address, layout in sorted(layouts.items()))
    partitions = (
        PartitionView(
            partition.number,
            name_of(partition.leader) if partition.leader else None,
            tuple(name_of(address) for address in partition.in_sync),
            partition.replicas,
            waiting[partition.number],
            consumers.get(partition.number),
        )
        for partition in newest.partitions
    )
    return tuple(each for each in figures if each), tuple(partitions)


def name_of(address: Address) -> str:
    """Return the name of the broker at an address."""
    return f"{Role.KAFKA}-{address.port}"


async def _layout(brokers: Source, topic: str, address: Address) -> Layout | None:
    try:
        return await brokers.layout(topic, address)
    except AwayError:
        return None


async def _consumers(brokers: Source, topic: str) -> dict[int, str]:
    """Return who consumes which partition; while nobody coordinates them that is unknown."""
    try:
        return await brokers.consumers(topic)
    except AwayError:
        return {}


def _figures(
    address: Address, mine: Layout, newest: Layout, waiting: dict[int, int | None], *, safe: bool
) -> BrokerFigures | None:
    leads = [p.number for p in newest.partitions if p.leader == address]
    follows = [p.number for p in newest.partitions if address in p.in_sync and p.leader != address]
    known = {number: count for number, count in waiting.items() if count is not None}
    if not known.keys() >= {*leads, *follows}:
        return None
    return BrokerFigures(
        name=name_of(address),
        taken_at=time.time(),
        items=sum(known[number] for number in leads),
        backups=sum(known[number] for number in follows),
        cluster_safe=safe,
        members_seen=len(mine.servers),
        leads=tuple(leads),
        follows=tuple(follows),
    )
