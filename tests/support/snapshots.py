"""Systems to be looked at, after a member was killed: one with the queue in Hazelcast, one with it in Kafka."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import replace

from microq.backends import BACKENDS
from microq.figures import BrokerFigures, MemberFigures, PartitionView, QueueView
from microq.fleet import ProcessState, ProcessView, Role, Snapshot


def figures(
    name: str, items: int = 0, backups: int = 0, *, seen: int = 3, safe: bool = True, copies: int | None = None
) -> MemberFigures:
    return MemberFigures(
        name=name,
        taken_at=99.4,
        items=items,
        backups=backups,
        oldest=4.1 if items else None,
        offers=items,
        polls=0,
        rejected=0,
        empty_polls=0,
        log_entries=1234,
        log_backups=2468,
        partitions=13,
        cluster_safe=safe,
        members_seen=seen,
        heap_used=40 << 20,
        heap_max=256 << 20,
        copies=copies,
        backup_count=2,
    )


def process(name: str, state: ProcessState = ProcessState.READY) -> ProcessView:
    group, _, port = name.partition("-")
    up = state is ProcessState.READY
    return ProcessView(
        name=name,
        role=Role.QUEUE if group in BACKENDS else Role(group),
        address=f"127.0.0.1:{port}",
        state=state,
        pid=4121 if up else None,
        started_at=37.0 if up else None,
        exit_status=None if up else -9,
        rss=170 << 20 if up else None,
        held=50 if group == "messages" else None,
    )


QUEUE = QueueView("hazelcast", "messages-queue", 100, 100_000, 2, "hazelcast-5702")
SYSTEM = Snapshot(
    taken_at=100.0,
    folder="/project/.microq/runs/1",
    processes=(
        process("hazelcast-5701", ProcessState.EXITED),
        process("hazelcast-5702"),
        process("hazelcast-5703"),
        process("messages-5001"),
        process("facade-5000"),
    ),
    members=(figures("hazelcast-5702", items=100, seen=2), figures("hazelcast-5703", backups=100, seen=2)),
    queue=QUEUE,
)

FINE = dataclasses.replace(
    SYSTEM,
    processes=tuple(
        dataclasses.replace(process(each.name), role=each.role)
        for each in SYSTEM.processes
        if each.role is not Role.MESSAGES
    ),
    members=(figures("hazelcast-5701"), figures("hazelcast-5702"), figures("hazelcast-5703")),
)
"""A system of which there is nothing to say."""


def maps_only(processes: Iterable[ProcessView]) -> tuple[ProcessView, ...]:
    """The same processes where the queue is another backend's."""
    return tuple(replace(each, role=Role.MAPS) if each.role is Role.QUEUE else each for each in processes)


WHOLE = ("kafka-9091", "kafka-9092", "kafka-9093")
TOPIC = dataclasses.replace(
    SYSTEM,
    processes=(
        *(dataclasses.replace(each, role=Role.MAPS) if each.role is Role.QUEUE else each for each in SYSTEM.processes),
        process("kafka-9091"),
        process("kafka-9092"),
        process("kafka-9093"),
    ),
    queue=dataclasses.replace(QUEUE, backend="kafka", owner="kafka-9092"),
    backend="kafka",
    brokers=(
        BrokerFigures("kafka-9091", 99.4, 30, 70, cluster_safe=True, members_seen=3, leads=(0,), follows=(1,)),
        BrokerFigures("kafka-9092", 99.4, 70, 30, cluster_safe=True, members_seen=3, leads=(1,), follows=(0,)),
    ),
    partitions=(
        PartitionView(0, "kafka-9091", WHOLE, 3, 30),
        PartitionView(1, "kafka-9092", ("kafka-9091", "kafka-9092"), 3, 70),
        PartitionView(2, None, (), 3, None),
    ),
)
