"""A test that hangs ends, whatever it hangs in, and the next one runs; no process outlives the tests."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread

import psutil
import pytest
from support.commands import until
from support.project import Project

from microq.supervisor.records import alive

CHILD = """
import subprocess, sys
from pathlib import Path
import pytest

@pytest.mark.timeout(1)
def test_that_waits_for_its_child_in_the_end(tmp_path):
    line = f"sleep 600 > /dev/null 2>&1 & echo $! > {Path(__file__).with_name('pid')}"
    subprocess.run(["sh", "-c", line], cwd=tmp_path)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd=tmp_path):
        pass

def test_after_it():
    pass
"""

NO_CHILD = """
import threading
import pytest

@pytest.mark.timeout(1)
def test_that_waits_for_nobody_in_the_end():
    try:
        threading.Event().wait()
    finally:
        threading.Event().wait()
"""

FIXTURE = """
import threading
import pytest

@pytest.fixture
def lasting():
    yield
    threading.Event().wait()

@pytest.mark.timeout(1)
def test_that_waits_for_nobody_as_its_fixture_does(lasting):
    threading.Event().wait()
"""

COROUTINE = """
import asyncio
import threading
import pytest

@pytest.mark.timeout(1)
async def test_that_waits_for_its_thread_in_the_end():
    await asyncio.to_thread(threading.Event().wait)
"""

DAEMON = """
import subprocess, sys, time
from pathlib import Path

def test_that_starts_a_daemon_and_waits(tmp_path):
    words = [sys.executable, "-c", "import time; time.sleep(600)"]
    daemon = subprocess.Popen(words, cwd=tmp_path, start_new_session=True)
    Path(__file__).with_name("pid").write_text(str(daemon.pid))
    time.sleep(600)
"""

TESTS = Path(__file__).parents[1]


def words(folder: Path, code: str, *more: str) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs the tests in `code`, and its environment."""
    file = folder / "test_hanging.py"
    file.write_text(code, encoding="utf-8")
    options = ["-c", os.devnull, "--rootdir", str(folder), "-o", "timeout=50", *more]
    return (
        [sys.executable, "-m", "pytest", "-p", "support.watchdog", "-p", "pytest_timeout", *options, str(file)],
        {**os.environ, "PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
    )


def run(folder: Path, code: str, *more: str) -> subprocess.CompletedProcess[str]:
    command, environment = words(folder, code, *more)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)


def test_a_test_whose_child_hangs_fails_and_the_next_one_runs(tmp_path: Path) -> None:
    done = run(tmp_path, CHILD, "-o", "seconds_to_children=1")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "Timeout (>1.0s)" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
    # That process was no child any more: what waits for the end of all tests lives, and ends it.
    orphan = int((tmp_path / "pid").read_text(encoding="ascii"))
    until(lambda: orphan not in psutil.pids(), 100)


@pytest.mark.parametrize(
    ("code", "where"),
    [
        (NO_CHILD, "test_that_waits_for_nobody_in_the_end"),
        (FIXTURE, "in lasting"),
        (COROUTINE, "asyncio/runners.py"),
    ],
    ids=["test", "fixture", "loop"],
)
def test_a_test_that_hangs_without_a_child_ends_its_process(tmp_path: Path, code: str, where: str) -> None:
    done = run(tmp_path, code, "-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto", "-o", "seconds_to_process=5")
    assert re.search(r"^Timeout \(0:00:0[56].*\)!$", done.stderr, re.MULTILINE), done.stdout + done.stderr
    assert where in done.stderr


@pytest.mark.parametrize("workers", [[], ["-p", "xdist", "-n", "1"]], ids=["alone", "worker"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_tests_that_are_ended_leave_no_daemon(tmp_path: Path, how: signal.Signals, workers: list[str]) -> None:
    command, environment = words(tmp_path, DAEMON, *workers)
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tests:
        noted = tmp_path / "pid"
        until(lambda: noted.exists() and noted.read_text(encoding="ascii") != "", 100)
        daemon = psutil.Process(int(noted.read_text(encoding="ascii")))
        tests.send_signal(how)
    until(lambda: not alive(daemon), 100)


def test_command_ends_with_the_interrupted_wait_for_it(project: Project) -> None:
    address = project.config.service_ips.config_service

    def listens() -> bool:
        with socket.socket() as probe:
            return not probe.connect_ex((address.host, address.port))

    def interrupt() -> None:
        until(listens, 100)
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        project.microq("config")
    interrupting.join()
    until(lambda: not listens(), 100)
