"""The same proof with real brokers: the leader is killed, and every fault that makes sense, on one system."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support.commands import accounted_for, asked, observed, told, until
from support.controls import controlled
from support.project import Project, up

from microq.chaos.controls import CONTROLS, outcome

SHORT = {
    "bounce-owner": ["--times", "2"],
    "kill-consumer": ["--times", "2"],
    "starve": ["--times", "3"],
    "kill-facade": ["--times", "1"],
    "kill-member": ["--live"],
}
"""Fault -> options that make it short, or live; the full counts are those of `microq chaos all`."""


GENTLY = ("--connections", "8")
"""Half of the traffic that goes on while a fault lasts, which is most of what its history and its judging cost."""


MINE = [name for name, each in CONTROLS.items() if each.suits("kafka") and not each.suits("hazelcast")]

COLD = "one-ack"
"""The control of these that has a system of its own; the others are tried on the one that runs."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Iterator[Project]:
    with up(tmp_path_factory.mktemp("topic"), "--queue", "kafka") as found:
        yield found


def assert_whole(project: Project) -> None:
    """Everything is up, every partition led, every copy in sync."""
    view = observed(project, lambda view: bool(view["partitions"]))
    assert {process["state"] for process in view["processes"]} == {"ready"}
    assert [len(partition["in_sync"]) for partition in view["partitions"]] == [3, 3, 3]
    assert all(broker["cluster_safe"] and broker["members_seen"] == 3 for broker in view["brokers"])


def test_no_message_is_lost_when_a_leader_dies(running: Project) -> None:
    done = running.microq("chaos", "kill-leader", "-m", "50", "--json")
    assert done.returncode == 0, (done.stdout, done.stderr)
    found = json.loads(done.stdout)
    assert (found["verdict"], found["reasons"], found["queue"], found["quiet"]) == ("pass", [], "kafka", True)
    accounted_for(found, 51)  # with the probe after the kill
    assert found["redelivered"] == []
    [hit] = found["faults"]
    assert (hit["fault"], hit["owner"], hit["seen"]) == ("kill-leader", True, True)
    owned = [owned for owned, _ in found["copies_before"].values()]
    assert 0 < sum(owned) <= 50
    assert sum(backups for _, backups in found["copies_before"].values()) == 2 * sum(owned)
    assert found["copies_before"][hit["target"]][0] == max(owned)
    assert set(found["copies_after"]) == set(found["copies_before"]) - {hit["target"]}
    assert sum(owned for owned, _ in found["copies_after"].values()) >= sum(owned)
    for step in ("It leads partition", "killed", "every partition has a leader", "its followers are in sync"):
        assert step in done.stderr
    assert_whole(running)
    again = running.microq("verify", found["history"])
    assert again.returncode == 0
    assert f"{hit['target']} (a leader)" in again.stdout


@pytest.mark.parametrize(
    "name",
    [
        "kill-member",
        "stop-member",
        "pause-member",
        "starve",
        "bounce-owner",
        "kill-two-members",
        "kill-while-restoring",
        "rolling-restart",
        "kill-consumer",
        "kill-facade",
        "poison",
    ],
)
def test_nothing_is_lost_under_a_fault(running: Project, name: str) -> None:
    found = told(running, name, "-m", "200", *GENTLY, "--seed", "1", *SHORT.get(name, []))
    assert (found["verdict"], found["reasons"], found["quiet"]) == ("pass", [], False)
    assert found["acknowledged"] >= 200
    assert [found[kind] for kind in ("lost", "unlogged", "unexpected", "duplicated")] == [[]] * 4
    assert found["faults"]
    assert all(hit["seen"] for hit in found["faults"])
    if name == "kill-two-members":
        assert found["rejected"] >= 1, "with one broker of three a message is refused for certain"
    assert_whole(running)


def test_the_queue_shows_the_leaders(running: Project) -> None:
    def shown() -> bool:
        done = running.microq("queue")
        assert done.returncode == 0, done.stderr
        assert "PARTITION" in done.stdout
        return done.stdout.count("3 of 3: ") == 3

    until(shown)
    data = observed(running, lambda view: bool(view["partitions"]))
    assert {partition["leader"] for partition in data["partitions"]} <= {broker["name"] for broker in data["brokers"]}
    assert asked(running, "queue").keys() == {"queue", "members", "brokers", "partitions", "taken_at"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["kill-member", "--members", "2"], "without 2 of 3 brokers nothing can be sent or received"),
        (["kill-leader", "--target", "nosuch"], "--target nosuch is not a broker that is up"),
    ],
)
def test_what_makes_no_sense_with_brokers_is_refused(running: Project, words: list[str], says: str) -> None:
    before = asked(running, "status")
    done = running.microq("chaos", *words)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert says in done.stderr.splitlines()[-1]
    assert [p["pid"] for p in asked(running, "status")["processes"]] == [p["pid"] for p in before["processes"]]


@pytest.mark.parametrize("name", [name for name in MINE if name != COLD])
def test_a_control_on_a_system_that_runs_is_red(running: Project, name: str) -> None:
    found = controlled(running, CONTROLS[name])
    assert CONTROLS[name].red(found), (outcome(found), found.reasons)


def test_a_control_on_a_system_of_its_own_is_red(project: Project, kafka_engine: None) -> None:
    [row] = told(project, "controls", "--only", COLD, "--queue", "kafka")
    assert (row["control"], row["runs"], row["red"]) == (COLD, 1, 1), row
    assert not project.alive()
