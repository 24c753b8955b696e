"""The commands of the faults: made from the registry, and one line for what cannot be."""

from __future__ import annotations

import json

import pytest
from support.commands import complaint
from support.project import Project

from microq.chaos.faults import FAULTS
from microq.chaos.faults.base import summary
from microq.supervisor import runs


def test_the_list_is_the_registry(project: Project) -> None:
    done = project.microq("chaos", "list", "--json")
    assert done.returncode == 0
    rows = json.loads(done.stdout)
    assert [row["fault"] for row in rows] == list(FAULTS)
    assert {row["fault"]: row["settings"] for row in rows}["full-queue"] == ["queue.max-size=100"]
    shown = project.microq("chaos", "list").stdout
    assert all(name in shown for name in FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_the_help_of_a_fault_is_its_docstring(project: Project, name: str) -> None:
    done = project.microq("chaos", name, "--help")
    assert done.returncode == 0
    words = " ".join(done.stdout.split())
    assert summary(FAULTS[name]) in words
    assert all(option in words for option in ("--messages", "--seed", "--connections", "--json"))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("all --only nonsense", "there is no fault 'nonsense'; there are kill-member,"),
        ("all --skip nonsense", "there is no fault 'nonsense'"),
        ("all --only poison --skip poison", "no fault is left to run"),
        ("controls --only nonsense", "there is no control 'nonsense'; the controls are no-backup,"),
        ("pause-member --target nosuch", "--target nosuch is not a member"),
        ("kill-two-members --set members=2", "needs 3 members, so that one survives; 2 are up"),
        ("full-queue --set queue.max-size=none", "max-size"),
        ("split-cluster --queue kafka", "split-cluster is a fault of hazelcast, and the queue is kafka's"),
        ("kill-leader --queue hazelcast", "kill-leader is a fault of kafka, and the queue is hazelcast's"),
        ("kill-member --members 2 --queue kafka", "without 2 of 3 brokers nothing can be sent or received"),
        (
            "kill-leader --target nosuch",
            "--target nosuch is not a broker that is up; choose one of lowest, owner, leader,",
        ),
        ("all --only split-cluster --queue kafka", "split-cluster is a fault of hazelcast, and the queue is kafka's"),
        ("controls --only no-backup --queue kafka", "no-backup is a control of hazelcast, not of kafka"),
        ("controls --only one-ack", "one-ack is a control of kafka, not of hazelcast"),
    ],
)
def test_what_cannot_be_gets_one_line(project: Project, words: str, part: str) -> None:
    assert part in complaint(project.microq("chaos", *words.split()), 2)
    assert not (project.folder / ".microq" / "runs").exists()


@pytest.mark.parametrize(
    "words",
    [
        "nonsense",
        "kill-facade --quiet",
        "kill-consumer --times 0",
        "poison -m 0",
        "all --runs 0",
        "kill-member --seed -1",
    ],
)
def test_wrong_options_get_a_usage(project: Project, words: str) -> None:
    done = project.microq("chaos", *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: microq chaos")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("full-queue", "a system runs here already, and full-queue needs a new one, with queue.max-size=100"),
        ("kill-facade --set messages=1", "a system runs here already, so --set or --queue would change nothing"),
        ("kill-leader", "and kill-leader needs a new one, with queue.backend=kafka"),
        ("kill-facade --queue kafka", "a system runs here already, so --set or --queue would change nothing"),
        ("all", "a system runs here already, and each run needs a fresh one"),
        ("controls", "a system runs here already, and each run needs a fresh one"),
    ],
)
def test_fault_that_needs_new_system_refuses_running_one(system: Project, words: str, part: str) -> None:
    assert part in complaint(system.microq("chaos", *words.split()), 2)


def test_two_scenarios_at_the_same_time_are_one_too_many(project: Project) -> None:
    with runs.only_scenario(project.config):
        line = complaint(project.microq("chaos", "kill-member"), 2)
        assert "another scenario runs in" in line
    with runs.only_scenario(project.config) as ended_before:
        assert ended_before is None
