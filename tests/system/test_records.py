"""What is on disk of a running system, against real processes and real ports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from conftest import free_ports

from microq.config import Address, Config
from microq.errors import AlreadyRunningError, MachineError, PortTakenError
from microq.system import ports, records, runs
from microq.system.topology import child_environment

HOLD_LOCK = """
import sys, time
from pathlib import Path
from microq.config import Config
from microq.system import records, runs
with records.locked(Config("the test", Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""
PATIENT = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + PATIENT
NEGLIGENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {PATIENT!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print("up", flush=True)
time.sleep(60)
"""
LISTEN = """
import socket, sys, time
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    print("up", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    found = Config("the test", tmp_path)
    found.folder.mkdir()
    return found


@contextmanager
def running(script: str, *words: str, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", script, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            yield child
        finally:
            child.kill()


@contextmanager
def reaped(child: subprocess.Popen[str]) -> Iterator[None]:
    """Reap the child the moment it ends, as its parent would."""
    waiting = threading.Thread(target=child.wait)
    waiting.start()
    yield
    waiting.join(10)
    assert not waiting.is_alive()


def record(config: Config, name: str, **fields: object) -> Path:
    folder = config.folder / "children"
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(fields), encoding="utf-8")
    return file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_supervisor_is_told_the_pid_of_the_first(config: Config) -> None:
    assert records.supervisor_pid(config) is None
    with running(HOLD_LOCK, str(config.project)) as holder:
        assert records.supervisor_pid(config) == holder.pid
        with pytest.raises(AlreadyRunningError, match=str(holder.pid)) as caught, records.locked(config):
            pass
        assert caught.value.pid == holder.pid


def test_the_lock_goes_with_a_killed_supervisor(config: Config) -> None:
    with running(HOLD_LOCK, str(config.project)) as holder:
        holder.kill()
        holder.wait()
        assert records.supervisor_pid(config) is None
        with records.locked(config):
            assert records.supervisor_pid(config) == os.getpid()


def test_whoever_only_looks_never_keeps_a_supervisor_out(config: Config) -> None:
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            assert records.supervisor_pid(config) in (None, os.getpid())

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(300):
            with records.locked(config):
                pass
    finally:
        done.set()
        for looker in lookers:
            looker.join()


def test_a_recorded_child_is_a_leftover(config: Config) -> None:
    with running(PATIENT) as child:
        records.Book(config, "the-run").add("messages-1", child.pid)
        assert [(left.name, left.process.pid) for left in records.leftovers(config)] == [("messages-1", child.pid)]


def test_a_child_without_a_record_is_known_by_its_mark(config: Config, tmp_path: Path) -> None:
    other = Config("the test", tmp_path / "elsewhere")
    with (
        running(PATIENT, environment=child_environment(config, "the-run")) as ours,
        running(PATIENT, environment=child_environment(other, "the-run")),
        running(PATIENT),
    ):
        assert [left.process.pid for left in records.leftovers(config)] == [ours.pid]


def test_a_pid_that_was_given_to_another_process_is_never_signalled(config: Config) -> None:
    with running(PATIENT) as bystander:
        command = psutil.Process(bystander.pid).cmdline()
        file = record(config, "messages-1", pid=bystander.pid, created=1.0, run="the-run", command=command)
        left = records.leftovers(config)
        assert left == []
        records.sweep(config, left)
        assert bystander.poll() is None
        assert not file.exists()


def test_a_process_with_the_time_of_a_record_and_another_command_is_never_signalled(config: Config) -> None:
    with running(PATIENT) as bystander:
        created = psutil.Process(bystander.pid).create_time()
        for command in (["java", "-jar", "ours.jar"], [], None, "java"):
            record(config, "messages-1", pid=bystander.pid, created=created, run="the-run", command=command)
            left = records.leftovers(config)
            assert left == []
            records.sweep(config, left)
            assert psutil.Process(bystander.pid).status() != psutil.STATUS_STOPPED
            assert bystander.poll() is None
        # The witness could have been signalled: with its own command it is.
        record(
            config,
            "messages-1",
            pid=bystander.pid,
            created=created,
            run="the-run",
            command=psutil.Process(bystander.pid).cmdline(),
        )
        with reaped(bystander):
            records.sweep(config, records.leftovers(config))
        assert bystander.returncode == -15


def test_a_signal_to_what_is_gone_reaches_nobody(config: Config) -> None:
    with running(PATIENT) as child:
        gone = psutil.Process(child.pid)
        child.kill()
        child.wait()
        records.signal_ours(gone, signal.SIGKILL)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x", "created": 1}', '{"pid": -1, "created": 1}'])
def test_a_broken_record_names_nobody(config: Config, text: str) -> None:
    record(config, "messages-1").write_text(text, encoding="utf-8")
    assert records.leftovers(config) == []


def test_what_is_dead_and_not_yet_reaped_is_no_leftover(config: Config) -> None:
    with running(PATIENT, environment=child_environment(config, "the-run")) as child:
        records.Book(config, "the-run").add("messages-1", child.pid)
        child.kill()
        with contextlib.suppress(psutil.TimeoutExpired):
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
        assert records.leftovers(config) == []


def test_sweep_ends_what_ignores_sigterm(config: Config) -> None:
    with running(STUBBORN, environment=child_environment(config, "the-run")) as child, reaped(child):
        records.Book(config, "the-run").add("messages-1", child.pid)
        records.socket_path(config).touch()
        records.sweep(config, records.leftovers(config), seconds=0.3)
        child.wait(1)
        assert child.returncode == -9
        assert not list((config.folder / "children").iterdir())
        assert not records.socket_path(config).exists()


def test_sweep_ends_what_is_paused(config: Config) -> None:
    with running(PATIENT, environment=child_environment(config, "the-run")) as child, reaped(child):
        psutil.Process(child.pid).suspend()
        records.sweep(config, records.leftovers(config))
        child.wait(1)
        assert child.returncode == -15


def test_sweep_does_not_wait_for_a_parent_that_never_reaps(config: Config) -> None:
    with running(NEGLIGENT, environment=child_environment(config, "the-run")) as parent:
        (child,) = psutil.Process(parent.pid).children()
        left = [leftover for leftover in records.leftovers(config) if leftover.process == child]
        assert len(left) == 1
        records.sweep(config, left, seconds=2)
        assert child.status() == psutil.STATUS_ZOMBIE
        assert [leftover.process.pid for leftover in records.leftovers(config)] == [parent.pid]


def test_a_taken_port_is_named_with_its_holder(config: Config) -> None:
    (port,) = free_ports(1)
    ports.check("facade-1", Address("127.0.0.1", port))
    with running(LISTEN, str(port)) as holder:
        with pytest.raises(PortTakenError) as caught:
            ports.check("facade-1", Address("127.0.0.1", port))
        assert f"pid {holder.pid} ({sys.executable} -c" in caught.value.holder
        assert "config.toml" in caught.value.remedy
    ports.check("facade-1", Address("127.0.0.1", port))


def test_a_port_taken_by_another_project_comes_with_the_command_that_ends_it(config: Config) -> None:
    (port,) = free_ports(1)
    with running(LISTEN, str(port), environment=child_environment(config, "the-run")):
        with pytest.raises(PortTakenError) as caught:
            ports.check("facade-1", Address("127.0.0.1", port))
        assert f"cd {config.project} && microq down" in caught.value.remedy


def test_a_port_of_all_interfaces_counts_as_taken() -> None:
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))  # noqa: S104 - closed again before anybody could come
        server.listen()
        with pytest.raises(PortTakenError, match=str(os.getpid())):
            ports.check("facade-1", Address("127.0.0.1", server.getsockname()[1]))


RESERVE = "import sys; from microq.system import ports; print(*ports.reserve(int(sys.argv[1])))"


def reserved_elsewhere(count: int) -> set[int]:
    done = subprocess.run([sys.executable, "-c", RESERVE, str(count)], capture_output=True, text=True, check=True)
    return set(map(int, done.stdout.split()))


def test_a_port_is_reserved_for_one_system_alone() -> None:
    mine = [*ports.reserve(30), *ports.reserve(30)]
    assert len(set(mine)) == 60
    # Of ten thousand: by chance it would not miss all of them.
    assert not set(mine) & reserved_elsewhere(8000)
    assert not set(mine[:5]) & set(ports.reserve(30, apart_from=mine[:5]))


def test_of_many_reserved_ports_the_oldest_are_given_back() -> None:
    oldest = ports.reserve(60)
    ports.reserve(ports.KEPT)
    assert set(oldest) & reserved_elsewhere(8000)


def test_an_address_of_another_machine_is_not_called_taken() -> None:
    with pytest.raises(MachineError, match=r"facade-1 cannot listen on 192\.0\.2\.1:5000"):
        ports.check("facade-1", Address("192.0.2.1", 5000))


def test_the_socket_of_a_deep_folder_is_elsewhere(tmp_path: Path) -> None:
    deep = Config("the test", tmp_path.joinpath(*["a-rather-long-name-of-a-folder"] * 4))
    path = records.socket_path(deep)
    assert not path.is_relative_to(deep.project)
    assert len(os.fsencode(path)) < 104
    assert path == records.socket_path(deep)
    assert path != records.socket_path(Config("the test", deep.project / "b"))
    near = Config("the test", Path("/srv/project"))
    assert records.socket_path(near) == near.folder / "control.sock"


def test_the_folders_of_a_run_are_for_this_user_only(config: Config) -> None:
    first, second = runs.new_run(config, "up"), runs.new_run(config, "up")
    assert first != second
    assert [mode(path) for path in (first, second, first.parent)] == [0o700] * 3


def test_a_run_folder_that_cannot_be_made_is_an_error_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / ".microq").write_text("in the way", encoding="utf-8")
    with pytest.raises(MachineError, match="cannot make a run folder"):
        runs.new_run(Config("the test", tmp_path), "up")


def test_a_folder_that_others_may_enter_is_closed_and_one_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    runs.own_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    if os.getuid() == 0:  # only root can give a folder away
        os.chown(folder, 12345, -1)
        with pytest.raises(MachineError, match="belongs to another user"):
            runs.own_folder(folder)
