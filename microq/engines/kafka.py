"""A broker of Kafka: its configuration, its storage, its command line, the line that says it is ready.

Property names are from the documentation of Kafka 4.3; the values were tried with 4.3.1. Every broker is a controller
as well (KRaft), so three of them are the whole cluster.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from microq.config import Address, Config
from microq.engines import hazelcast
from microq.engines.java import Java
from microq.errors import MachineError
from microq.layout import largest_record, least_in_sync, replicas_of

JVM_FLAGS = hazelcast.JVM_FLAGS

READY_LINE = "Kafka Server started"
"""What a broker logs when it has joined and serves."""

MAIN = "kafka.Kafka"

MOST_REPLICAS = 3
"""Of the offsets: more copies only cost."""

_STORAGE = "meta.properties"


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker to run: its number and name, where clients find it, and where the other brokers do.

    With a detour it listens to clients at `hidden`, and tells them its address as the one to find it by. `controller`
    and `inner` are where the brokers talk to each other, past every detour.
    """

    number: int
    name: str
    address: Address
    controller: Address
    inner: Address
    folder: Path
    hidden: Address | None = None

    @property
    def config_file(self) -> Path:
        """The broker's configuration, for people to read too."""
        return self.folder / f"{self.name}.properties"

    @property
    def data(self) -> Path:
        """Where it keeps its messages."""
        return self.folder / "data" / self.name


def new_id() -> str:
    """Return an id as Kafka writes them: a UUID in the 22 letters of URL-safe base 64."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def write_files(config: Config, broker: Broker, all_of_them: Sequence[Broker], cluster_id: str) -> None:
    """Write what a broker reads when it starts, and on the first use the storage's mark, as formatting does.

    Raises `MachineError` if its data is another cluster's.
    """
    broker.data.mkdir(parents=True, exist_ok=True)
    mark = broker.data / _STORAGE
    if mark.exists():
        _check(mark, cluster_id)
    else:
        rows = {"version": 1, "cluster.id": cluster_id, "node.id": broker.number, "directory.id": new_id()}
        mark.write_text(_properties(rows), encoding="utf-8")
    broker.config_file.write_text(_properties(_settings(config, broker, all_of_them)), encoding="utf-8")
    _logging_file(broker).write_text(_properties(_logging(broker)), encoding="utf-8")


def _check(mark: Path, cluster_id: str) -> None:
    rows = dict(line.partition("=")[::2] for line in mark.read_text(encoding="utf-8").splitlines())
    found = rows.get("cluster.id", "")
    if found != cluster_id:
        raise MachineError(f"{mark.parent} holds the data of another cluster ({found}); remove it")


def argv(java: Java, jars: Sequence[Path], broker: Broker, heap: str, extra: Sequence[str]) -> list[str]:
    """Return the command line of a broker; `extra` are JVM flags such as the class-data archive's."""
    return [
        str(java.path),
        *JVM_FLAGS,
        f"-Xmx{heap}",
        *extra,
        f"-Dlog4j2.configurationFile={_logging_file(broker)}",
        "-cp",
        ":".join(map(str, jars)),
        MAIN,
        str(broker.config_file),
    ]


def _logging_file(broker: Broker) -> Path:
    return broker.folder / f"{broker.name}.log4j2.properties"


def _settings(config: Config, broker: Broker, all_of_them: Sequence[Broker]) -> dict[str, object]:
    settings, copies = config.kafka, replicas_of(config, len(all_of_them))
    offsets = min(len(all_of_them), MOST_REPLICAS)
    door = broker.hidden or broker.address
    return {
        "process.roles": "broker,controller",
        "node.id": broker.number,
        "controller.quorum.voters": ",".join(f"{each.number}@{each.controller}" for each in all_of_them),
        "listeners": f"CLIENT://{door},BROKER://{broker.inner},CONTROLLER://{broker.controller}",
        "advertised.listeners": f"CLIENT://{broker.address},BROKER://{broker.inner}",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": broker.data,
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": least_in_sync(copies),
        # A replica that lacks acknowledged messages never leads.
        "unclean.leader.election.enable": "false",
        "replica.lag.time.max.ms": max(5, 2 * settings.session_timeout) * 1000,
        "offsets.topic.replication.factor": offsets,
        "offsets.topic.num.partitions": 1,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "broker.session.timeout.ms": settings.session_timeout * 1000,
        "broker.heartbeat.interval.ms": min(250, settings.session_timeout * 250),
        "controller.quorum.fetch.timeout.ms": 1000,
        "controller.quorum.election.timeout.ms": 500,
        "controller.quorum.election.backoff.max.ms": 500,
        "message.max.bytes": largest_record(config),
        "replica.fetch.max.bytes": largest_record(config),
        # Small: the brokers share one machine, with few clients.
        "num.network.threads": 2,
        "num.io.threads": 2,
        "background.threads": 2,
        "num.recovery.threads.per.data.dir": 1,
        "log.cleaner.dedupe.buffer.size": 2 << 20,
        "log.index.size.max.bytes": 1 << 20,
    }


def _logging(broker: Broker) -> dict[str, object]:
    """One line format with the Python services: time, level, process, text."""
    return {
        "status": "error",
        "appender.out.type": "Console",
        "appender.out.name": "out",
        "appender.out.layout.type": "PatternLayout",
        "appender.out.layout.pattern": f"%d{{yyyy-MM-dd'T'HH:mm:ss.SSS}} %-7p {broker.name:<16} %m%n",
        "rootLogger.level": "info",
        "rootLogger.appenderRefs": "out",
        "rootLogger.appenderRef.out.ref": "out",
        # It writes its whole configuration down at every start, 400 lines of it.
        "logger.config.name": "org.apache.kafka.common.config.AbstractConfig",
        "logger.config.level": "warn",
        "logger.server.name": "kafka.server.KafkaConfig",
        "logger.server.level": "warn",
    }


def _properties(rows: dict[str, object]) -> str:
    return "".join(f"{key}={value}\n" for key, value in rows.items())
