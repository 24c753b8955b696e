"""Two systems that share one cluster, each with a queue of its own: what is one's is never the other's."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import observed, until
from support.project import Project, make_project, up

SECONDS = 1
"""The visibility timeout: after so long a restarted facade would deliver again what nobody has stored."""

SOON = ("--set", f"queue.visibility-timeout={SECONDS}")

ALONE = tuple(word for each in ("members=1", "brokers=1", "logging=1") for word in ("--set", each))
"""One server of each kind: how many there are makes no difference to what they keep apart."""


@pytest.fixture(params=["hazelcast", "kafka"])
def owner(request: pytest.FixtureRequest, tmp_path: Path, kafka_engine: None) -> Iterator[tuple[Project, list[str]]]:
    """The system that has the servers, and what tells another one to use them."""
    folder = tmp_path / "owner"
    folder.mkdir()
    with up(folder, "--queue", request.param, *ALONE, *SOON) as found:
        lists = {
            "hazelcast.hazelcast-clients": found.config.hazelcast.hazelcast_clients,
            "kafka.kafka-brokers": found.config.backends["kafka"].kafka_brokers,
        }
        cluster = f"hazelcast.hazelcast-cluster-name={found.config.hazelcast.hazelcast_cluster_name}"
        sets = [f"{key}={json.dumps([str(value[0])])}" for key, value in lists.items()]
        sets += [cluster, "hazelcast.managed=false", "kafka.managed=false", f"queue.backend={request.param}"]
        yield found, sets


def held(project: Project, role: str) -> int:
    return sum(process["held"] for process in observed(project)["processes"] if process["role"] == role)


def test_a_restart_delivers_nothing_of_the_other_system(owner: tuple[Project, list[str]], tmp_path: Path) -> None:
    first, sets = owner
    (tmp_path / "guest").mkdir()
    second = make_project(tmp_path / "guest")
    words = [word for each in (*sets, "queue.name=guests") for word in ("--set", each)]
    started = second.microq("up", "-d", "--no-messages", *words, *SOON)
    try:
        assert started.returncode == 0, started.stderr
        assert second.microq("send", "10", "--prefix", "guest").returncode == 0
        assert first.microq("send", "5", "--prefix", "host").returncode == 0
        until(lambda: held(first, "messages") == 5)
        assert first.microq("restart", "facade").returncode == 0
        time.sleep(3 * SECONDS)  # nothing must happen, and nothing tells when it would have
        assert held(first, "messages") == 5
        assert "guest" not in first.microq("read", "-n", "2").stdout
        assert second.microq("start", "messages").returncode == 0
        until(lambda: held(second, "messages") == 10)
        shown = second.microq("read", "-n", "2").stdout
        assert "guest" in shown
        assert "host" not in shown
    finally:
        assert second.microq("down").returncode == 0
    assert held(first, "messages") == 5
