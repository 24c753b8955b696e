"""The verbs on single processes of the shared system, which each test leaves whole."""

from __future__ import annotations

import json
from typing import Any

import psutil
import pytest
from support.commands import complaint, observed
from support.project import Project


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
    assert f"`microq start {name}` brings it back" in killed.stderr
    gone = processes(system)[name]
    assert (gone["state"], gone["exit_status"]) == ("exited", -9)
    assert system.microq("start", str(address.port)).returncode == 0
    assert state(system, name) == "ready"


def test_restart_of_a_group(system: Project) -> None:
    before = processes(system)
    result = system.microq("restart", "messages")
    assert (result.returncode, result.stdout) == (0, f"Restarted {', '.join(sorted(messages(system)))}\n")
    after = processes(system)
    assert all(after[name]["pid"] != before[name]["pid"] for name in messages(system))
    assert {name for name in after if after[name]["pid"] != before[name]["pid"]} == set(messages(system))


def test_pause_and_resume(system: Project) -> None:
    name = messages(system)[1]
    assert system.microq("pause", name).stdout == f"Paused {name}\n"
    seen = processes(system)[name]
    assert seen["state"] == "paused"
    assert psutil.Process(seen["pid"]).status() == psutil.STATUS_STOPPED
    again = system.microq("pause", name)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", f"Left as they are: {name} (paused)\n")
    rest = system.microq("pause", "messages")
    assert (rest.returncode, rest.stdout) == (0, f"Paused {messages(system)[0]}\n")
    assert f"{name} (paused)" in rest.stderr
    assert system.microq("resume", messages(system)[0]).returncode == 0
    rest = system.microq("resume", "all")
    assert (rest.returncode, rest.stdout) == (0, f"Resumed {name}\n")
    assert f"{messages(system)[0]} (ready)" in rest.stderr
    assert system.microq("pause", name).returncode == 0
    assert system.microq("resume", name).stdout == f"Resumed {name}\n"
    assert state(system, name) == "ready"
    again = system.microq("resume", name, "--json")
    assert (again.returncode, json.loads(again.stdout)) == (0, {"verb": "resume", "names": [], "skipped": [name]})


def test_what_is_down_cannot_be_paused_and_need_not_be_stopped(system: Project) -> None:
    name = messages(system)[0]
    assert system.microq("stop", name).returncode == 0
    for verb in ("pause", "resume"):
        assert f"nothing to {verb}: {name} is stopped" in complaint(system.microq(verb, name), 2)
    for verb in ("stop", "kill"):
        done = system.microq(verb, name)
        assert (done.returncode, done.stderr) == (0, f"Left as they are: {name} (stopped)\n")
    assert system.microq("start", name).returncode == 0


def test_a_verb_as_json(system: Project) -> None:
    name = messages(system)[0]
    result = system.microq("restart", name, "--json")
    assert json.loads(result.stdout) == {"verb": "restart", "names": [name], "skipped": []}


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_start_of_what_runs_is_said(more: list[str], system: Project) -> None:
    result = system.microq("start", "all", *more)
    assert result.returncode == 0
    if more:
        assert set(json.loads(result.stdout)["skipped"]) == set(processes(system))
    else:
        assert result.stderr.startswith("Left as they are: ")
        assert result.stderr.count("(ready)") == len(processes(system))


@pytest.mark.parametrize("verb", ["start", "stop", "kill", "restart", "pause", "resume"])
def test_an_unknown_name_lists_the_known_ones(verb: str, system: Project) -> None:
    line = complaint(system.microq(verb, messages(system)[0], "nobody"), 2)
    assert "'nobody'" in line
    assert all(name in line for name in ("messages", "hazelcast", *messages(system)))
    assert {process["state"] for process in processes(system).values()} == {"ready"}


def test_a_server_is_called_by_what_it_is(system: Project) -> None:
    lowest = f"hazelcast-{min(address.port for address in system.config.hazelcast.hazelcast_clients)}"
    paused = system.microq("pause", "lowest")
    assert (paused.returncode, paused.stdout) == (0, f"Paused {lowest}\n")
    assert f"the lowest is {lowest}" in paused.stderr
    assert system.microq("resume", lowest).returncode == 0
    owner = observed(system, lambda view: bool(view["queue"]["owner"]))["queue"]["owner"]
    killed = system.microq("kill", "owner", "leader")
    assert (killed.returncode, killed.stdout) == (0, f"Killed {owner}\n")
    line = complaint(system.microq("start", "owner"), 2)
    assert "only a server that is up can be the owner" in line
    assert system.microq("start", owner).returncode == 0


def test_unreported_owner_is_unknown(system: Project) -> None:
    assert system.microq("stop", "facade").returncode == 0
    try:
        line = complaint(system.microq("kill", "owner"), 3)
        assert "the owner is unknown now: facade-" in line
        lowest = processes(system)
        assert {p["state"] for name, p in lowest.items() if name.startswith("hazelcast")} == {"ready"}
    finally:
        assert system.microq("start", "facade").returncode == 0
