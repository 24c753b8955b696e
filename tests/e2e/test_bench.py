"""What the benchmark says of real systems, and that it leaves nothing of them."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from support.commands import command, complaint
from support.project import Project, small

from microq.bench.experiments import Rate, cost_of

TINY = ("--seconds", "0.3", "--rounds", "1", "--connections", "4", "--quick")


def test_the_cost_is_a_ratio_of_medians() -> None:
    rates = [Rate(safe=True, per_second=90), Rate(safe=False, per_second=100)] * 2
    outlier = [Rate(safe=True, per_second=1), Rate(safe=False, per_second=1000)]
    found = cost_of([*rates, *outlier])
    assert (found.safe_per_s, found.bare_per_s, found.share) == (90, 100, 0.1)


@small
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("engine")
def test_every_part_is_measured_on_a_system_of_its_own(project: Project) -> None:
    words = [*TINY, "--lines", "200", "--held", "300", "--held", "600", "--json"]
    done = project.microq("bench", *words, seconds=570)
    assert done.returncode == 0, done.stderr
    assert not project.alive()
    found = json.loads(done.stdout)
    assert (found["complete"], found["omitted"], found["options"]["connections"]) == (True, [], [4])
    [level] = found["rates"][0]["levels"]
    # In so short a time a busy machine may make either of two rates the higher one.
    assert level["ceiling_per_s"] > 0 < level["pace"]["acknowledged_per_s"]
    assert level["ratio"] == pytest.approx(level["pace"]["acknowledged_per_s"] / level["ceiling_per_s"])
    assert set(found["rates"][0]["peak_bytes"]) == {*level["pace"]["cpu_s"]} - {"client"}
    assert all(found["rates"][0]["peak_bytes"].values())
    assert found["batch"]["acknowledged"] == 200
    assert found["bare"]["add_all_per_s"] > 0 < found["bare"]["put_if_absent_per_s"]
    assert (found["lag"]["messages"] > 0, found["lag"]["missing"]) == (True, 0)
    assert [one["messages"] for one in found["held"]] == [300, 600]
    assert found["held"][1]["reads"][0]["texts"] >= 600
    assert found["start"]["cold_s"][0] > 0 < found["start"]["warm_s"][0]
    assert found["idle"]["bytes"]["supervisor"] > 0
    assert found["cost"]["safe_per_s"] > 0 < found["cost"]["bare_per_s"]
    judged = {target["what"]: target["reached"] for target in found["targets"]}
    assert judged["--help"] is not None
    assert judged["128 connections, of a do-nothing handler"] is None
    folder = Path(found.pop("folder"))
    assert json.loads((folder / "bench.json").read_text(encoding="utf-8")) == found
    assert "POST/s accepted" in (folder / "bench.md").read_text(encoding="utf-8")
    assert not list(folder.glob("cold-*"))


@small
@pytest.mark.usefixtures("engine")
def test_what_cannot_be_measured_is_told_and_ends_with_1(project: Project) -> None:
    done = project.microq("bench", *TINY, "--only", "rates", "--set", "hazelcast.heap=999999g", "--json")
    assert done.returncode == 1, done.stderr
    (omitted,) = json.loads(done.stdout)["omitted"]
    assert (omitted["part"], omitted["failed"]) == ("rates", True)
    assert "ended" in omitted["why"]
    assert not project.alive()


def test_a_taken_port_is_said_before_anything_is_measured(project: Project) -> None:
    facade = project.config.service_ips.facade_service
    with socket.create_server((facade.host, facade.port)):
        done = project.microq("bench", "--only", "rates")
    assert f"needs {facade}, which is taken" in complaint(done, 4)
    assert not project.alive()


@small
@pytest.mark.parametrize(
    ("part", "moment"), [("start", "start"), ("rates", "ready after")], ids=["of a command", "of a system"]
)
@pytest.mark.usefixtures("engine")
def test_an_interrupt_leaves_nothing(part: str, moment: str, project: Project) -> None:
    with command(project, "bench", "--only", part, "--json") as running:
        running.says(moment, 90)
        running.interrupt()
        assert running.ended(60) == 130
        assert not json.loads(running.out)["complete"]
    assert not project.alive()


@small
@pytest.mark.usefixtures("engine")
def test_a_profile_shows_where_a_process_spends_its_time(project: Project) -> None:
    done = project.microq("bench", "--profile", "facade", "--seconds", "1", "--quick", "--json")
    if done.returncode == 4 and "forbids it" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert not project.alive()
    found = json.loads(done.stdout)
    assert found["process"].startswith("facade-")
    assert 0 < len(found["own_time"]) <= 20
    assert sum(each["share"] for each in found["own_time"]) <= 1.001
    assert Path(found["file"]).exists()


def test_what_cannot_be_profiled_is_refused(project: Project) -> None:
    assert "nothing here is called 'rabbit'" in complaint(project.microq("bench", "--profile", "rabbit"), 2)
    assert "jcmd PID JFR.start" in complaint(project.microq("bench", "--profile", "hazelcast"), 2)


def test_a_system_that_runs_here_is_left_alone(system: Project) -> None:
    assert "a system runs here already" in complaint(system.microq("bench"), 2)
