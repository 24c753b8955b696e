"""The assignment as one command, on real servers: it holds step by step, and a step that does not hold rings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import command
from support.html import Reader
from support.project import Project

from microq.config import Address

FEW = ("--set", "members=2", "--set", "messages=1", "--set", "logging=1")
"""Settings with few processes, for what does not depend on their number."""


def test_every_step_holds_with_kafka(project: Project, engine: None) -> None:
    done = project.microq(
        *("assignment", "--queue", "kafka", "--set", "members=1", "--student", "Ada <b>Ω</b>", "--json")
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    found = json.loads(done.stdout)
    steps = {step["number"]: step for step in found["steps"]}
    assert (found["verdict"], found["held"], list(steps)) == ("pass", 9, list(range(1, 10)))
    shares = [part["title"] for part in steps[4]["evidence"]]
    assert [title.partition(":")[0] for title in shares] == [f"messages-{a.port}" for a in _consumers(project)]
    assert sum(len(part["rows"]) for part in steps[3]["evidence"]) >= 10
    assert "it was a leader of the queue's partitions" in steps[8]["came"]
    assert "0 lost, 0 duplicated" in steps[9]["came"]
    page = Reader(Path(found["report"]).read_text(encoding="utf-8"))
    assert "Name: Ada <b>Ω</b>" in page.words
    assert "all 9 steps hold" in page.words
    assert page.figures.keys() == {"timeline"}
    assert not project.alive()
    again = project.microq("verify", found["history"])
    assert again.returncode == 0, again.stdout


def _consumers(project: Project) -> list[Address]:
    return sorted(project.config.service_ips.messages_service)


def test_steps_that_do_not_hold_say_what_came(project: Project, engine: None) -> None:
    done = project.microq("assignment", *FEW, "--target", "owner", "--set", "queue.backup-count=0")
    assert done.returncode == 1, (done.stdout, done.stderr)
    lines = done.stdout.splitlines()
    assert [line[:3] for line in lines if line[:1] in "✓✗?" and line[1:2] == " "] == [
        *("✗ 1", "✓ 2", "✓ 3", "✓ 4", "✓ 5", "✓ 6", "✗ 7", "✓ 8", "✗ 9")
    ]
    for said in (
        "expected: 3 logging-services, 2 messages-services, 1 facade, 2 members or more, all ready",
        "came:     1 logging-service, 1 messages-service, 1 facade, 2 members ready",
        "not every message has a second copy: a server that ends takes messages with it",
        "it was the queue's primary owner",
        "lost: msg1, ",
        "FAIL  6 of 9 steps hold",
    ):
        assert said in done.stdout
    assert not project.alive()


def test_interrupt_leaves_nothing(project: Project, engine: None) -> None:
    with command(project, "assignment", *FEW, "--pace", "300") as interrupted:
        interrupted.says("1 Start everything")
        interrupted.interrupt()
        assert interrupted.ended() == 130
        assert "everything that was started for this run is stopped" in interrupted.err
    assert not project.alive()


@pytest.mark.parametrize("project", [{"extra": 'environment = ["JAVA_TOOL_OPTIONS=-XX:+Nonsense"]\n'}], indirect=True)
def test_server_that_cannot_start_is_the_result_of_step_1(project: Project, engine: None) -> None:
    done = project.microq("assignment", "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert [step["ruling"] for step in found["steps"]] == ["fail", *["unknown"] * 8]
    assert "before it was ready" in found["steps"][0]["came"]
    assert found["steps"][8]["came"] == "not tried, because step 1 does not hold"
    assert "Unrecognized VM option" in Path(found["report"]).read_text(encoding="utf-8")
    assert not project.alive()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--set hazelcast.managed=false", "managed = false: the servers are not microq's, it cannot kill one"),
        ("--set members=1", "needs 2 members, so that one survives; 1 is up"),
        ("--queue kafka --set brokers=2", "without 1 of 2 brokers nothing can be sent or received"),
    ],
)
def test_system_that_cannot_be_broken_gets_one_line(project: Project, words: str, part: str) -> None:
    done = project.microq("assignment", *words.split())
    assert done.returncode == 2
    assert part in done.stderr
    assert not (project.folder / ".microq" / "runs").exists()
