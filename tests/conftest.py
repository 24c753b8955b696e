"""Fixtures of all tests: a project on free ports, the real command, and one real system for those that share it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from microq.config import Config, Queue, load
from microq.engines.provision import check_extras, provide
from microq.errors import MachineError
from microq.system import ports, records

pytest_plugins = ("browser",)
"""Fixtures that have a module of their own."""

SECONDS = 120

PORTS = range(20_000, 32_000)
"""Where tests listen: above the ports that microq chooses by itself, below those of clients."""


_given: deque[int] = deque(maxlen=2000)
"""Ports that tests were given, which need not listen there yet, or may be about to do so again."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, and that nobody else of these tests was given lately."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    mine = PORTS[int(worker) :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    found = ports.free(count, sorted({*mine} - {*_given}))
    _given.extend(found)
    return found


@dataclass(frozen=True)
class Project:
    """A folder with a configuration on free ports, and the `microq` command run in it."""

    folder: Path

    @property
    def config(self) -> Config:
        return load(self.folder / "config.toml", environ={})

    def microq(self, *words: str, stdin: str = "", seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "microq", *words],
            cwd=self.folder,
            env=environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def alive(self) -> list[psutil.Process]:
        """Whatever of this project runs, the supervisor included."""
        left = [leftover.process for leftover in records.leftovers(self.config)]
        pid = records.supervisor_pid(self.config)
        return [*left, psutil.Process(pid)] if pid else left


def environment() -> dict[str, str]:
    """What a command of a user has around it, at home and in CI."""
    # The size is put there by the readline library, which pytest loads.
    foreign = {"COLUMNS", "LINES", *(key for key in os.environ if key.startswith("MICROQ_"))} - {"MICROQ_CACHE"}
    return {key: value for key, value in os.environ.items() if key not in foreign}


def make_project(folder: Path, *, messages: int = 2, others: int = 3, extra: str = "") -> Project:
    """Make a project with so many messages-services, and so many `others` of each kind that may be several."""
    ports = iter(free_ports(6 + 2 * others + messages))

    def local(count: int) -> str:
        return "[" + ", ".join(f'"127.0.0.1:{next(ports)}"' for _ in range(count)) + "]"

    text = (
        "[service_ips]\n"
        f"messages-service = {local(messages)}\n"
        f"logging-service = {local(others)}\n"
        f'facade-service = "127.0.0.1:{next(ports)}"\n'
        f'config-service = "127.0.0.1:{next(ports)}"\n'
        f"[kafka]\nkafka-brokers = {local(3)}\n"
        f'[dashboard]\naddress = "127.0.0.1:{next(ports)}"\n'
        "[hazelcast]\n"
        f'hazelcast-cluster-name = "test-{next(iter(free_ports(1)))}"\n'
        f"hazelcast-clients = {local(others)}\n{extra}"
    )
    (folder / "config.toml").write_text(text, encoding="utf-8")
    return Project(folder)


small = pytest.mark.parametrize("project", [{"messages": 1, "others": 1}], indirect=True, ids=["small"])
"""Marks a test whose `project` has one process of each kind, because their number makes no difference to it."""


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Project]:
    """A project of this test's own, with nothing running; whatever the test leaves is ended, and fails it."""
    found = make_project(tmp_path, **getattr(request, "param", {}))
    yield found
    left = found.alive()
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


@contextmanager
def up(folder: Path, *words: str) -> Iterator[Project]:
    """Bring a real system up in a new folder, and down again."""
    found = make_project(folder)
    started = found.microq("up", "-d", *words)
    assert started.returncode == 0, started.stderr
    yield found
    ended = found.microq("down")
    assert ended.returncode == 0, ended.stderr
    assert not found.alive()


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Iterator[Project]:
    """One real system, up for all tests that only read, send, or restore what they break."""
    with up(tmp_path_factory.mktemp("system")) as found:
        yield found


def run(main: object) -> object:
    """Run a test's coroutine."""
    return asyncio.run(main)  # type: ignore[arg-type]
