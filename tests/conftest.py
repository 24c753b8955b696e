"""Fixtures of all tests: a project on free ports, the real command, and one real system for those that share it."""

from __future__ import annotations

import compileall
import json
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings
from support.project import Project, make_project, up

import microq
from microq.config import Config, Queue
from microq.errors import MachineError
from microq.workflows.machine import check_extras, provide

pytest_plugins = ("simulation.options", "support.browser", "support.schedule", "support.watchdog")
"""Fixtures that have a module of their own."""


def take_signals(numbers: Iterable[signal.Signals] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)) -> None:
    """Have the signals that a job in the background of a script ignores; every child has them from us."""
    for number in numbers:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)


take_signals()


def pytest_configure(config: pytest.Config) -> None:
    """Compile microq once for all processes of the tests: where Python writes no bytecode each would compile it."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(microq.__file__).parent, quiet=1)


# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Project]:
    """A project of this test's own, with nothing running; whatever the test leaves is ended, and fails it."""
    found = make_project(tmp_path, **getattr(request, "param", {}))
    yield found
    left = found.alive() if (tmp_path / ".microq").exists() else []  # without that folder nothing was started
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)
    assert not left, f"left running: {left}"


@pytest.fixture(scope="session")
def engine() -> None:
    """Skip at home, fail in CI, if this machine has no Java or no jars."""
    try:
        provide(Config("the tests", Path()))
    except MachineError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka_engine(engine: None) -> None:
    """Skip at home, fail in CI, if this machine lacks what brokers need."""
    config = Config("the tests", Path(), queue=Queue(backend="kafka"))
    try:
        check_extras(config)
        provide(config)
    except MachineError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Iterator[Project]:
    """One real system, up for all tests that only read, send, or restore what they break."""
    with up(tmp_path_factory.mktemp("system")) as found:
        yield found


@pytest.fixture(autouse=True)
def system_left_as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """See after each test that shares the system whether all of it runs; mend it if not, and fail the test."""
    shared: Project | None = request.getfixturevalue("system") if "system" in request.fixturenames else None
    yield
    if shared is None:
        return
    broken = {name: state for name, state in states(shared).items() if state != "ready"}
    if not broken:
        return
    shared.microq("resume", "all")
    if shared.microq("start", "all").returncode or {*states(shared).values()} != {"ready"}:
        shared.microq("down")
        assert shared.microq("up", "-d").returncode == 0
    pytest.fail(f"the shared system was left with {broken}")


def states(shared: Project) -> dict[str, str]:
    """Every process of a system, and its state, or that the supervisor is away."""
    told = shared.microq("status", "--json").stdout
    return {each["name"]: each["state"] for each in json.loads(told)["processes"]} if told else {"supervisor": "away"}
