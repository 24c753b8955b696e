"""Every fault on real members and services, with small counts; and the controls, which must be red."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import told
from support.controls import controlled, needs_own
from support.project import Project, up

from microq.chaos.controls import CONTROLS, outcome
from microq.chaos.faults import FAULTS

SHORT = {
    "bounce-owner": ["--times", "2"],
    "kill-consumer": ["--times", "3"],
    "kill-logging": ["--times", "1"],
    "pause-logging": ["--times", "1"],
    "starve": ["--times", "3"],
}
"""Fault -> options that make it short; the full counts are those of `microq chaos all`."""

GENTLY = ("--connections", "8")
"""Half of the traffic that goes on while a fault lasts, which is most of what its history and its judging cost."""

MINE = {name: kind for name, kind in FAULTS.items() if kind.suits("hazelcast")}
ANYWHERE = [name for name, kind in MINE.items() if not (kind.needs_links or kind.settings)]
"""Faults that can be tried on a system that runs, which is restored afterwards."""

CONTROLLED = [each for each in CONTROLS.values() if each.suits("hazelcast")]

OWN = [name for name, kind in MINE.items() if kind.settings]
"""Faults that need a system of their own; those of the links are tried on one behind links, in `test_detours`."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Iterator[Project]:
    """A real system for these tests alone: what they do to it is no other test's business."""
    with up(tmp_path_factory.mktemp("broken")) as found:
        yield found


def nothing_is_lost(project: Project, name: str) -> None:
    live = ["--live", "--target", "owner"] if name == "kill-member" else []
    found = told(project, name, "-m", "300", *GENTLY, "--seed", "1", *live, *SHORT.get(name, []))
    assert (found["verdict"], found["reasons"], found["quiet"], found["seed"]) == ("pass", [], False, 1)
    assert found["acknowledged"] >= 300
    assert [found[kind] for kind in ("lost", "unlogged", "unexpected", "duplicated")] == [[]] * 4
    assert found["faults"]
    assert all(hit["fault"] == name and hit["seen"] for hit in found["faults"])


@pytest.mark.last
@pytest.mark.parametrize("name", ANYWHERE)
def test_fault_loses_nothing_and_restores_the_system(running: Project, name: str) -> None:
    nothing_is_lost(running, name)
    view = json.loads(running.microq("status", "--json").stdout)
    assert {process["state"] for process in view["processes"]} == {"ready"}


@pytest.mark.last
@pytest.mark.parametrize("name", [each.name for each in CONTROLLED if not needs_own(each)])
def test_a_control_on_a_system_that_runs_is_red(running: Project, name: str) -> None:
    found = controlled(running, CONTROLS[name])
    assert CONTROLS[name].red(found), (outcome(found), found.reasons)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", OWN)
def test_nothing_is_lost_under_a_fault_on_a_system_of_its_own(project: Project, name: str) -> None:
    nothing_is_lost(project, name)
    assert not project.alive()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", [each.name for each in CONTROLLED if needs_own(each)])
def test_a_control_on_a_system_of_its_own_is_red(project: Project, name: str) -> None:
    [row] = told(project, "controls", "--only", name, "--junit", "junit.xml")
    assert (row["control"], row["runs"], row["red"]) == (name, 1, 1)
    [case] = ET.parse(project.folder / "junit.xml").iter("testcase")  # noqa: S314 - ours
    assert list(case) == []
    assert list((project.folder / ".microq" / "runs").glob("*/report.html"))
    assert not project.alive()


@pytest.mark.usefixtures("engine")
def test_matrix_writes_rows_and_refuses_a_running_system(project: Project) -> None:
    words = ["chaos", "all", "--only", "kill-logging", "--times", "1", "-m", "100", "--set", "members=1"]
    done = project.microq(*words, "--json", "rows.jsonl", "--junit", "junit.xml")
    assert done.returncode == 0, (done.stdout, done.stderr)
    [row] = [json.loads(line) for line in (project.folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (row["fault"], row["verdict"], row["lost"]) == ("kill-logging", "pass", 0)
    assert project.microq("verify", row["history"]).returncode == 0
    assert not Path(row["history"]).with_name("report.html").exists()
    [case] = ET.parse(project.folder / "junit.xml").iter("testcase")  # noqa: S314 - ours
    assert (case.get("classname"), list(case.iter("failure"))) == ("hazelcast.live", [])
    assert "kill-logging" in done.stdout
    assert not project.alive()
