"""Both queues through the same scenarios, with real systems, and what keeps them from it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support.commands import command, complaint
from support.project import Project

SCENES = ("kill-quiet", "kill-live", "pause-live")


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("engine")
def test_both_queues_are_measured_and_nothing_is_left(project: Project) -> None:
    words = ["compare", "--quick", "--seconds", "0.5", "--seed", "7", "--junit", "junit.xml", "--json"]
    done = project.microq(*words, seconds=570)
    # A machine that others use may leave a fault unproved; nothing may fail.
    assert done.returncode in {0, 3}, done.stderr
    assert not project.alive()
    found = json.loads(done.stdout)
    assert (found["complete"], found["seed"], found["runs"]["backends"]) == (True, 7, ["hazelcast", "kafka"])
    assert all(found["versions"].values())
    lines = {(line["group"], line["measure"]): line for line in found["table"]}
    for backend in ("hazelcast", "kafka"):
        values = {key: line["values"][backend] for key, line in lines.items()}
        assert values["start-up", "every process ready"] > 0
        assert values["stored, end to end", "128 connections"] > 0
        assert values["memory", "servers of the queue, idle"] > 100
        assert values["kill the owner under traffic", "acknowledged"] >= 500
    assert lines["stored, end to end", "128 connections"]["ratio"] > 0
    told = [(one["backend"], one["scene"]) for one in found["runs"]["struck"]]
    assert told == [(queue, scene) for queue in ("hazelcast", "kafka") for scene in SCENES]
    for one in found["runs"]["struck"]:
        judged = project.microq("verify", one["row"]["history"], "--json")
        assert json.loads(judged.stdout)["verdict"] == one["row"]["verdict"] != "fail"
    [file] = (project.folder / ".microq" / "runs").glob("*-compare/compare.json")
    assert Path(found.pop("report")) == file.with_name("report.html")
    assert "Hazelcast and Kafka" in file.with_name("report.html").read_text(encoding="utf-8")
    cases = ET.parse(project.folder / "junit.xml").getroot()  # noqa: S314 - ours
    assert (cases.get("tests"), cases.get("failures"), cases.get("errors")) == ("6", "0", "0")
    assert json.loads(file.read_text(encoding="utf-8")) == found


@pytest.mark.parametrize(
    ("moment", "starts"), [("a handler that does nothing", 0), ("ready after", 1)], ids=["before", "within"]
)
@pytest.mark.usefixtures("engine")
def test_an_interrupt_shows_what_there_is_and_leaves_nothing(moment: str, starts: int, project: Project) -> None:
    with command(project, "compare", "--only", "hazelcast", "--quick", "--json") as running:
        running.says(moment, 120)
        running.interrupt()
        assert running.ended(60) == 130
        found = json.loads(running.out)
    assert not project.alive()
    assert not found["complete"]
    assert len(found["runs"]["started"]) == starts
    assert found["runs"]["struck"] == []


def test_a_system_that_runs_here_is_left_alone(system: Project) -> None:
    assert "a system runs here already" in complaint(system.microq("compare"), 2)


def test_what_cannot_be_compared_is_refused(project: Project) -> None:
    unknown = project.microq("compare", "--only", "rabbit")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "'rabbit' is not one of 'hazelcast', 'kafka'" in unknown.stderr
    refused = project.microq("compare", "--only", "hazelcast", "--set", "hazelcast.managed=false")
    assert "[hazelcast] managed = false" in complaint(refused, 2)
    refused = project.microq("compare", "--only", "hazelcast", "--set", "members=1")
    assert "kill-member needs 2 members, so that one survives; 1 is up" in complaint(refused, 2)
    assert not (project.folder / ".microq").exists()
