"""A Kafka broker: its configuration, its storage, its command line, and the log line that says it is ready.

Property names are from the documentation of Kafka 4.3; the values were tried with 4.3.1. Every broker is also a
controller (KRaft), so three of them are the whole cluster.
"""

from __future__ import annotations

import base64
import shutil
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import aiohttp

from microq.backends.base import Answers, Reserve, Seat
from microq.backends.hazelcast import server as hazelcast
from microq.backends.jars import Engine, linked
from microq.backends.java import Java
from microq.backends.kafka import table_of
from microq.backends.kafka.jars import KAFKA as JARS
from microq.backends.kafka.jars import VERSION
from microq.backends.kafka.layout import largest_record, least_in_sync, replicas_of
from microq.config import Address, Config
from microq.errors import MachineError
from microq.fleet import Role, name_of

if TYPE_CHECKING:  # the client is an extra, which the archive and the jars of a broker do not need
    from microq.backends.kafka import client as kfk

__all__ = ["JARS", "VERSION"]

JVM_FLAGS = hazelcast.JVM_FLAGS

READY_LINE = "Kafka Server started"
"""What a broker logs when it has joined and is ready."""

MAIN = "kafka.Kafka"

MOST_REPLICAS = 3
"""Replicas of the offsets topic: more would only cost time."""

_STORAGE = "meta.properties"


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker to start: its number, its name, and its addresses for clients and for other brokers.

    Behind a detour it listens for clients at `hidden`, and publishes `address` as its address. The brokers connect to
    each other at `controller` and `inner`, past every detour.
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
        """The file of the broker's configuration."""
        return self.folder / f"{self.name}.properties"

    @property
    def data(self) -> Path:
        """The folder of its messages."""
        return self.folder / "data" / self.name


def new_id() -> str:
    """Return an id in Kafka's form: a UUID as 22 letters of URL-safe base 64."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def write_files(config: Config, broker: Broker, all_of_them: Sequence[Broker], cluster_id: str) -> None:
    """Write the files that a broker reads when it starts, and format its storage on first use.

    Raises `MachineError` if the storage belongs to another cluster.
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
    """Return the command line of a broker; it runs in its folder. `extra` are JVM flags such as the archive's."""
    return [
        str(java.path),
        *JVM_FLAGS,
        f"-Xmx{heap}",
        *extra,
        f"-Dlog4j2.configurationFile={_logging_file(broker).name}",
        "-cp",
        ":".join(str(linked(broker.folder, jar)) for jar in jars),
        MAIN,
        broker.config_file.name,
    ]


def _logging_file(broker: Broker) -> Path:
    return broker.folder / f"{broker.name}.log4j2.properties"


def _settings(config: Config, broker: Broker, all_of_them: Sequence[Broker]) -> dict[str, object]:
    settings, copies = table_of(config), replicas_of(config, len(all_of_them))
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
        "log.dirs": broker.data.relative_to(broker.folder),
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": least_in_sync(copies),
        # A replica that lacks acknowledged messages never becomes leader.
        "unclean.leader.election.enable": "false",
        "replica.lag.time.max.ms": max(5, 2 * settings.session_timeout) * 1000,
        "offsets.topic.replication.factor": offsets,
        "offsets.topic.num.partitions": 1,
        # Consumers that start together form the group before one of them gets the first message.
        "group.initial.rebalance.delay.ms": 300,
        "group.min.session.timeout.ms": 1000,
        "broker.session.timeout.ms": settings.session_timeout * 1000,
        "broker.heartbeat.interval.ms": min(250, settings.session_timeout * 250),
        "controller.quorum.fetch.timeout.ms": 1000,
        "controller.quorum.election.timeout.ms": 500,
        "controller.quorum.election.backoff.max.ms": 500,
        # How often deleted records are removed from the disk, by whole segments.
        "log.retention.check.interval.ms": 10_000,
        "log.segment.delete.delay.ms": 1000,
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
    """Return a configuration that logs in the line format of the Python services: time, level, process, text."""
    return {
        "status": "error",
        "appender.out.type": "Console",
        "appender.out.name": "out",
        "appender.out.layout.type": "PatternLayout",
        "appender.out.layout.pattern": f"%d{{yyyy-MM-dd'T'HH:mm:ss.SSS}} %-7p {broker.name:<16} %m%n",
        "rootLogger.level": "info",
        "rootLogger.appenderRefs": "out",
        "rootLogger.appenderRef.out.ref": "out",
        # It logs its whole configuration at every start, 400 lines.
        "logger.config.name": "org.apache.kafka.common.config.AbstractConfig",
        "logger.config.level": "warn",
        "logger.server.name": "kafka.server.KafkaConfig",
        "logger.server.level": "warn",
    }


def _properties(rows: dict[str, object]) -> str:
    return "".join(f"{key}={value}\n" for key, value in rows.items())


class Brokers:
    """The brokers that this run starts; none if they run elsewhere. Their data lives as long as the run."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        engine: Engine | None,
        seats: Sequence[Seat],
        reserve: Reserve,
    ) -> None:
        self._config, self._engine, self._data = config, engine, folder / "data"
        inner = iter(reserve(2 * len(seats)))
        self._brokers = {
            seat.name: Broker(
                number,
                seat.name,
                seat.address,
                Address(seat.address.host, next(inner)),
                Address(seat.address.host, next(inner)),
                folder,
                seat.hidden,
            )
            for number, seat in enumerate(seats, start=1)
        }
        self._cluster_id = new_id()
        self._client: kfk.Brokers | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Self]:
        """Keep a client that queries the brokers past all detours."""
        # Imported here: a broker's archive can be made, and its jars fetched, without the extra.
        from microq.backends.kafka.client import connect  # noqa: PLC0415

        doors = {broker.address: broker.hidden for broker in self._brokers.values() if broker.hidden}
        async with connect(table_of(self._config).kafka_brokers, "supervisor", doors) as self._client:
            yield self

    def argv(self, name: str, *, alone: bool) -> list[str]:  # noqa: ARG002 - brokers know each other from the start
        """Write a broker's files and return its command line."""
        if self._engine is None or "kafka" not in self._engine.parts:
            raise MachineError("[kafka] managed = false: the brokers run elsewhere, and microq starts none")
        broker, archive = self._brokers[name], self._engine.parts["kafka"].archive
        write_files(self._config, broker, list(self._brokers.values()), self._cluster_id)
        return _argv(self._engine, self._config, broker, archive.flags(broker.folder))

    async def ask(self, session: aiohttp.ClientSession, up: Sequence[str]) -> Answers:  # noqa: ARG002 - no HTTP
        """Query the brokers named in `up`."""
        from microq.backends.kafka import monitor  # noqa: PLC0415 - the same

        if self._client is None:
            return Answers()
        places = [self._brokers[name].address for name in up]
        return Answers(*await monitor.read_all(self._client, self._config, places, self._name))

    def _name(self, address: Address) -> str:
        return name_of(self._config, Role.QUEUE, address)

    def remove_data(self) -> None:
        """Remove the messages that the brokers stored on disk."""
        shutil.rmtree(self._data, ignore_errors=True)


def open_servers(
    config: Config, folder: Path, engine: Engine | None, seats: Sequence[Seat], reserve: Reserve
) -> AbstractAsyncContextManager[Brokers]:
    """Open the brokers of a run."""
    return Brokers(config, folder, engine, seats, reserve).connected()


def lone_argv(config: Config, folder: Path, engine: Engine, reserve: Reserve) -> list[str]:
    """Write the files of a broker that is a quorum of one, and return its command line."""
    door, controller, inner = (Address("127.0.0.1", port) for port in reserve(3))
    broker = Broker(1, "archive", door, controller, inner, folder)
    write_files(config, broker, [broker], new_id())
    return _argv(engine, config, broker, ())


def _argv(engine: Engine, config: Config, broker: Broker, extra: Sequence[str]) -> list[str]:
    return argv(engine.java, engine.parts["kafka"].jars, broker, table_of(config).heap, extra)
