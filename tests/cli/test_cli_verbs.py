"""The verbs on single processes of the shared system, which each test leaves whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from commands import complaint
from conftest import Project


@pytest.fixture(autouse=True)
def whole(system: Project) -> Iterator[None]:
    """Bring back what a failed test would have left broken."""
    yield
    for name, process in processes(system).items():
        if process["state"] != "ready":
            system.microq("resume" if process["state"] == "paused" else "start", name)


def processes(system: Project) -> dict[str, Any]:
    data = json.loads(system.microq("status", "--json").stdout)
    return {process["name"]: process for process in data["processes"]}


def state(system: Project, name: str) -> str:
    return str(processes(system)[name]["state"])


def messages(system: Project) -> list[str]:
    return [f"messages-{address.port}" for address in system.config.service_ips.messages_service]


def test_stop_and_start_by_name(system: Project) -> None:
    name = messages(system)[0]
    before = processes(system)[name]
    stopped = system.microq("stop", name)
    assert (stopped.returncode, stopped.stdout) == (0, f"Stopped {name}\n")
    assert not psutil.pid_exists(before["pid"])
    gone = processes(system)[name]
    assert (gone["state"], gone["pid"], gone["rss"]) == ("stopped", None, None)
    started = system.microq("start", name)
    assert (started.returncode, started.stdout) == (0, f"Started {name}\n")
    assert processes(system)[name]["restarts"] == before["restarts"] + 1


def test_kill_by_port(system: Project) -> None:
    address = system.config.service_ips.logging_service[0]
    name = f"logging-{address.port}"
    killed = system.microq("kill", str(address.port))
    assert (killed.returncode, killed.stdout) == (0, f"Killed {name}\n")
    assert "`microq start NAME`" in killed.stderr
    gone = processes(system)[name]
    assert (gone["state"], gone["exit_status"]) == ("exited", -9)
    assert system.microq("start", str(address.port)).returncode == 0
    assert state(system, name) == "ready"


def test_restart_of_a_group(system: Project) -> None:
    before = processes(system)
    result = system.microq("restart", "messages")
    assert (result.returncode, result.stdout) == (0, f"Restarted {', '.join(messages(system))}\n")
    after = processes(system)
    assert all(after[name]["pid"] != before[name]["pid"] for name in messages(system))
    assert {name for name in after if after[name]["pid"] != before[name]["pid"]} == set(messages(system))


def test_pause_and_resume(system: Project) -> None:
    name = messages(system)[1]
    assert system.microq("pause", name).stdout == f"Paused {name}\n"
    seen = processes(system)[name]
    assert seen["state"] == "paused"
    assert psutil.Process(seen["pid"]).status() == psutil.STATUS_STOPPED
    assert "paused; only what is ready" in complaint(system.microq("pause", name), 2)
    assert system.microq("resume", name).stdout == f"Resumed {name}\n"
    assert state(system, name) == "ready"
    assert "ready; only what is paused" in complaint(system.microq("resume", name), 2)


def test_a_verb_as_json(system: Project) -> None:
    name = messages(system)[0]
    result = system.microq("restart", name, "--json")
    assert json.loads(result.stdout) == {"verb": "restart", "names": [name]}


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_start_of_what_runs_is_said(more: list[str], system: Project) -> None:
    result = system.microq("start", "all", *more)
    assert (result.returncode, result.stdout) == (2, "")
    assert "nothing to start" in result.stderr
    assert "ready already" in result.stderr


@pytest.mark.parametrize("verb", ["start", "stop", "kill", "restart", "pause", "resume"])
def test_an_unknown_name_lists_the_known_ones(verb: str, system: Project) -> None:
    line = complaint(system.microq(verb, messages(system)[0], "nobody"), 2)
    assert "'nobody'" in line
    assert all(name in line for name in ("messages", "hazelcast", *messages(system)))
    assert {process["state"] for process in processes(system).values()} == {"ready"}
