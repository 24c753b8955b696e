"""The harness of `bench` and `compare`: one step after another, each on a fresh system."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from microq import __version__
from microq.backends import BACKENDS, backend
from microq.backends.jars import Engine
from microq.bench.generator import generating
from microq.bench.measure import System
from microq.client import open_session
from microq.config import Config
from microq.errors import MicroqError
from microq.fleet import Operator, Snapshot
from microq.workflows import Terminal
from microq.workflows.host import operating

CLIENTS = ("aiohttp", "aiokafka", "hazelcast-python-client")

Run = Callable[[Coroutine[Any, Any, None]], None]
"""Runs a coroutine in a new event loop."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step to measure; `seconds` is about how long it takes, 0: unknown.

    `failed` is called with the reason if it could not be measured.
    """

    what: str
    measure: Callable[[], Coroutine[Any, Any, None]]
    failed: Callable[[str], None]
    seconds: float = 0.0


def take(steps: Sequence[Step], terminal: Terminal, run: Run) -> Iterator[None]:
    """Run one step after another and yield after each. A failed step does not end the others."""
    for number, step in enumerate(steps, 1):
        seconds = sum(each.seconds for each in steps[number - 1 :])
        left = f"; the remaining steps take about {seconds:.0f} s" if seconds else ""
        terminal.note(f"[{number}/{len(steps)}] {step.what}{left}")
        try:
            run(step.measure())
        except (MicroqError, OSError) as error:
            terminal.note(f"  could not be measured: {error}")
            step.failed(str(error))
        yield


@dataclass(frozen=True, slots=True)
class Running:
    """A system that was started to be measured, with its consumers on; `ready_s` is the time of its start."""

    config: Config
    folder: Path
    operator: Operator
    ready_s: float


@asynccontextmanager
async def started(
    config: Config, folder: Path, terminal: Terminal, note: Callable[[Running], Awaitable[None]] | None = None
) -> AsyncIterator[Running]:
    """Start a system with its logs in `folder`, and yield it; it is gone afterwards.

    `note` is called before the start is reported as finished.
    """
    await asyncio.to_thread(folder.mkdir, mode=0o700, exist_ok=True)  # it exists already if an earlier start failed
    took: list[float] = []
    async with operating(config, folder, terminal, ready=took.append) as (operator, _):
        running = Running(config, folder, operator, took[0])
        if note:
            await note(running)
        terminal.note(f"  ready after {running.ready_s:.1f} s")
        yield running


@asynccontextmanager
async def under_load(
    running: Running, grouped: Callable[[Snapshot], Mapping[str, Sequence[int]]]
) -> AsyncIterator[System]:
    """Yield a running system with a load generator; `grouped` returns the groups of pids that are reported apart."""
    async with open_session() as session, generating() as generator:
        yield System(session, running.config, grouped(await running.operator.snapshot()), generator)


def versions(engine: Engine) -> dict[str, Any]:
    """Return the versions of the measured software and of microq's libraries."""
    return {
        "microq": __version__,
        "python": platform.python_version(),
        "java": engine.java.version,
        **{name: backend(name).version for name in BACKENDS},
        "clients": {name: _version(name) for name in CLIENTS},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """Return the facts about this machine, its load, and the date."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
