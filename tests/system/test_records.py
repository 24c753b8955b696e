"""What is on disk of a running system, against real processes and real ports."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support.project import free_ports

from microq.config import Address, Config, load, started_addresses
from microq.errors import AlreadyRunningError, MachineError, PortTakenError
from microq.fleet import LEFT, LOST, RUNNING, SystemView
from microq.supervisor import ports, records, runs
from microq.supervisor.topology import child_environment

HOLD_LOCK = """
import sys, time
from pathlib import Path
from microq.config import Config
from microq.supervisor import records, runs
with records.locked(Config("the test", Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""
SUPERVISE = """
import subprocess, sys, time
from pathlib import Path
from microq.config import load
from microq.supervisor import records, runs
from microq.supervisor.topology import child_environment
config = load(Path(sys.argv[1]) / "config.toml")
folder = runs.new_run(config, "up")
runs.prepare(config, folder)
with records.locked(config, folder):
    words = [sys.executable, "-c", "import time; time.sleep(60)"]
    children = [subprocess.Popen(words, env=child_environment(config, folder.name)) for _ in range(2)]
    print("up", flush=True)
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


def test_reader_of_the_lock_never_blocks_a_supervisor(config: Config) -> None:
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


def test_a_mark_that_names_no_project_belongs_to_nobody(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(config.project)  # which is what an empty path would mean
    marks = child_environment(config, "the-run")
    del marks["MICROQ_PROJECT"]
    with running(PATIENT, environment=marks), running(PATIENT, environment=marks | {"MICROQ_PROJECT": ""}):
        assert records.leftovers(config) == []


def test_systems_of_one_folder_know_their_own_processes_only(config: Config) -> None:
    named = dataclasses.replace(config, name="b")
    with (
        records.locked(config),
        records.locked(named),
        running(PATIENT, environment=child_environment(config, "the-run")) as ours,
        running(PATIENT, environment=child_environment(named, "the-run")) as theirs,
    ):
        assert [left.process.pid for left in records.leftovers(config)] == [ours.pid]
        assert [left.process.pid for left in records.leftovers(named)] == [theirs.pid]
        assert records.socket_path(named) != records.socket_path(config)
        assert records.system_of(psutil.Process(theirs.pid)) == Config("its process", config.project, name="b")


def test_a_supervisor_is_known_with_the_name_of_its_system(config: Config) -> None:
    code = HOLD_LOCK.replace("Path(sys.argv[1])", "Path(sys.argv[1]), name='b'")
    with running(code, str(config.project)) as holder:
        found = records.system_of(psutil.Process(holder.pid))
        assert found is not None
        assert (found.project, found.name) == (config.project, "b")
        assert records.supervisor_pid(config) is None
        assert records.supervisor_pid(found) == holder.pid


def test_reused_pid_is_never_signalled(config: Config) -> None:
    with running(PATIENT) as bystander:
        command = psutil.Process(bystander.pid).cmdline()
        file = record(config, "messages-1", pid=bystander.pid, created=1.0, run="the-run", command=command)
        left = records.leftovers(config)
        assert left == []
        records.sweep(config, left)
        assert bystander.poll() is None
        assert not file.exists()


def test_process_with_other_command_is_not_signalled(config: Config) -> None:
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


def test_a_process_under_a_title_of_its_own_is_known_by_its_run(config: Config) -> None:
    with running(PATIENT, environment=child_environment(config, "the-run")) as child:
        created = psutil.Process(child.pid).create_time()
        for run, name in (("the-run", "messages-1"), ("another", f"pid {child.pid}"), ("", f"pid {child.pid}")):
            record(config, "messages-1", pid=child.pid, created=created, run=run, command=["before"])
            assert [leftover.name for leftover in records.leftovers(config)] == [name]


def test_signal_to_a_gone_process_reaches_no_process(config: Config) -> None:
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


def test_port_taken_by_project_shows_command_to_end_it(config: Config) -> None:
    (port,) = free_ports(1)
    with running(LISTEN, str(port), environment=child_environment(config, "the-run")):
        with pytest.raises(PortTakenError) as caught:
            ports.check("facade-1", Address("127.0.0.1", port))
        assert f"cd {config.project} && microq down" in caught.value.remedy


def test_port_taken_by_named_system_shows_its_name(config: Config) -> None:
    (port,) = free_ports(1)
    named = dataclasses.replace(config, name="b")
    address = Address("127.0.0.1", port)
    with running(LISTEN, str(port), environment=child_environment(named, "the-run")):
        with pytest.raises(PortTakenError) as caught:
            ports.check("facade-1", address)
        assert f"cd {config.project} && microq down --name b`" in caught.value.remedy
        assert "(name b)" in ports.stranger(address, config)
        assert ports.stranger(address, named) == ""


def test_a_port_of_all_interfaces_counts_as_taken() -> None:
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))  # noqa: S104 - closed again before anybody could come
        server.listen()
        with pytest.raises(PortTakenError, match=str(os.getpid())):
            ports.check("facade-1", Address("127.0.0.1", server.getsockname()[1]))


RESERVE = "import sys; from microq.supervisor import ports; print(*ports.reserve(int(sys.argv[1])))"


def reserved_elsewhere(count: int) -> set[int]:
    done = subprocess.run([sys.executable, "-c", RESERVE, str(count)], capture_output=True, text=True, check=True)
    return set(map(int, done.stdout.split()))


def test_port_is_reserved_for_one_system_until_many_more_are() -> None:
    # One test: two at a time, on two workers, would find fewer than 6,500 of the eight thousand.
    mine = [*ports.reserve(30), *ports.reserve(30)]
    assert len(set(mine)) == 60
    # By chance it would not miss all of them.
    assert not set(mine) & reserved_elsewhere(6500)
    assert not set(mine[:5]) & set(ports.reserve(30, apart_from=mine[:5]))
    ports.reserve(ports.KEPT)
    assert set(mine) & reserved_elsewhere(6500)


BLOCK = "import sys; from microq.config import load, started_addresses;"
BLOCK += "from microq.supervisor.ports import with_own_ports;"
BLOCK += "found = with_own_ports(load(environ={'MICROQ_NAME': 'b'}));"
BLOCK += "print(*(address.port for address in started_addresses(found)), flush=True); sys.stdin.read()"


def test_named_systems_get_separate_ports() -> None:
    starting = [
        subprocess.Popen([sys.executable, "-c", BLOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in "ab"
    ]
    found = [{*map(int, process.stdout.readline().split())} for process in starting if process.stdout]
    for process in starting:
        process.communicate()
    one, other = found
    assert len(one) == len(other) == len(started_addresses(Config("the defaults", Path())))
    assert not one & other


def test_a_port_that_somebody_has_is_in_no_block() -> None:
    config = Config("the defaults", Path(), name="b")
    first = started_addresses(ports.with_own_ports(config))
    with socket.create_server((first[3].host, first[3].port)):
        assert not {*first} & {*started_addresses(ports.with_own_ports(config))}
    assert started_addresses(ports.with_own_ports(config)) == first


def test_an_address_that_was_set_stays_in_a_system_with_a_name() -> None:
    config = load(sets=['dashboard.address="127.0.0.1:7777"'], environ={"MICROQ_NAME": "b"})
    found = ports.with_own_ports(config, {"dashboard.address"})
    assert found.dashboard == config.dashboard
    assert not {*started_addresses(found, {"dashboard.address"})} & {*started_addresses(config)}


def test_servers_that_run_elsewhere_keep_their_addresses() -> None:
    config = load(sets=["hazelcast.managed=false"], environ={"MICROQ_NAME": "b"})
    assert ports.with_own_ports(config).hazelcast == config.hazelcast


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


def test_failed_run_folder_is_a_machine_error(tmp_path: Path) -> None:
    (tmp_path / ".microq").write_text("in the way", encoding="utf-8")
    with pytest.raises(MachineError, match="cannot make a run folder"):
        runs.new_run(Config("the test", tmp_path), "up")


def test_open_folder_is_closed_and_foreign_one_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    runs.own_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    if os.getuid() == 0:  # only root can give a folder away
        os.chown(folder, 12345, -1)
        with pytest.raises(MachineError, match="belongs to another user"):
            runs.own_folder(folder)


def test_socket_of_deep_folder_is_found_from_any_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = Config("the test", tmp_path / ("d" * 100))
    (tmp_path / "one").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "one"))
    with records.locked(deep):
        noted = records.socket_path(deep)
        monkeypatch.setattr(tempfile, "tempdir", "/elsewhere")
        assert records.socket_path(deep) == noted
    assert records.socket_path(deep) != noted


def test_a_temporary_folder_that_is_too_deep_itself_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("t" * 90)))
    place = records.socket_path(Config("the test", tmp_path / ("d" * 100)))
    assert len(os.fsencode(place)) < 104


def test_every_system_of_this_user_is_listed_with_facts(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[queue]\nbackend = 'kafka'\n", encoding="utf-8")
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISE, str(tmp_path)], stdout=subprocess.PIPE)

    def mine() -> list[SystemView]:
        return [one for one in records.systems() if one.folder == str(tmp_path)]

    try:
        assert supervisor.stdout
        assert supervisor.stdout.readline() == b"up\n"
        [one] = mine()
        assert (one.state, one.processes, one.supervisor, one.queue) == (RUNNING, 2, supervisor.pid, "kafka")
        assert (one.page, one.run.endswith("-up"), one.name) == ("http://127.0.0.1:5080", True, "")
        shutil.rmtree(tmp_path / ".microq")
        [one] = mine()
        assert (one.state, one.processes, one.supervisor, one.queue) == (LOST, 2, supervisor.pid, None)
        supervisor.kill()
        supervisor.wait()
        [one] = mine()
        assert (one.state, one.processes, one.supervisor) == (LEFT, 2, None)
    finally:
        supervisor.kill()
        supervisor.communicate()
        records.sweep(Config("the test", tmp_path), records.leftovers(Config("the test", tmp_path)))
    assert mine() == []


def test_what_is_at_its_end_is_still_in_its_group() -> None:
    """It has no environment any more, as the one here has none from its start."""
    with subprocess.Popen(["/bin/sleep", "60"], env={}, start_new_session=True) as child:
        try:
            assert [process.pid for process in records.in_group(child.pid, "a-run", ending=True)] == [child.pid]
            assert records.in_group(child.pid, "a-run") == []
        finally:
            child.kill()
    assert records.in_group(child.pid, "a-run", ending=True) == []
