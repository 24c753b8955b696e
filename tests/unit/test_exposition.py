"""The whole system for Prometheus, read back by its own parser; what is unknown is absent."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from support.snapshots import figures

from microq.backends import BACKENDS
from microq.figures import BrokerFigures, PartitionView, QueueView
from microq.fleet import ProcessState, ProcessView, Role, Snapshot
from microq.metrics import of_system


def process(name: str) -> ProcessView:
    role, port = name.split("-")
    return ProcessView(
        name,
        Role.QUEUE if role in BACKENDS else Role(role),
        f"127.0.0.1:{port}",
        ProcessState.READY,
        4121,
        37.0,
        rss=170 << 20,
    )


SYSTEM = Snapshot(
    taken_at=100.0,
    folder="",
    processes=(
        ProcessView("hazelcast-5701", Role.QUEUE, "127.0.0.1:5701", ProcessState.EXITED, exit_status=-9),
        process("hazelcast-5702"),
        process("hazelcast-5703"),
        replace(process("messages-5001"), held=50),
        process("facade-5000"),
    ),
    members=(
        replace(figures("hazelcast-5702", items=100, seen=2), oldest=4.1, heap_used=40 << 20),
        figures("hazelcast-5703", backups=100, seen=2),
    ),
    queue=QueueView("hazelcast", "messages-queue", 100, 100_000, 2, "hazelcast-5702"),
)
TOPIC = replace(
    SYSTEM,
    processes=(*SYSTEM.processes, process("kafka-9091"), process("kafka-9092"), process("kafka-9093")),
    backend="kafka",
    brokers=(
        BrokerFigures("kafka-9091", 99.4, 30, 70, cluster_safe=True, members_seen=3, leads=(0,), follows=(1,)),
        BrokerFigures("kafka-9092", 99.4, 70, 30, cluster_safe=True, members_seen=3, leads=(1,), follows=(0,)),
    ),
    partitions=(
        PartitionView(0, "kafka-9091", ("kafka-9091", "kafka-9092", "kafka-9093"), 3, 30, "messages-5001"),
        PartitionView(1, "kafka-9092", ("kafka-9091", "kafka-9092"), 3, 70, "messages-5001"),
        PartitionView(2, None, (), 3, None, "messages-5001"),
    ),
)

Samples = dict[tuple[str, ...], float]


def samples(view: Snapshot) -> Samples:
    """Name and labels' values -> value, all of which have a help text."""
    body, kind = of_system(view)
    assert kind.startswith("text/plain")
    families = list(parser.text_string_to_metric_families(body.decode()))
    assert all(family.documentation and family.name.startswith("microq_") for family in families)
    return {
        (sample.name.removeprefix("microq_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def about(found: Samples, *words: str) -> set[str]:
    return {key[0] for key in found if set(words) <= set(key)}


def test_every_process_says_what_is_known_of_it() -> None:
    found = samples(SYSTEM)
    assert found["process_up", "hazelcast-5701", "queue"] == 0
    assert found["process_up", "messages-5001", "messages"] == 1
    assert found["process_resident_memory_bytes", "facade-5000", "facade"] == 170 << 20
    assert found["process_start_time_seconds", "facade-5000", "facade"] == 37
    assert found["process_messages_held", "messages-5001", "messages"] == 50
    assert found["process_restarts_total", "messages-5001", "messages"] == 0
    assert found["snapshot_time_seconds",] == 100


def test_what_is_unknown_is_absent() -> None:
    found = samples(SYSTEM)
    gone = {"process_up", "process_ready", "process_restarts_total", "queue_owner"}
    assert about(found, "hazelcast-5701") == gone
    assert ("queue_oldest_item_seconds", "hazelcast-5703") not in found
    assert found["queue_oldest_item_seconds", "hazelcast-5702"] == 4.1
    assert not about(found, "process_cpu_seconds_total", "messages_pending", "messages_dead")
    blind = samples(replace(SYSTEM, members=(), queue=None))
    assert all(key[0].startswith(("process_", "snapshot_")) for key in blind)


def test_the_queue_and_its_copies() -> None:
    queue = QueueView(
        "hazelcast", "messages-queue", 100, 100_000, 2, "hazelcast-5702", pending=7, redelivered=0, dead=1
    )
    found = samples(replace(SYSTEM, queue=queue))
    assert found["queue_messages", "messages-queue"] == 100
    assert found["queue_max_messages", "messages-queue"] == 100_000
    assert found["messages_pending", "messages-queue"] == 7
    assert found["messages_redelivered", "messages-queue"] == 0
    assert found["messages_dead", "messages-queue"] == 1
    assert found["queue_items", "hazelcast-5702"] == 100
    assert found["queue_backup_items", "hazelcast-5703"] == 100
    assert found["member_heap_used_bytes", "hazelcast-5702"] == 40 << 20
    owners = {key[1]: value for key, value in found.items() if key[0] == "queue_owner"}
    assert owners == {"hazelcast-5701": 0, "hazelcast-5702": 1, "hazelcast-5703": 0}
    assert (found["cluster_safe",], found["copies",]) == (0, 1)


def test_brokers_partitions_and_lags() -> None:
    found = samples(TOPIC)
    for partition in TOPIC.partitions:
        number = str(partition.number)
        assert found["partition_replicas", number] == partition.replicas
        assert found.get(("partition_in_sync_replicas", number)) == (len(partition.in_sync) or None)
        assert found.get(("consumer_lag", number, "messages-5001")) == partition.waiting
        assert found.get(("partition_messages", number)) == partition.waiting
    owners = {key[1] for key, value in found.items() if key[0] == "queue_owner" and value}
    assert owners == TOPIC.owners
    assert about(found, "kafka-9092") >= {"queue_items", "queue_backup_items", "cluster_members_seen"}


def test_newer_format_is_sent_on_request() -> None:
    body, kind = of_system(SYSTEM, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert list(openmetrics_parser.text_string_to_metric_families(body.decode()))  # type: ignore[no-untyped-call]
