"""What the brokers report about the queue: leaders, in-sync replicas and waiting messages of each partition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from microq.backends.kafka import table_of
from microq.backends.kafka.client import Brokers, UnavailableError
from microq.backends.kafka.layout import Layout, least_in_sync, replicas_of
from microq.config import Address, Config
from microq.figures import BrokerFigures, PartitionView

Found = tuple[tuple[BrokerFigures, ...], tuple[PartitionView, ...]]
"""The figures of each broker, and the partitions as one broker sees them."""


async def read_all(brokers: Brokers, config: Config, up: Collection[Address], name: Callable[[Address], str]) -> Found:
    """Query the brokers that are up concurrently; those that do not answer are missing from the result.

    `name` returns the name of the broker at an address. The number of a broker's messages is unknown while one of its
    partitions has no leader, or the committed offsets are unknown.
    """
    topic = config.queue.name
    answers = dict(zip(up, await asyncio.gather(*(_layout(brokers, topic, each) for each in up)), strict=True))
    layouts = {address: layout for address, layout in answers.items() if layout}
    if not layouts:
        return (), ()
    # If their views differ, the broker that sees the fewest brokers has the newest view.
    newest = min(layouts.values(), key=lambda layout: len(layout.servers))
    waiting, consumers, differs = await asyncio.gather(
        _waiting(brokers, topic, newest), _consumers(brokers, topic), _differs(brokers, config, newest)
    )
    agreed = all(set(layout.servers) == set(layouts) for layout in layouts.values()) and len(layouts) == len(up)
    safe = agreed and all(layout.whole for layout in layouts.values())
    figures = (
        replace(_figures(name(address), address, layout, newest, waiting), cluster_safe=safe, differs=differs)
        for address, layout in sorted(layouts.items())
    )
    partitions = (
        PartitionView(
            partition.number,
            name(partition.leader) if partition.leader else None,
            tuple(name(address) for address in partition.in_sync),
            partition.replicas,
            waiting.get(partition.number),
            consumers.get(partition.number),
        )
        for partition in newest.partitions
    )
    return tuple(figures), tuple(partitions)


async def _waiting(brokers: Brokers, topic: str, layout: Layout) -> dict[int, int | None]:
    try:
        return {number: span.waiting for number, span in (await brokers.spans(topic, layout)).items()}
    except UnavailableError:
        return {}


async def _differs(brokers: Brokers, config: Config, layout: Layout) -> tuple[str, ...]:
    """Return how the topic differs from the configuration; empty if no broker answers."""
    if not layout.partitions:
        return ()
    replicas = min(partition.replicas for partition in layout.partitions)
    try:
        least = (await brokers.settings(config.queue.name)).get("min.insync.replicas")
    except UnavailableError:
        least = None
    rows = [
        ("replicas", replicas, config.queue.backup_count + 1),
        ("partitions", len(layout.partitions), table_of(config).partitions),
    ]
    if least is not None:
        rows.append(("min.insync.replicas", int(least), least_in_sync(replicas_of(config, len(config.servers)))))
    return tuple(f"{key} {found}, not {wanted}" for key, found, wanted in rows if found != wanted)


async def _layout(brokers: Brokers, topic: str, address: Address) -> Layout | None:
    try:
        return await brokers.layout(topic, address)
    except UnavailableError:
        return None


async def _consumers(brokers: Brokers, topic: str) -> dict[int, str]:
    """Return the consumer of each partition; empty, which means unknown, while they have no coordinator."""
    try:
        return await brokers.consumers(topic)
    except UnavailableError:
        return {}


def _figures(
    name: str, address: Address, mine: Layout, newest: Layout, waiting: dict[int, int | None]
) -> BrokerFigures:
    leads = [p.number for p in newest.partitions if p.leader == address]
    follows = [p.number for p in newest.partitions if address in p.in_sync and p.leader != address]
    return BrokerFigures(
        name=name,
        taken_at=time.time(),
        items=_sum([waiting.get(number) for number in leads]),
        backups=_sum([waiting.get(number) for number in follows]),
        cluster_safe=False,
        members_seen=len(mine.servers),
        leads=tuple(leads),
        follows=tuple(follows),
        copies=min((len(p.in_sync) - 1 for p in newest.partitions if p.leader), default=None),
        backup_count=min((p.replicas - 1 for p in newest.partitions), default=None),
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
