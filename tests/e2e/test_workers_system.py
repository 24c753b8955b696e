"""Workers of the facade on a real system: what hits the facade hits all of them, and nothing acknowledged is lost."""

from __future__ import annotations

import json
from typing import Any

import psutil
import pytest
from support.commands import told
from support.project import Project, small

from microq.supervisor.records import alive

pytestmark = pytest.mark.usefixtures("engine")


def facade(project: Project) -> dict[str, Any]:
    listed = json.loads(project.microq("status", "--json").stdout)["processes"]
    (view,) = [process for process in listed if process["role"] == "facade"]
    return dict(view)


def workers(project: Project) -> list[psutil.Process]:
    return psutil.Process(facade(project)["pid"]).children()


@small
def test_facade_of_two_workers_is_one_process_of_the_system(project: Project) -> None:
    assert project.microq("up", "-d", "--set", "facade.workers=2").returncode == 0
    before = workers(project)
    assert len(before) == 2
    assert project.microq("pause", "facade").returncode == 0
    assert {worker.status() for worker in before} == {psutil.STATUS_STOPPED}
    assert project.microq("resume", "facade").returncode == 0
    found = told(project, "kill-facade", "-m", "200")
    assert found["verdict"] == "pass"
    assert not any(alive(worker) for worker in before)
    after = workers(project)
    assert len(after) == 2
    assert facade(project)["rss"] > sum(worker.memory_info().rss for worker in after)
    assert project.microq("down").returncode == 0
    assert not any(alive(worker) for worker in after)
