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
from microq.backends.kafka.layout import largest_record, least_in_sync, replicas_of
from microq.config import Address, Config
from microq.errors import MachineError
from microq.fleet import Role, name_of

if TYPE_CHECKING:  # the client is an extra, which the archive and the jars of a broker do not need
    from microq.backends.kafka import client as kfk
from microq.backends.jars import Jar

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


# -- the jars ---------------------------------------------------------------------------------------------------------

VERSION = "4.3.1"

_ROWS = (
    ("at.yawk.lz4:lz4-java:1.10.2", "252dabd586d22149a31661a8afc1a50747714eb1a298bd4a6e780c8c91a13866"),
    ("com.dynatrace.hash4j:hash4j:0.22.0", "23028a3fd006e530bf495f551083208187cafd8f80624d048eba56442f16a50e"),
    (
        "com.fasterxml.jackson.core:jackson-annotations:2.21",
        "53ca085f4a150f703f49e1aabd935bd03b43e1ea3d55d135438292af22cef56b",
    ),
    (
        "com.fasterxml.jackson.core:jackson-core:2.21.2",
        "12e8655b100267b44d0f14d01b1f5082a5105e616174dc4307be1a761e92407b",
    ),
    (
        "com.fasterxml.jackson.core:jackson-databind:2.21.2",
        "8c982f01f148d805f0aaac2339011244757e0df7c6ff8951f2fa3f433b8ed849",
    ),
    (
        "com.fasterxml.jackson.dataformat:jackson-dataformat-csv:2.21.2",
        "682f8c7977e02a42748426bf54946e32e52e2f80b84b6642801ab12bd541368a",
    ),
    (
        "com.fasterxml.jackson.dataformat:jackson-dataformat-yaml:2.21.2",
        "d25551812fa0c14f37cabaa9401e63eadcea42ce36311183af5622d5bc8a1bc7",
    ),
    (
        "com.fasterxml.jackson.datatype:jackson-datatype-jdk8:2.21.2",
        "e581bbf3fc5622d16b57366dd41e10fc56921fb202879de2ef487f87dd9b30e7",
    ),
    (
        "com.github.ben-manes.caffeine:caffeine:3.2.0",
        "ec411dfdf0c03f25218648ce89861630b71680e5858a9a7278ebac8e55cab3d7",
    ),
    ("com.github.luben:zstd-jni:1.5.6-10", "b6c3237e24b8252a5a9c3a0e1ae30ef8f323412e74bd358548b7a9e527d676df"),
    ("com.google.re2j:re2j:1.8", "7b52c72156dd7f98b3237a5b35c1d34fba381b21048c89208913ad80a45dfbd7"),
    (
        "com.typesafe.scala-logging:scala-logging_2.13:3.9.6",
        "0ad0c3f4d89d538b3b6c300158555e266aa69cf1b5f6522aba8b5bad238eb994",
    ),
    ("com.yammer.metrics:metrics-core:2.2.0", "6b7a14a6f34c10f8683f7b5e2f39df0f07b58c7dff0e468ebbc713905c46979c"),
    ("commons-beanutils:commons-beanutils:1.11.0", "9e44ba68ec9a3f21286fa2a8bbb003b735c0f69101bb43144b79f4f8aaa74709"),
    (
        "commons-collections:commons-collections:3.2.2",
        "eeeae917917144a68a741d4c0dff66aa5c5c5fd85593ff217bced3fc8ca783b8",
    ),
    ("commons-digester:commons-digester:2.1", "e0b2b980a84fc6533c5ce291f1917b32c507f62bcad64198fff44368c2196a3d"),
    ("commons-logging:commons-logging:1.3.5", "6d7a744e4027649fbb50895df9497d109f98c766a637062fe8d2eabbb3140ba4"),
    ("commons-validator:commons-validator:1.10.1", "ed74711a78d793ca37f6075e4a1e93d107233dfd20d0bb17e32bad88d38e56aa"),
    ("net.sf.jopt-simple:jopt-simple:5.0.4", "df26cc58f235f477db07f753ba5a3ab243ebe5789d9f89ecf68dd62ea9a66c28"),
    ("net.sourceforge.argparse4j:argparse4j:0.7.0", "65ceb669d88f63306c680f8088bbf765bbca72d288a61a03703000076c3d3f56"),
    ("org.apache.kafka:kafka-clients:4.3.1", "52501b7b47510c66f898871adaf6d2968ab7246561d44ced43643a8a587f0b36"),
    (
        "org.apache.kafka:kafka-coordinator-common:4.3.1",
        "66a86b8c89718216ffa72fe4e44b9d1bdf3472e4cb9200c36a0742a25febbdba",
    ),
    (
        "org.apache.kafka:kafka-group-coordinator:4.3.1",
        "4ab56d002e1624185c874199e9e0ffb243dbeb9f68b4d0cadf48ce2f617a1126",
    ),
    (
        "org.apache.kafka:kafka-group-coordinator-api:4.3.1",
        "d81bc1a3739ff6c9b21815baae00022306342a16d3d94e6a2621201b9980a30d",
    ),
    ("org.apache.kafka:kafka-metadata:4.3.1", "4d73a96c6474a4ebdd67a1cee14da1a94cfd6bb9e6e252685ba5667d8ab7f898"),
    ("org.apache.kafka:kafka-raft:4.3.1", "46abbf89806dd22d848e997cdfb1431524cab4ec88e38a7d2806e20b24a70609"),
    ("org.apache.kafka:kafka-server:4.3.1", "01d736599ec3b0cdbb0480c15219170b28cdae189785e7f0c6f1f26e528eaebc"),
    ("org.apache.kafka:kafka-server-common:4.3.1", "d7c719f749579a399011f0df7414de8a78f10f074a6122caa550fdb141351575"),
    (
        "org.apache.kafka:kafka-share-coordinator:4.3.1",
        "8ceeed7346127e652ea5c650b217890aaff14919f967d27fadce420745bd3066",
    ),
    ("org.apache.kafka:kafka-storage:4.3.1", "97e3facddd2914a58f28ec91ef35f8da69963eab3651196e97f487924f6dac98"),
    ("org.apache.kafka:kafka-storage-api:4.3.1", "bc2b22639fa554494461d101d599e01bae840d97c4f46e18fdf3d2fe41a47098"),
    ("org.apache.kafka:kafka-tools-api:4.3.1", "dcf6785742e0c8ab11a0fc09c62f1192e11e997dc629669a8db82aa40d933c31"),
    (
        "org.apache.kafka:kafka-transaction-coordinator:4.3.1",
        "c64aaa2a88d8fd382c4800204872917686e542043c7916c9e8797d939d8eb313",
    ),
    ("org.apache.kafka:kafka_2.13:4.3.1", "b098abef5ff878e76f60cd6c559b9baa5663ccb1b55f2837558b22c329d32423"),
    ("org.apache.logging.log4j:log4j-api:2.25.4", "c4b642a7f047275215de117e0e3847eb2c7711d84a0aa7433e7b3c096daf341d"),
    ("org.apache.logging.log4j:log4j-core:2.25.4", "10fee2c0485d54fa44ee75d314f6295508f7b932281873db61a91b88073200e6"),
    (
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
        "7ac68a0afcc83d54f48d116d79370a43f0a2a6b71b5c1d6dda943bb6a95ddbaa",
    ),
    ("org.bitbucket.b_c:jose4j:0.9.6", "7314af50cde9c99e8eaf43eee617a23edcc6bb43036221064355094999d837ef"),
    ("org.hdrhistogram:HdrHistogram:2.2.2", "22d1d4316c4ec13a68b559e98c8256d69071593731da96136640f864fa14fad8"),
    ("org.jspecify:jspecify:1.0.0", "1fad6e6be7557781e4d33729d49ae1cdc8fdda6fe477bb0cc68ce351eafdfbab"),
    ("org.pcollections:pcollections:4.0.2", "2bbeef5797a241300c4f7513cd546239629ed7deda4fc0c31df90bb95f5f13ef"),
    ("org.scala-lang:scala-library:2.13.18", "4e85d96ff7bc7dc627985523c3541b9917aaa08e956391380c42db21a2c4e5a0"),
    ("org.scala-lang:scala-reflect:2.13.18", "6935ff1982b2ac93d695f15aa66921be2f602921277afe002f018fd8c7d6e29b"),
    ("org.slf4j:slf4j-api:1.7.36", "d3ef575e3e4979678dc01bf1dcce51021493b4d11fb7f1be8ad982877c16a1c0"),
    ("org.xerial.snappy:snappy-java:1.1.10.7", "4c766cb3f855415ee734b2392949a0b6f12a60879334a74518deaf6270d32e36"),
    ("org.yaml:snakeyaml:2.5", "e6682acf1ace77508ef13649cbf4f8d09d2cf5457bdb61d25ffb6ac0233d78dd"),
)


def _jar(coordinate: str, sha256: str) -> Jar:
    _, artifact, version = coordinate.split(":")
    return Jar(coordinate, f"kafka-{VERSION}/{artifact}-{version}.jar", sha256)


JARS = tuple(_jar(*row) for row in _ROWS)
"""All jars, in a separate folder of the cache; with log4j's binding the broker's log has no warning about it."""
