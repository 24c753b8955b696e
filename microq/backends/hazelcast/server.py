"""A Hazelcast member: its configuration files, its command line, and the log line that says it is ready.

Property names are from the reference manual of Hazelcast 5.7; the times were measured.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from microq.backends.base import Answers, Reserve, Seat
from microq.backends.hazelcast import monitor
from microq.backends.hazelcast.monitor import AGENT_SUFFIX
from microq.backends.hazelcast.template import Document
from microq.backends.jars import Engine, Jar, linked
from microq.backends.java import Java
from microq.config import Address, Config
from microq.errors import MachineError
from microq.store import names

VERSION = "5.7.0"

JARS = (
    Jar(
        f"com.hazelcast:hazelcast:{VERSION}",
        f"hazelcast-{VERSION}.jar",
        "241ec66cea8491787f68c3336f069ac463877af50bdb7676cd9d538f1940dc33",
    ),
    Jar(
        "org.jolokia:jolokia-agent-jvm:jar:javaagent:2.2.9",
        "jolokia-agent-jvm-2.2.9-javaagent.jar",
        "f5c4b31eeeb602888346ce7b545a885cb7caf932eff3b1b630e93cc720483429",
    ),
)
"""The member, and the agent inside it."""

READY_LINE = " is STARTED"
"""What a member logs when it has joined and is ready."""

PROTECTION = "majority"
"""The name of the rule by which a minority of the members refuses all operations."""

MERGE_SECONDS = 3
"""Seconds between two attempts to find the other half of a split cluster."""

MIGRATED_MEGABYTES = 10
"""The part of a partition that is copied to another member at once; the default of 250 delays its other work."""

JVM_FLAGS = (
    "-XX:+UseSerialGC",
    "-XX:NewRatio=7",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
)
"""Flags for a fast start; under load the Python client is the bottleneck, not code compiled by C1 alone.

A small young generation is collected more often: a member takes 130 MB under load instead of 175. A server that runs
out of memory exits: it would continue without the part that failed, and look ready.
"""

PROPERTIES = (
    "-Dhazelcast.config.schema.validation.enabled=false",
    "-Dhazelcast.io.selectionKeyWakeupEnabled=false",
)
"""System properties. A check of the configuration by its schema takes 0.2 s of each start, and microq wrote it. Output
is written by tasks of the output threads, not by keys of their selectors, because of `OUTPUT_THREADS`."""

OUTPUT_THREADS = 4
"""Output threads of a member. One would be enough if all members answered. The others reconnect to a silent member, and
its handshake never comes: the task that sends to it puts itself into its thread's queue again for ever, and the thread
never reaches its selector (5.7.0, from its stack). Everything else on that thread waits, also the heartbeats of the
other members, so the survivors lost each other: with one thread in 5 of 5 trials, with one thread and tasks instead of
keys in 2 of 5, with four threads and tasks in 0 of 4. It costs about a tenth of the members' time for a message.
"""

MAIN = "com.hazelcast.core.server.HazelcastMemberStarter"

_POLICY = """<?xml version="1.0" encoding="utf-8"?>
<!-- What the agent may do, for this machine only: read, and collect garbage. JMX can execute; this agent cannot. -->
<restrict>
  <remote><host>127.0.0.1</host></remote>
  <http><method>post</method></http>
  <commands><command>read</command></commands>
  <allow>
    <mbean>
      <name>java.lang:type=Memory</name>
      <operation>gc</operation>
    </mbean>
  </allow>
</restrict>
"""


@dataclass(frozen=True, slots=True)
class Agent:
    """The Jolokia agent inside a member; its password is made for the run."""

    port: int
    password: str
    user: str = "microq"

    @property
    def url(self) -> str:
        """The URL of the agent, on loopback only."""
        return f"http://127.0.0.1:{self.port}/jolokia/"


@dataclass(frozen=True, slots=True)
class Member:
    """A member to start: its name, its address, and its files.

    Behind a detour it listens at `hidden`, and publishes `address` as its address.
    """

    name: str
    address: Address
    folder: Path
    agent: Agent
    hidden: Address | None = None
    own: bool = False
    """Whether its configuration is the user's own file, in XML."""

    @property
    def config_file(self) -> Path:
        """The file of the member's configuration."""
        return self.folder / f"{self.name}.{'xml' if self.own else 'yaml'}"


def write_files(config: Config, member: Member, join: Sequence[Address]) -> None:
    """Write the files that a member reads when it starts; `join` lists the members that it tries to join.

    The first member of a cluster has only itself in the list and is master at once; with the full list all members
    wait about 5 s for each other. Every other start needs the full list, else the member forms a separate cluster.
    """
    text = _member_xml(config, member, join) if member.own else _member_yaml(config, member, join)
    member.config_file.write_text(text, encoding="utf-8")
    _policy_file(member).write_text(_POLICY, encoding="utf-8")
    agent = _agent_file(member)
    agent.touch(mode=0o600)
    agent.chmod(0o600)  # the file may have existed
    agent.write_text(_agent_properties(member), encoding="utf-8")
    _logging_file(member).write_text(_logging_properties(member), encoding="utf-8")


def argv(java: Java, jar: Path, agent_jar: Path, member: Member, heap: str, extra: Sequence[str]) -> list[str]:
    """Return the command line of a member; it runs in its folder. `extra` are JVM flags such as the archive's."""
    return [
        str(java.path),
        *JVM_FLAGS,
        *PROPERTIES,
        f"-Xmx{heap}",
        *extra,
        f"-javaagent:{linked(member.folder, agent_jar)}=config={_agent_file(member).name}",
        f"-Djava.util.logging.config.file={_logging_file(member).name}",
        f"-Dhazelcast.config={member.config_file.name}",
        "-cp",
        str(linked(member.folder, jar)),
        MAIN,
    ]


def _agent_file(member: Member) -> Path:
    return member.folder / f"{member.name}{AGENT_SUFFIX}"


def _policy_file(member: Member) -> Path:
    return member.folder / f"{member.name}.policy.xml"


def _logging_file(member: Member) -> Path:
    return member.folder / f"{member.name}.logging.properties"


def _agent_properties(member: Member) -> str:
    agent = member.agent
    rows = {
        "host": "127.0.0.1",
        "port": agent.port,
        "agentContext": "/jolokia",
        "discoveryEnabled": "false",
        # A request that hangs during a failover must not delay the next one.
        "executor": "cached",
        "user": agent.user,
        "password": agent.password,
        "policyLocation": f"file:{_policy_file(member).name}",
    }
    return "".join(f"{key}={value}\n" for key, value in rows.items())


def _logging_properties(member: Member) -> str:
    """Return a configuration that logs in the line format of the Python services: time, level, process, text."""
    line = f"%1$tFT%1$tT.%1$tL %4$-7s {member.name:<16} %5$s%6$s%n"
    return (
        "handlers=java.util.logging.ConsoleHandler\n"
        ".level=INFO\n"
        "java.util.logging.ConsoleHandler.formatter=java.util.logging.SimpleFormatter\n"
        f"java.util.logging.SimpleFormatter.format={line}\n"
    )


def _member_xml(config: Config, member: Member, join: Sequence[Address]) -> str:
    document, door = Document(Path(config.hazelcast.config)), member.hidden or member.address
    document.complete(config, member.name, door, member.address if member.hidden else None, join)
    return document.text()


def _member_yaml(config: Config, member: Member, join: Sequence[Address]) -> str:
    cluster, queue, door = config.hazelcast, config.queue, member.hidden or member.address
    body = {
        "cluster-name": cluster.hazelcast_cluster_name,
        "instance-name": member.name,
        "properties": {
            "hazelcast.socket.bind.any": False,
            # Not [network] interfaces: the kernel must list those, and of 127.0.0.0/8 it lists only 127.0.0.1.
            "hazelcast.local.localAddress": door.host,
            "hazelcast.phone.home.enabled": False,
            "hazelcast.logging.type": "jdk",
            # Metrics of another product: microq does not read them, and they double the load of an idle member.
            "hazelcast.metrics.enabled": False,
            "hazelcast.jmx": True,
            # Figures are current, not up to 5 s old.
            "hazelcast.jmx.update.interval.seconds": 0,
            # A write whose backup is not confirmed must fail, not succeed.
            "hazelcast.operation.fail.on.indeterminate.state": True,
            "hazelcast.partition.count": cluster.partition_count,
            # Later than a silent member is declared dead: else the writes of a merge to a member that is only busy
            # fail, and with the first one that does the merge ends, and what it had not sent yet is lost.
            "hazelcast.operation.backup.timeout.millis": 1000 * cluster.heartbeat_timeout,
            "hazelcast.partition.migration.chunks.max.migrating.data.in.mb": MIGRATED_MEGABYTES,
            "hazelcast.heartbeat.interval.seconds": 1,
            "hazelcast.max.no.heartbeat.seconds": cluster.heartbeat_timeout,
            "hazelcast.wait.seconds.before.join": 0,
            # How often the halves of a split cluster look for each other; the defaults are 300 and 120 s.
            "hazelcast.merge.first.run.delay.seconds": MERGE_SECONDS,
            "hazelcast.merge.next.run.delay.seconds": MERGE_SECONDS,
            # The members share a machine: unneeded threads only pass work to each other.
            "hazelcast.io.input.thread.count": 1,
            "hazelcast.io.output.thread.count": OUTPUT_THREADS,
            "hazelcast.operation.response.thread.count": 1,
            "hazelcast.shutdownhook.policy": "GRACEFUL",
            "hazelcast.graceful.shutdown.max.wait": 5,
        },
        "network": {
            "port": {"port": door.port, "auto-increment": False},
            **({"public-address": str(member.address)} if member.hidden else {}),
            "reuse-address": True,
            "join": {
                "auto-detection": {"enabled": False},
                "multicast": {"enabled": False},
                "tcp-ip": {"enabled": True, "member-list": [str(address) for address in join]},
            },
        },
        "jet": {"enabled": False},
        # The default configuration is for queues of other systems in the cluster.
        "queue": {name: {"max-size": queue.max_size, **_structure(config)} for name in (queue.name, "default")},
        "map": {name: _structure(config) for name in (*names(queue.name), "default")},
        **_protection(config),
    }
    return _yaml({"hazelcast": body})


def _structure(config: Config) -> dict[str, object]:
    """Return what queue and maps have in common: backup count, merge policy and protection."""
    copies: dict[str, object] = {"backup-count": config.queue.backup_count}
    if config.hazelcast.split_brain == "refuse":
        return {**copies, "split-brain-protection-ref": PROTECTION}
    return {**copies, "merge-policy": {"class-name": "PutIfAbsentMergePolicy"}}


def _protection(config: Config) -> dict[str, object]:
    if config.hazelcast.split_brain != "refuse":
        return {}
    majority = len(config.hazelcast.hazelcast_clients) // 2 + 1
    rule = {"enabled": True, "minimum-cluster-size": majority, "protect-on": "READ_WRITE"}
    return {"split-brain-protection": {PROTECTION: rule}}


def _yaml(value: object, depth: int = 0) -> str:
    """Write nested mappings as YAML; a JSON scalar or list is valid YAML."""
    if not isinstance(value, dict):
        return f" {json.dumps(value)}\n"
    rows = "".join(f"{'  ' * depth}{json.dumps(key)}:{_yaml(item, depth + 1)}" for key, item in value.items())
    return f"\n{rows}" if depth else rows


class Members:
    """The members that this run starts; none if they run elsewhere. Each has an agent with a password of this run."""

    def __init__(
        self, config: Config, folder: Path, engine: Engine | None, seats: Sequence[Seat], reserve: Reserve
    ) -> None:
        self._config, self._engine = config, engine
        agents = [Agent(port, secrets.token_urlsafe(16)) for port in reserve(len(seats))]
        self._members = {
            seat.name: Member(seat.name, seat.address, folder, agent, seat.hidden, bool(config.hazelcast.config))
            for seat, agent in zip(seats, agents, strict=True)
        }

    def argv(self, name: str, *, alone: bool) -> list[str]:
        """Write a member's files and return its command line; `alone`: it looks for no other member."""
        if self._engine is None:
            raise MachineError("[hazelcast] managed = false: the members run elsewhere, and microq starts none")
        member, join = self._members[name], self._config.hazelcast.hazelcast_clients
        write_files(self._config, member, [member.address] if alone else join)
        flags = self._engine.parts["hazelcast"].archive.flags(member.folder)
        return _argv(self._engine, self._config, member, flags)

    async def ask(self, session: aiohttp.ClientSession, up: Sequence[str]) -> Answers:
        """Query the agents of the members named in `up`."""
        agents = [(name, self._members[name].agent) for name in up]
        sources = [monitor.Source(name, agent.url, agent.user, agent.password) for name, agent in agents]
        return Answers(await monitor.read_all(session, sources, self._config))

    def remove_data(self) -> None:
        """Do nothing: members store nothing on disk."""


@asynccontextmanager
async def open_servers(
    config: Config, folder: Path, engine: Engine | None, seats: Sequence[Seat], reserve: Reserve
) -> AsyncIterator[Members]:
    """Yield the members of a run."""
    yield Members(config, folder, engine, seats, reserve)


def lone_argv(config: Config, folder: Path, engine: Engine, reserve: Reserve) -> list[str]:
    """Write the files of a member that forms a cluster alone, and return its command line."""
    port, agent_port = reserve(2)
    address = Address("127.0.0.1", port)
    member = Member("archive", address, folder, Agent(agent_port, secrets.token_urlsafe(16)))
    write_files(config, member, [address])
    return _argv(engine, config, member, ())


def _argv(engine: Engine, config: Config, member: Member, extra: Sequence[str]) -> list[str]:
    jar, agent = engine.parts["hazelcast"].jars
    return argv(engine.java, jar, agent, member, config.hazelcast.heap, extra)
