"""`status`, `queue` and `logs` of the shared system."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from support.commands import asked, command, complaint, observed, until
from support.project import Project, environment, small

from microq.config import Address


def names(system: Project) -> set[str]:
    config = system.config
    ips = config.service_ips
    groups: dict[str, tuple[Address, ...]] = {
        "hazelcast": config.hazelcast.hazelcast_clients,
        "messages": ips.messages_service,
        "logging": ips.logging_service,
        "facade": (ips.facade_service,),
        "config": (ips.config_service,),
    }
    return {f"{group}-{address.port}" for group, addresses in groups.items() for address in addresses}


def test_status_shows_every_process(system: Project) -> None:
    until(lambda: "cluster safe" in system.microq("status").stdout)  # unknown while a member is busy
    result = system.microq("status")
    assert (result.returncode, result.stderr) == (0, "")
    assert all(name in result.stdout for name in names(system))
    assert "\x1b" not in result.stdout
    listed = json.loads(system.microq("status", "--json").stdout)["processes"]
    cells = set(result.stdout.split())
    assert {process["address"] for process in listed} <= cells


def test_status_as_json(system: Project) -> None:
    data = observed(system, lambda view: bool(view["queue"]["owner"]))
    assert {process["name"] for process in data["processes"]} == names(system)
    assert all(process["state"] == "ready" and process["rss"] > 1 << 20 for process in data["processes"])
    assert [member["members_seen"] for member in data["members"]] == [3, 3, 3]
    assert data["queue"]["owner"] in {member["name"] for member in data["members"]}


def test_queue_stars_the_owner(system: Project) -> None:
    owner = observed(system, lambda view: bool(view["queue"]["owner"]))["queue"]["owner"]
    until(lambda: "★" in system.microq("queue").stdout)
    (starred,) = [line for line in system.microq("queue").stdout.splitlines() if "★" in line]
    assert owner in starred


def test_queue_as_json(system: Project) -> None:
    observed(system, lambda view: view["queue"]["size"] == 0)  # what other tests sent has arrived
    data = asked(system, "queue")
    assert set(data) == {"queue", "members", "brokers", "partitions", "taken_at"}
    assert (data["queue"]["backup_count"], data["queue"]["size"]) == (2, 0)


@pytest.mark.parametrize("words", ["status", "queue"])
def test_watch_goes_on_until_it_is_interrupted(words: str, system: Project) -> None:
    with command(system, words, "--watch") as watching:
        until(lambda: watching.out.count("★") >= 2)
        watching.interrupt()
        assert watching.ended() == 130
        assert watching.err == ""


def test_a_watch_tells_what_happens_and_what_must_be_known(system: Project) -> None:
    facade = f"facade-{system.config.service_ips.facade_service.port}"
    with command(system, "status", "--watch") as watching:
        watching.says("safe")
        assert system.microq("pause", facade).returncode == 0
        watching.says("‖ paused")
        watching.says("! the facade does not answer")
        assert system.microq("resume", facade).returncode == 0
        watching.interrupt()
        assert watching.ended() == 130
        assert "\x1b" not in watching.out


def test_a_watch_as_json_has_one_object_a_line(system: Project) -> None:
    with command(system, "status", "--watch", "--json") as watching:
        until(lambda: watching.out.count("\n") >= 2)
        watching.interrupt()
        assert watching.ended() == 130
    first, second, *_ = map(json.loads, watching.out.splitlines())
    assert set(first) == set(second) == set(json.loads(system.microq("status", "--json").stdout))
    assert first["taken_at"] < second["taken_at"]


@small
def test_a_watch_outlives_the_system_and_sees_the_next_one(project: Project, engine: None) -> None:
    assert project.microq("up", "-d").returncode == 0
    with command(project, "status", "--watch") as watching:
        watching.says("★")
        assert project.microq("down").returncode == 0
        watching.says("does not answer; waiting for it")
        before = watching.out.count("★")
        assert project.microq("up", "-d").returncode == 0
        until(lambda: watching.out.count("★") > before)
        assert project.microq("down").returncode == 0
        watching.interrupt()
        assert watching.ended() == 130
        assert "Traceback" not in watching.err


def test_watch_on_a_terminal_leaves_the_screen_as_it_was(system: Project) -> None:
    terminal, end = pty.openpty()
    shown = b""
    with (
        os.fdopen(terminal, "rb", buffering=0) as screen,
        subprocess.Popen(
            [sys.executable, "-m", "microq", "status", "--watch"],
            cwd=system.folder,
            env={**environment(), "TERM": "xterm", "COLUMNS": "100"},
            stdin=end,
            stdout=end,
            stderr=end,
        ) as watching,
    ):
        os.close(end)
        while b"ready" not in shown:
            shown += screen.read(4096)
        watching.send_signal(signal.SIGINT)
        try:
            while more := screen.read(4096):
                shown += more
        except OSError:
            pass  # how a terminal says that its other end is closed
        assert watching.wait(60) == 130
    assert shown.count(b"\x1b[?1049h") == shown.count(b"\x1b[?1049l") == 1
    assert b"Traceback" not in shown


def test_logs_of_all(system: Project) -> None:
    result = system.microq("logs", "-n", "1")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert {line.split()[2] for line in lines} == names(system)
    assert lines == sorted(lines, key=lambda line: line[:23])


def test_logs_of_none(system: Project) -> None:
    assert system.microq("logs", "-n", "0").stdout == ""


def test_logs_of_one_with_a_text(system: Project) -> None:
    port = system.config.service_ips.facade_service.port
    result = system.microq("logs", str(port), "-n", "100000", "--grep", "is ready, listening")
    # One for each start: another test of the same system may have restarted it.
    *_, line = result.stdout.splitlines()
    assert line.endswith(f"facade-{port} is ready, listening on 127.0.0.1:{port}")
    assert (
        system.microq("logs", str(port), "-n", "100000", "--grep", "is ready, listening", "--raw").stdout
        == result.stdout
    )


def test_logs_of_nobody(system: Project) -> None:
    line = complaint(system.microq("logs", "nobody"), 2)
    assert all(name in line for name in names(system))


def test_followed_logs_show_new_lines_until_interrupted(system: Project) -> None:
    followed = '"to be followed"'
    with command(system, "logs", "messages", "-f", "-n", "0") as following:
        # What comes before the command follows is not shown.
        until(lambda: system.microq("send", "--text", "to be followed").returncode == 0 and followed in following.out)
        following.interrupt()
        assert following.ended() == 130
        assert following.err == ""
