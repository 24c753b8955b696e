"""Real servers and services that have one port on several addresses, as the task's lists may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.commands import observed
from support.project import Project, free_ports, make_project

from microq.fleet import group_of

HOSTS = ("127.0.0.3", "127.0.0.1", "127.0.0.10")
"""Not in the order of their numbers, and the text of the last one sorts before that of the first."""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose members, brokers and consumers each have one port on these hosts."""
    return make_project(tmp_path)


def on_hosts(key: str) -> list[str]:
    """Return what sets a list of addresses to one free port on each host."""
    (port,) = free_ports(1)
    return ["--set", f"{key}={json.dumps([f'{host}:{port}' for host in HOSTS])}"]


@pytest.mark.parametrize("backend", ["hazelcast", "kafka"])
def test_servers_with_equal_ports_differ_lowest_is_killed(project: Project, kafka_engine: None, backend: str) -> None:
    lists = ["hazelcast.hazelcast-clients", "kafka.kafka-brokers", "service_ips.messages-service"]
    sets = [word for key in lists for word in on_hosts(key)]
    # The members of a system with brokers only hold maps, as they also do in the other one.
    few = ["--set", "members=1"] if backend == "kafka" else []
    started = project.microq("up", "-d", "--queue", backend, *sets, *few)
    try:
        assert started.returncode == 0, started.stderr
        key = "brokers" if backend == "kafka" else "members"

        def whole(view: Any) -> bool:
            """Whether all is told of the servers that is asked below; it comes a moment after they are ready."""
            led = [bool(partition["leader"]) for partition in view["partitions"]]
            return {each["members_seen"] for each in view[key]} == {3} and all(led or [view["queue"]["owner"]])

        view = observed(project, whole)
        names = [process["name"] for process in view["processes"] if group_of(process["name"]) == backend]
        assert [name.split("-")[1] for name in names] == ["127.0.0.1", "127.0.0.3", "127.0.0.10"]
        assert len({process["pid"] for process in view["processes"]}) == len(view["processes"])
        assert sorted(each["name"] for each in view[key]) == sorted(names)
        assert view["partitions"] or view["queue"]["owner"] in names
        assert {partition["leader"] for partition in view["partitions"]} <= {*names}
        if backend == "kafka":
            return  # the fault is the same
        done = project.microq("chaos", "kill-member", "--target", "lowest", "-m", "30", "--json")
        assert done.returncode == 0, (done.stdout, done.stderr)
        found = json.loads(done.stdout)
        assert found["verdict"] == "pass"
        assert [hit["target"] for hit in found["faults"]] == [names[0]]
    finally:
        assert project.microq("down").returncode == 0
    assert not project.alive()
