"""`up` and `down`: twice, in the way of others, interrupted, and after a supervisor was killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from commands import command, complaint, listening, pids, until
from conftest import Project, free_ports, small

from microq.system import records
from microq.system.process import TERM_SECONDS

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def nothing_left(project: Project) -> Iterator[None]:
    yield
    assert not project.alive()
    assert not listening(project)
    assert not records.socket_path(project.config).exists()


def kill_supervisor(project: Project) -> None:
    pid = records.supervisor_pid(project.config)
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: records.supervisor_pid(project.config) is None)


def test_up_twice_is_said_in_one_line(system: Project) -> None:
    pid = records.supervisor_pid(system.config)
    line = complaint(system.microq("up", "-d"), 2)
    assert f"supervisor pid {pid}" in line
    assert "`microq down`" in line
    assert records.supervisor_pid(system.config) == pid


def test_up_in_the_foreground_beside_a_running_system(system: Project) -> None:
    assert "already runs here" in complaint(system.microq("up"), 2)


@pytest.mark.parametrize("words", [["up"], ["up", "-d"]])
@pytest.mark.usefixtures("nothing_left")
def test_a_taken_port_names_who_holds_it(words: list[str], project: Project) -> None:
    address = project.config.hazelcast.hazelcast_clients[1]
    with socket.create_server((address.host, address.port)):
        line = complaint(project.microq(*words), 4)
        assert f"hazelcast-{address.port} needs {address}, which is taken by pid {os.getpid()} (" in line
        assert Path(psutil.Process().cmdline()[0]).name in line
    assert not project.alive()


def test_the_ports_of_another_project_come_with_its_down(system: Project, project: Project) -> None:
    text = (system.folder / "config.toml").read_text(encoding="utf-8")
    (project.folder / "config.toml").write_text(text, encoding="utf-8")
    assert f"cd {system.folder} && microq down" in complaint(project.microq("up", "-d"), 4)


@pytest.mark.usefixtures("nothing_left")
def test_an_interrupt_during_the_start_leaves_nothing(project: Project) -> None:
    with command(project, "up") as starting:
        starting.says("hazelcast")
        starting.interrupt()
        assert starting.ended() == 130
        assert "Traceback" not in starting.err


@pytest.mark.usefixtures("nothing_left")
def test_an_interrupt_during_a_start_in_the_background_leaves_nothing(project: Project) -> None:
    with command(project, "up", "-d") as starting:
        starting.says("ready")
        starting.interrupt()
        assert starting.ended() == 130
        assert "Traceback" not in starting.err


@pytest.mark.usefixtures("nothing_left")
def test_whoever_waits_for_a_background_start_may_be_killed(project: Project) -> None:
    with command(project, "up", "-d") as starting:
        starting.says("starting")
        starting.interrupt(signal.SIGKILL)
        assert starting.ended() == -9
        until(lambda: not project.alive(), 60)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP], ids=["ctrl-c", "terminal-closed"])
def test_an_interrupt_ends_a_system_in_the_foreground_in_order(project: Project, how: signal.Signals) -> None:
    with command(project, "up", "--no-messages") as running:
        running.says("Ready in")
        running.says("is ready, listening on")
        assert not [p for p in project.alive() if p.name().startswith("messages")]
        running.interrupt(how)
        assert running.ended() == 0
        assert running.err.rstrip().endswith("Stopped.")
        stops = [line.split()[0] for line in running.err.splitlines() if "stopped" in line.split()[2:3]]
        assert [name.partition("-")[0] for name in stops[:1]] == ["facade"]
        assert [name.partition("-")[0] for name in stops[-3:]] == ["hazelcast"] * 3


@small
@pytest.mark.usefixtures("nothing_left")
def test_a_second_interrupt_kills_at_once(project: Project) -> None:
    with command(project, "up") as running:
        running.says("Ready in")
        victim = next(p for p in project.alive() if p.name().startswith("messages"))
        victim.suspend()  # it would take the whole grace to end
        began = time.monotonic()
        running.interrupt()
        running.says("Ctrl-C again kills")
        running.says("… stopping")
        running.interrupt()
        assert running.ended() in (0, 130)
        assert time.monotonic() - began < TERM_SECONDS
        assert "Traceback" not in running.err


@small
@pytest.mark.usefixtures("nothing_left")
def test_what_a_killed_supervisor_left_is_ended_by_up_and_by_down(project: Project) -> None:
    assert project.microq("up", "-d").returncode == 0
    first = pids(project.alive())
    kill_supervisor(project)
    until(lambda: len(project.alive()) == 5)  # what forks the services ends by itself
    assert "5 processes of an earlier run are left" in complaint(project.microq("status"), 3)
    again = project.microq("up", "-d")
    assert (again.returncode, "Traceback" in again.stderr) == (0, False)
    second = project.alive()
    assert len(second) == 7
    assert not pids(second) & first
    kill_supervisor(project)
    until(lambda: len(project.alive()) == 5)
    down = project.microq("down")
    assert down.returncode == 0
    assert "Ending 5 processes that an earlier run left" in down.stderr
    assert not [process for process in second if records.alive(process)]


@small
@pytest.mark.usefixtures("nothing_left")
def test_down_ends_a_supervisor_that_hangs(project: Project) -> None:
    assert project.microq("up", "-d").returncode == 0
    psutil.Process(records.supervisor_pid(project.config)).suspend()
    down = project.microq("down")
    assert (down.returncode, "Traceback" in down.stderr) == (0, False), down.stderr
    assert "does not answer; killing it" in down.stderr


@small
@pytest.mark.usefixtures("nothing_left")
def test_down_names_what_it_waits_for_and_kills_it(project: Project) -> None:
    assert project.microq("up", "-d").returncode == 0
    victim = next(p for p in project.alive() if p.name().startswith("messages"))
    victim.suspend()
    down = project.microq("down")
    assert down.returncode == 0
    assert "did not end in 10 s, killing it" in down.stderr


@small
@pytest.mark.usefixtures("nothing_left")
def test_a_set_value_holds_in_every_process(project: Project) -> None:
    messages = project.config.service_ips.messages_service[:1]
    facade = f"service_ips.facade-service=127.0.0.1:{free_ports(1)[0]}"
    started = project.microq("up", "-d", "--set", "queue.max-size=7", "--set", facade, "--no-messages")
    assert started.returncode == 0, started.stderr
    # The others talk to the system that runs, not to what the file says.
    sent = json.loads((result := project.microq("send", "8", "-c", "1", "--json")).stdout)
    assert sent["acknowledged"] <= 7  # one that came while the copies were being spread may be uncertain
    assert sent["rejected"] >= 1
    assert "queue is full" in result.stderr
    assert project.microq("start", "messages").returncode == 0
    assert messages[0].port in listening(project)
    assert project.microq("read", "-n", "1").returncode == 0
    refused = project.microq("chaos", "kill-member", "--set", "messages=1")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--set or --queue would change nothing" in refused.stderr
    assert project.microq("down").returncode == 0
    assert "queue is full" in project.microq("logs", "facade").stdout  # the logs outlive the system


def test_a_page_that_another_project_has_comes_with_its_down(system: Project, project: Project) -> None:
    page = f"dashboard.address={system.config.dashboard.address}"
    said = complaint(project.microq("up", "-d", "--set", page), 4)
    assert f"the dashboard needs {system.config.dashboard.address}" in said
    assert f"cd {system.folder} && microq down" in said
