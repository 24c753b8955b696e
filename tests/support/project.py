"""A project on free ports, the real `microq` command run in it, and a real system brought up and down."""

from __future__ import annotations

import atexit
import os
import random
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path

import psutil
import pytest
from support import template
from support.template import Template

from microq.config import Config, load
from microq.supervisor import ports, records

SECONDS = 240

PORTS = range(20_000, 32_000)
"""Where tests listen: above the ports that microq chooses by itself, below those of clients."""


@cache
def _ports() -> deque[int]:
    """The ports of this worker: those that tests were given last, and may listen on again, stand at the end."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    mine = [*PORTS[int(worker) :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]]
    random.shuffle(mine)
    return deque(mine)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, and that nobody else of these tests was given lately."""
    found = ports.free(count, [*islice(_ports(), 8 * count)])
    for port in found:
        _ports().remove(port)
        _ports().append(port)
    return found


@dataclass(frozen=True)
class Project:
    """A folder with a configuration on free ports, and the `microq` command run in it, with more around it if told."""

    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        return load(self.folder / "config.toml", environ={})

    def microq(
        self,
        *words: str,
        stdin: str = "",
        seconds: float = SECONDS,
        environ: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end; `fresh`: in an interpreter of its own, however long that takes to start."""
        around = environment() | {**self.environ, **(environ or {})}
        if not fresh and template.fits(around, stdin):
            return _template().run(words, self.folder, around, stdin, seconds)
        return subprocess.run(
            [sys.executable, "-m", "microq", *words],
            cwd=self.folder,
            env=around,
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


_templates: list[Template] = []
"""The one that there is, if any: what hangs may have taken it along when it was ended."""


def _template() -> Template:
    if not (_templates and _templates[0].alive()):
        _templates[:] = [Template()]
        atexit.register(_templates[0].close)
    return _templates[0]


def environment() -> dict[str, str]:
    """What a command of a user has around it, at home and in CI."""
    # The size is put there by the readline library, which pytest loads.
    foreign = {"COLUMNS", "LINES", *(key for key in os.environ if key.startswith("MICROQ_"))} - {"MICROQ_CACHE"}
    return {key: value for key, value in os.environ.items() if key not in foreign}


def make_project(
    folder: Path, *, messages: int = 2, others: int = 3, extra: str = "", environ: Mapping[str, str] | None = None
) -> Project:
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
    return Project(folder, environ or {})


TWO = ("--set", "members=2")
"""As many members as are needed if one is to be killed."""

small = pytest.mark.parametrize("project", [{"messages": 1, "others": 1}], indirect=True, ids=["small"])
"""Marks a test whose `project` has one process of each kind, because their number makes no difference to it."""


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
