"""What a broker of Kafka needs on this machine: its jars, its client, its configuration, its storage's mark."""

from __future__ import annotations

import base64
import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.fakes import PLAIN

from microq.backends import BACKENDS, backend, jars
from microq.backends.java import Java
from microq.backends.kafka import server as kafka
from microq.backends.kafka.server import JARS, VERSION
from microq.config import Address, Config
from microq.errors import ExtraMissingError, JarMissingError, MachineError
from microq.workflows.machine import check_extras, is_needed

JAVA = Java(Path("/jdk17/bin/java"), "17.0.9", "PATH")
QUEUE_IN_KAFKA = dataclasses.replace(PLAIN, queue=dataclasses.replace(PLAIN.queue, backend="kafka"))
CLUSTER = kafka.new_id()


def cluster(folder: Path, count: int = 3) -> list[kafka.Broker]:
    def local(port: int) -> Address:
        return Address("127.0.0.1", port)

    return [
        kafka.Broker(n, f"kafka-{9090 + n}", local(9090 + n), local(19090 + n), local(29090 + n), folder)
        for n in range(1, count + 1)
    ]


def written(
    broker: kafka.Broker, all_of_them: Sequence[kafka.Broker], config: Config = QUEUE_IN_KAFKA
) -> dict[str, str]:
    """The settings that are written for a broker."""
    kafka.write_files(config, broker, all_of_them, CLUSTER)
    return rows(broker.config_file)


def rows(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines())


# -- the jars and the client ------------------------------------------------------------------------------------------


def test_every_jar_is_pinned_and_has_a_file_of_its_own() -> None:
    assert all(re.fullmatch(r"[\w.-]+:[\w.-]+:[\w.-]+", jar.coordinate) for jar in JARS)
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in JARS)
    assert len({jar.filename for jar in JARS}) == len({jar.sha256 for jar in JARS}) == len(JARS)
    assert {str(Path(jar.filename).parent) for jar in JARS} == {f"kafka-{VERSION}"}


def test_the_jars_are_those_of_one_kafka() -> None:
    parts = [jar.coordinate.split(":") for jar in JARS]
    assert {version for group, _, version in parts if group == "org.apache.kafka"} == {VERSION}
    assert {"kafka_2.13", "kafka-clients", "log4j-slf4j-impl"} <= {artifact for _, artifact, _ in parts}


def test_jars_that_cannot_be_had_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROQ_CACHE", str(tmp_path))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(JarMissingError, match=re.escape(JARS[0].coordinate)) as caught:
        jars.provide_all(JARS)
    assert str(tmp_path / JARS[0].filename) in str(caught.value)
    assert list((tmp_path / f"kafka-{VERSION}").iterdir()) == []


def test_each_engine_has_an_archive_of_its_own() -> None:
    newer = dataclasses.replace(JAVA, version="17.0.10")
    archives = [backend(name).archive(runtime).path for name in BACKENDS for runtime in (JAVA, newer)]
    assert len(set(archives)) == len(archives)


@pytest.mark.parametrize("backend", ["hazelcast", "kafka"])
@pytest.mark.parametrize("members", [True, False])
@pytest.mark.parametrize("brokers", [True, False])
def test_members_and_brokers_run_elsewhere_independently(backend: str, *, members: bool, brokers: bool) -> None:
    config = dataclasses.replace(PLAIN, queue=dataclasses.replace(PLAIN.queue, backend=backend))
    config = config.with_settings("hazelcast", managed=members).with_settings("kafka", managed=brokers)
    assert is_needed(config) is (members or (brokers and backend == "kafka"))


def test_the_client_is_missed_only_where_the_queue_is_in_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    check_extras(PLAIN)
    with pytest.raises(ExtraMissingError, match=re.escape("pip install 'microq[kafka]'")) as caught:
        check_extras(QUEUE_IN_KAFKA)
    assert caught.value.exit_code == 4


# -- what a broker reads ----------------------------------------------------------------------------------------------


def test_a_brokers_configuration_says_what_it_must(tmp_path: Path) -> None:
    brokers = cluster(tmp_path)
    found = written(brokers[1], brokers)
    expected = {
        "process.roles": "broker,controller",
        "node.id": "2",
        "controller.quorum.voters": "1@127.0.0.1:19091,2@127.0.0.1:19092,3@127.0.0.1:19093",
        "listeners": "CLIENT://127.0.0.1:9092,BROKER://127.0.0.1:29092,CONTROLLER://127.0.0.1:19092",
        "advertised.listeners": "CLIENT://127.0.0.1:9092,BROKER://127.0.0.1:29092",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": "data/kafka-9092",
        "auto.create.topics.enable": "false",
        "unclean.leader.election.enable": "false",
        "min.insync.replicas": "2",
        "offsets.topic.replication.factor": "3",
        "offsets.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "300",
        "broker.session.timeout.ms": "3000",
    }
    assert {key: found.get(key) for key in expected} == expected


def test_broker_behind_link_publishes_address_of_the_link(tmp_path: Path) -> None:
    brokers = cluster(tmp_path)
    hidden = dataclasses.replace(brokers[0], hidden=Address("127.0.0.1", 12345))
    found = written(hidden, [hidden, *brokers[1:]])
    assert found["listeners"] == "CLIENT://127.0.0.1:12345,BROKER://127.0.0.1:29091,CONTROLLER://127.0.0.1:19091"
    assert found["advertised.listeners"] == "CLIENT://127.0.0.1:9091,BROKER://127.0.0.1:29091"


@pytest.mark.parametrize(
    ("count", "backups", "needed", "offsets"),
    [(3, 2, "2", "3"), (3, 1, "1", "3"), (3, 0, "1", "3"), (1, 2, "1", "1"), (2, 2, "1", "2"), (5, 4, "4", "3")],
)
def test_a_write_needs_all_copies_but_one(tmp_path: Path, count: int, backups: int, needed: str, offsets: str) -> None:
    queue = dataclasses.replace(QUEUE_IN_KAFKA.queue, backup_count=backups)
    brokers = cluster(tmp_path, count)
    found = written(brokers[0], brokers, dataclasses.replace(QUEUE_IN_KAFKA, queue=queue))
    assert (found["min.insync.replicas"], found["offsets.topic.replication.factor"]) == (needed, offsets)


@pytest.mark.parametrize("seconds", [1, 3, 60])
def test_broker_is_asked_several_times_before_declared_dead(tmp_path: Path, seconds: int) -> None:
    brokers = cluster(tmp_path)
    found = written(brokers[0], brokers, QUEUE_IN_KAFKA.with_settings("kafka", session_timeout=seconds))
    timeout = int(found["broker.session.timeout.ms"])
    assert timeout == seconds * 1000
    assert 3 * int(found["broker.heartbeat.interval.ms"]) <= timeout < int(found["replica.lag.time.max.ms"])


def test_the_largest_body_fits_however_it_is_escaped(tmp_path: Path) -> None:
    limits = dataclasses.replace(QUEUE_IN_KAFKA.limits, max_body=5 << 20)
    brokers = cluster(tmp_path)
    found = written(brokers[0], brokers, dataclasses.replace(QUEUE_IN_KAFKA, limits=limits))
    assert int(found["message.max.bytes"]) == int(found["replica.fetch.max.bytes"]) > 20 << 20


def test_a_brokers_log_has_the_line_of_the_services(tmp_path: Path) -> None:
    brokers = cluster(tmp_path)
    written(brokers[0], brokers)
    found = rows(tmp_path / "kafka-9091.log4j2.properties")
    assert found["appender.out.layout.pattern"] == "%d{yyyy-MM-dd'T'HH:mm:ss.SSS} %-7p kafka-9091       %m%n"
    assert found["rootLogger.level"] == "info"


def test_a_broker_is_started_with_its_jars_and_its_file(tmp_path: Path) -> None:
    (broker,) = cluster(tmp_path, 1)
    argv = kafka.argv(JAVA, [Path("/a.jar"), Path("/b.jar")], broker, "256m", ["-XX:AOTCache=/a"])
    assert argv[0] == os.fspath(JAVA.path)
    assert argv[-4:] == ["-cp", "lib/a.jar:lib/b.jar", kafka.MAIN, "kafka-9091.properties"]
    assert {"-Xmx256m", "-XX:AOTCache=/a", *kafka.JVM_FLAGS} < set(argv)
    assert "-Dlog4j2.configurationFile=kafka-9091.log4j2.properties" in argv


# -- the storage ------------------------------------------------------------------------------------------------------


def test_an_id_is_a_uuid_as_kafka_writes_it() -> None:
    assert len({kafka.new_id() for _ in range(100)}) == 100
    assert len(kafka.new_id()) == 22
    assert len(base64.urlsafe_b64decode(kafka.new_id() + "==")) == 16


def test_the_storage_is_marked_once(tmp_path: Path) -> None:
    brokers = cluster(tmp_path)
    written(brokers[2], brokers)
    mark = brokers[2].data / "meta.properties"
    first = rows(mark)
    assert (first["version"], first["cluster.id"], first["node.id"]) == ("1", CLUSTER, "3")
    written(brokers[2], brokers)
    assert rows(mark) == first
    written(brokers[1], brokers)
    assert rows(brokers[1].data / "meta.properties")["directory.id"] != first["directory.id"]


@pytest.mark.parametrize("text", ["version=1\ncluster.id=another\nnode.id=1\n", "", "nonsense"])
def test_the_data_of_another_cluster_is_left_alone(tmp_path: Path, text: str) -> None:
    brokers = cluster(tmp_path)
    mark = brokers[0].data / "meta.properties"
    mark.parent.mkdir(parents=True)
    mark.write_text(text, encoding="utf-8")
    with pytest.raises(MachineError, match="holds the data of another cluster") as caught:
        written(brokers[0], brokers)
    assert str(brokers[0].data) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert mark.read_text(encoding="utf-8") == text
    assert not brokers[0].config_file.exists()
