"""A Hazelcast member: its configuration, its command line, the line that says it is ready.

Property names are from the reference manual of Hazelcast 5.7; the times were measured (see the design notes in the
docstrings where a choice rests on one).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from microq.config import Address, Config
from microq.engines.java import Java
from microq.store import MAPS

READY_LINE = " is STARTED"
"""What a member logs when it has joined and serves."""

PROTECTION = "majority"
"""The name of the rule that refuses what a minority of the members is asked."""

MERGE_SECONDS = 3
"""Pause between two looks for the other half of a cluster that was split."""

BACKUP_MILLISECONDS = 1000
"""How long a write waits for the acknowledgement of a backup that died meanwhile, before it is uncertain."""

JVM_FLAGS = ("-XX:+UseSerialGC", "-XX:NewRatio=7", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
"""A quick start for a short life; the Python client is the bottleneck under load, not C1's code.

A small young generation is collected more often and keeps a member at 130 MB under load instead of 175.
"""

PROPERTIES = ("-Dhazelcast.config.schema.validation.enabled=false",)
"""Known before the configuration is read: checking it by a schema takes 0.2 s of each start, and it is ours."""

MAIN = "com.hazelcast.core.server.HazelcastMemberStarter"

_POLICY = """<?xml version="1.0" encoding="utf-8"?>
<!-- What the agent may do: read, for this machine only. JMX can execute; this agent cannot. -->
<restrict>
  <remote><host>127.0.0.1</host></remote>
  <http><method>post</method></http>
  <commands><command>read</command></commands>
</restrict>
"""


@dataclass(frozen=True, slots=True)
class Agent:
    """How to reach the Jolokia agent inside a member; the password is made for the run."""

    port: int
    password: str
    user: str = "microq"

    @property
    def url(self) -> str:
        """Where the agent answers, on loopback only."""
        return f"http://127.0.0.1:{self.port}/jolokia/"


@dataclass(frozen=True, slots=True)
class Member:
    """One member to run: its name, its address, and the files of its run.

    With a detour it listens at `hidden`, and tells everybody its address as the one to find it by.
    """

    name: str
    address: Address
    folder: Path
    agent: Agent
    hidden: Address | None = None

    @property
    def config_file(self) -> Path:
        """The member's configuration, for people to read too."""
        return self.folder / f"{self.name}.yaml"


def write_files(config: Config, member: Member, join: Sequence[Address]) -> None:
    """Write what a member reads when it starts, and no other does; `join` lists the members it looks for.

    The first member of a cluster looks for itself alone and is master at once; with the full list all of them wait
    about 5 s for each other. Every other start needs the full list, or it makes a cluster of its own.
    """
    member.config_file.write_text(_member_yaml(config, member, join), encoding="utf-8")
    _policy_file(member).write_text(_POLICY, encoding="utf-8")
    agent = _agent_file(member)
    agent.touch(mode=0o600)
    agent.chmod(0o600)  # it may have been there
    agent.write_text(_agent_properties(member), encoding="utf-8")
    _logging_file(member).write_text(_logging_properties(member), encoding="utf-8")


def argv(java: Java, jar: Path, agent_jar: Path, member: Member, heap: str, extra: Sequence[str]) -> list[str]:
    """Return the command line of a member; `extra` are JVM flags such as the class-data archive's."""
    return [
        str(java.path),
        *JVM_FLAGS,
        *PROPERTIES,
        f"-Xmx{heap}",
        *extra,
        f"-javaagent:{agent_jar}=config={_agent_file(member)}",
        f"-Djava.util.logging.config.file={_logging_file(member)}",
        f"-Dhazelcast.config={member.config_file}",
        "-cp",
        str(jar),
        MAIN,
    ]


def _agent_file(member: Member) -> Path:
    return member.folder / f"{member.name}.agent.properties"


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
        # A question that hangs in a failover must not hold up the next one.
        "executor": "cached",
        "user": agent.user,
        "password": agent.password,
        "policyLocation": _policy_file(member).absolute().as_uri(),
    }
    return "".join(f"{key}={value}\n" for key, value in rows.items())


def _logging_properties(member: Member) -> str:
    """One line format with the Python services: time, level, process, text."""
    line = f"%1$tFT%1$tT.%1$tL %4$-7s {member.name:<16} %5$s%6$s%n"
    return (
        "handlers=java.util.logging.ConsoleHandler\n"
        ".level=INFO\n"
        "java.util.logging.ConsoleHandler.formatter=java.util.logging.SimpleFormatter\n"
        f"java.util.logging.SimpleFormatter.format={line}\n"
    )


def _member_yaml(config: Config, member: Member, join: Sequence[Address]) -> str:
    cluster, queue, door = config.hazelcast, config.queue, member.hidden or member.address
    body = {
        "cluster-name": cluster.hazelcast_cluster_name,
        "instance-name": member.name,
        "properties": {
            "hazelcast.socket.bind.any": False,
            "hazelcast.phone.home.enabled": False,
            "hazelcast.logging.type": "jdk",
            # Another product's figures: those asked for here are not among them, and they double the idle load.
            "hazelcast.metrics.enabled": False,
            "hazelcast.jmx": True,
            # Figures are as old as the question, not up to 5 s older.
            "hazelcast.jmx.update.interval.seconds": 0,
            # A write whose backup is not confirmed must fail, not succeed.
            "hazelcast.operation.fail.on.indeterminate.state": True,
            "hazelcast.partition.count": cluster.partition_count,
            "hazelcast.operation.backup.timeout.millis": BACKUP_MILLISECONDS,
            "hazelcast.heartbeat.interval.seconds": 1,
            "hazelcast.max.no.heartbeat.seconds": cluster.heartbeat_timeout,
            "hazelcast.wait.seconds.before.join": 0,
            # After a split the two halves look for each other this often; the default is 300 and 120 s.
            "hazelcast.merge.first.run.delay.seconds": MERGE_SECONDS,
            "hazelcast.merge.next.run.delay.seconds": MERGE_SECONDS,
            # The members share a machine: more threads than these only hand work to each other (a fifth of the
            # members' processor time for a message, measured).
            "hazelcast.io.thread.count": 1,
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
            "interfaces": {"enabled": True, "interfaces": [door.host]},
        },
        "jet": {"enabled": False},
        "queue": {queue.name: {"max-size": queue.max_size, **_structure(config)}},
        "map": {name: _structure(config) for name in MAPS},
        **_protection(config),
    }
    return _yaml({"hazelcast": body})


def _structure(config: Config) -> dict[str, object]:
    """Return what the queue and the maps have in common: their copies, and what a split does to them."""
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
    """Write nested mappings as YAML; a JSON scalar or list is YAML as it stands."""
    if not isinstance(value, dict):
        return f" {json.dumps(value)}\n"
    rows = "".join(f"{'  ' * depth}{json.dumps(key)}:{_yaml(item, depth + 1)}" for key, item in value.items())
    return f"\n{rows}" if depth else rows
