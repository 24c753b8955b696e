"""Systems of one folder, side by side: each has its own ports, messages, records and page, and ends by itself."""

from __future__ import annotations

import dataclasses
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import until
from support.project import TWO, Project, up

from microq.config import Config, started_addresses
from microq.supervisor import records

NAMED = {"MICROQ_NAME": "b"}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Iterator[Project]:
    """A folder in which a system without a name runs, and one that is called b."""
    with up(tmp_path_factory.mktemp("both"), *TWO) as project:
        started = project.microq("up", "-d", "--name", "b", *TWO)
        assert started.returncode == 0, started.stderr
        assert "`microq down --name b` stops it" in started.stderr
        try:
            yield project
        finally:
            ended = project.microq("down", "--name", "b")
            assert ended.returncode == 0, ended.stderr
            assert not records.leftovers(named(project))


def named(project: Project) -> Config:
    return dataclasses.replace(project.config, name="b")


def listed(project: Project) -> dict[str, Any]:
    found = json.loads(project.microq("ls", "--json").stdout)
    return {one["name"]: one for one in found if one["folder"] == str(project.folder)}


def test_a_scenario_breaks_the_system_that_is_named(both: Project) -> None:
    done = both.microq("chaos", "kill-member", "-m", "20", "--name", "b", "--json")
    assert done.returncode == 0, (done.stdout, done.stderr)
    history = Path(json.loads(done.stdout)["history"])
    assert history.is_relative_to(both.folder / ".microq" / "names" / "b")
    broken = json.loads(both.microq("status", "--json", "--name", "b").stdout)["processes"]
    assert sum(process["restarts"] for process in broken) > 0
    untouched = json.loads(both.microq("status", "--json").stdout)["processes"]
    assert sum(process["restarts"] for process in untouched) == 0


def test_systems_of_one_folder_run_side_by_side(both: Project) -> None:
    systems = listed(both)
    assert {name: (one["state"], one["processes"]) for name, one in systems.items()} == {
        "": ("running", systems[""]["processes"]),
        "b": ("running", systems[""]["processes"]),
    }
    ours, theirs = both.config, records.in_force(named(both))
    assert not {*started_addresses(ours)} & {*started_addresses(theirs)}

    # Each has its own messages.
    assert both.microq("send", "3", "--prefix", "first").returncode == 0
    assert both.microq("send", "5", "--prefix", "second", "--name", "b").returncode == 0
    checks = [both.microq("read", "--check", environ=environ).returncode for environ in ({}, NAMED)]
    assert checks == [0, 0]
    shown = [both.microq("read", "-n", "1", "--json", environ=environ).stdout for environ in ({}, NAMED)]
    assert ["first" in text for text in shown] == [True, False]
    assert ["second" in text for text in shown] == [False, True]

    # What is done to one leaves the other one alone.
    assert both.microq("kill", "messages", "--name", "b").returncode == 0
    states = {process["state"] for process in json.loads(both.microq("status", "--json").stdout)["processes"]}
    assert states == {"ready"}
    twice = both.microq("up", "-d", "--name", "b")
    assert twice.returncode == 2
    assert "`microq status --name b` shows it" in twice.stderr

    page = both.microq("dashboard", "--no-open", "--name", "b").stdout.strip()
    assert page.startswith(f"http://{theirs.dashboard.address}/?token=")
    with urllib.request.urlopen(f"http://{theirs.dashboard.address}/api/state", timeout=20) as answer:
        assert json.load(answer)["project"] == f"{both.folder.name} (name b)"

    # The end of one is not the other one's.
    assert both.microq("down").returncode == 0
    assert {*listed(both)} == {"b"}
    assert both.microq("start", "messages", "--name", "b").returncode == 0
    until(lambda: both.microq("read", "--check", "--name", "b").returncode == 0)
