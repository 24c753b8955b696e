"""`up` and `down`: twice, in the way of others, interrupted, and after a supervisor was killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.commands import command, complaint, homework, listening, pids, until
from support.project import Project, free_ports, make_project, small

from microq.backends.jars import cache_folder
from microq.fleet import SERVICES
from microq.supervisor import records
from microq.supervisor.process import TERM_SECONDS
from microq.supervisor.topology import specs

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


def test_ps_tells_the_processes_of_a_system_apart(system: Project) -> None:
    services = [spec for spec in specs(system.config) if spec.role in SERVICES]
    expected = {f"microq {spec.role} --port {spec.address.port}": spec.name for spec in services}
    expected |= {"microq fork server": "microq fork ser", f"microq supervisor {system.folder}": "microq supervis"}
    alive = {" ".join(process.cmdline()).strip(): process.name()[:15] for process in system.alive()}
    servers = {line: name for line, name in alive.items() if name.startswith("hazelcast-")}
    assert {line: name for line, name in alive.items() if line not in servers} == expected
    assert all(line.split()[0] == name for line, name in servers.items())


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


@small
@pytest.mark.usefixtures("nothing_left")
def test_an_interrupt_during_the_start_leaves_nothing(project: Project) -> None:
    with command(project, "up") as starting:
        starting.says("hazelcast")
        starting.interrupt()
        assert starting.ended() == 130
        assert "Traceback" not in starting.err


@small
@pytest.mark.usefixtures("nothing_left")
def test_interrupt_during_background_start_leaves_nothing(project: Project) -> None:
    with command(project, "up", "-d") as starting:
        starting.says("ready")
        starting.interrupt()
        assert starting.ended() == 130
        assert "Traceback" not in starting.err


@small
@pytest.mark.usefixtures("nothing_left")
def test_starter_of_a_background_start_may_be_killed(project: Project) -> None:
    with command(project, "up", "-d") as starting:
        starting.says("starting")
        starting.interrupt(signal.SIGKILL)
        assert starting.ended() == -9
        until(lambda: not project.alive(), 60)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("project", "how"),
    [({}, signal.SIGINT), ({"messages": 1, "others": 1}, signal.SIGHUP)],
    indirect=["project"],
    ids=["ctrl-c", "terminal-closed"],
)
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
        members = len(project.config.servers)
        assert [name.partition("-")[0] for name in stops[-members:]] == ["hazelcast"] * members


@small
@pytest.mark.usefixtures("nothing_left")
def test_a_second_interrupt_kills_at_once(project: Project) -> None:
    with command(project, "up") as running:
        running.says("Ready in")
        victim = next(p for p in project.alive() if p.name().startswith("messages"))
        victim.suspend()  # it would take the whole grace to end
        running.interrupt()
        running.says("Ctrl-C again kills")
        running.says("… stopping")
        began = time.monotonic()
        running.interrupt()
        assert running.ended() in (0, 130)
        assert time.monotonic() - began < TERM_SECONDS
        assert "Traceback" not in running.err


@small
@pytest.mark.usefixtures("nothing_left")
def test_leftovers_of_killed_supervisor_end_by_up_and_down(project: Project) -> None:
    # The pipes of this one are read to their end: what it leaves in the background must let go of them.
    assert project.microq("up", "-d", fresh=True).returncode == 0
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
    assert "queue is full" in project.microq("logs", "facade", "-n", "99999").stdout  # the logs outlive the system


@small
@pytest.mark.usefixtures("nothing_left")
def test_system_is_found_and_ended_after_its_file_changed(project: Project) -> None:
    assert project.microq("up", "-d").returncode == 0
    file = project.folder / "config.toml"
    right = file.read_text(encoding="utf-8")
    file.write_text("= 3\n", encoding="utf-8")
    orders = ("status", "queue", "send 1", "read -n 1", "logs -n 1", "dead list", "stop messages", "down")
    answers = {words: project.microq(*words.split()) for words in orders}
    assert [answer.stderr for answer in answers.values() if answer.returncode] == []
    assert "config.toml: is not TOML" in complaint(project.microq("status"), 2)
    assert project.microq("down").returncode == 0
    file.write_text(right, encoding="utf-8")


def test_a_page_that_another_project_has_comes_with_its_down(system: Project, project: Project) -> None:
    page = f"dashboard.address={system.config.dashboard.address}"
    said = complaint(project.microq("up", "-d", "--set", page), 4)
    assert f"the dashboard needs {system.config.dashboard.address}" in said
    assert f"cd {system.folder} && microq down" in said


@small
@pytest.mark.usefixtures("nothing_left")
def test_system_starts_among_files_named_like_modules(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = homework(project.folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert project.microq("up", "-d").returncode == 0
    assert project.microq("send", "--text", "Привіт").returncode == 0
    logs = ("logs", "facade", "-n", "99999", "--raw")
    until(lambda: "Привіт" in project.microq(*logs).stdout.encode().decode("unicode_escape"))
    assert project.microq("down").returncode == 0
    assert not list(marks.iterdir())


def test_a_system_starts_wherever_its_user_lives(
    tmp_path: Path, kafka_engine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / r"Моє, a=b:c\d $HOME"
    folder.mkdir()
    (folder / "ке,ш:x=").symlink_to(cache_folder())
    monkeypatch.setenv("MICROQ_CACHE", str(folder / "ке,ш:x="))
    monkeypatch.setenv("LC_ALL", "C")
    project = make_project(folder, messages=1, others=1)
    try:
        started = project.microq("up", "-d", "--queue", "kafka", "--set", "brokers=1")
        assert started.returncode == 0, started.stderr
        assert project.microq("send", "3").returncode == 0
    finally:
        assert project.microq("down").returncode == 0
    assert not project.alive()


@small
@pytest.mark.usefixtures("nothing_left")
def test_system_with_removed_folder_is_found_by_processes(project: Project) -> None:
    assert project.microq("up", "-d").returncode == 0
    pid = records.supervisor_pid(project.config)
    supervisor = psutil.Process(pid)
    shutil.rmtree(project.config.folder)
    for words in (["status"], ["queue"], ["stop", "messages"]):
        line = complaint(project.microq(*words), 3)
        assert f"supervisor pid {pid}" in line
        assert "`microq down` ends it" in line
    for words in (["up", "-d"], ["up"]):
        refused = project.microq(*words)
        assert (refused.returncode, f"supervisor pid {pid}" in refused.stderr) == (2, True), refused.stderr
    down = project.microq("down")
    assert (down.returncode, "Traceback" in down.stderr) == (0, False), down.stderr
    assert f"The supervisor (pid {pid}) lost its folder" in down.stderr
    assert "an earlier run left" not in down.stderr
    assert not records.alive(supervisor)


@small
@pytest.mark.usefixtures("nothing_left")
def test_stopped_supervisor_is_said_at_once_and_ended_by_down(project: Project) -> None:
    with command(project, "up") as running:
        running.says("Ready in")
        running.interrupt(signal.SIGSTOP)
        pid = running.process.pid
        until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        for words in (["status"], ["queue"], ["stop", "messages"]):
            line = complaint(project.microq(*words), 5)
            assert f"kill -CONT {pid}" in line
        running.interrupt(signal.SIGCONT)
        assert project.microq("status").returncode == 0
        running.interrupt(signal.SIGSTOP)
        down = project.microq("down")
        assert (down.returncode, "Traceback" in down.stderr) == (0, False), down.stderr
        assert "does not answer; killing it" in down.stderr
