"""Let no test outlive its timeout, even when what it waits for never ends, and no process outlive the tests.

`pytest-timeout` raises once, in the test. What waits without a limit after that, in a `finally` or at the end of a
fixture, would wait for ever. So the children that the test started are killed some seconds later, which ends every wait
for them; and a test that still goes on ends its whole process, which `pytest-xdist` replaces. What runs in the folders
of the tests when their process is gone, for whatever reason, is killed by the reaper.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

import psutil
import pytest
from support.reaper import Reaper

CHILDREN, PROCESS = "seconds_to_children", "seconds_to_process"

STDERR = pytest.StashKey[int]()
REAPER = pytest.StashKey[Reaper]()
END = pytest.StashKey[float]()
"""The monotonic time at which the process of a test that still goes on is ended."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(CHILDREN, "Seconds beyond a test's timeout after which its children are killed.", default="30")
    parser.addini(PROCESS, "Seconds beyond a test's timeout after which its process is ended.", default="90")


def pytest_configure(config: pytest.Config) -> None:
    # While a test runs, what it says is captured, and would be lost with the process.
    config.stash[STDERR] = os.dup(sys.stderr.fileno())
    # Before any test: it is no child that a test has started.
    config.stash[REAPER] = Reaper()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[REAPER].close()
    os.close(config.stash[STDERR])


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_tests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    request.config.stash[REAPER].watch(str(tmp_path_factory.getbasetemp()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    marker = item.get_closest_marker("timeout")
    timeout = float(marker.args[0] if marker and marker.args else item.config.getini("timeout"))
    item.stash[END] = time.monotonic() + timeout + float(item.config.getini(PROCESS))
    end_process_in_time(item)
    try:
        reaper = item.config.stash[REAPER].pid
        with children_ended_after(timeout + float(item.config.getini(CHILDREN)), apart_from=reaper):
            return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    # What pytest does when it reports a failure ends the wait for this time; a fixture or a loop can still hang.
    end_process_in_time(item)


def end_process_in_time(item: pytest.Item) -> None:
    left = max(item.stash[END] - time.monotonic(), float(item.config.getini(PROCESS)))
    faulthandler.dump_traceback_later(left, exit=True, file=item.config.stash[STDERR])


@contextmanager
def children_ended_after(seconds: float, apart_from: int) -> Iterator[None]:
    """Kill the children that the body started, or that are one second older, and still run after so many seconds.

    One process is spared.
    """
    began = time.time() - 1  # when a process began is known to the second

    def kill() -> None:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.create_time() > began and child.pid != apart_from:
                    child.kill()

    timer = Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
