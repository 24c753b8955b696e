"""The runs of a comparison, one after the other: what is started for each, and what is measured on it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from typing import Any

import psutil

from microq import __version__
from microq.bench.comparison import over
from microq.bench.found import Failure, Found, Paced, Started, Struck
from microq.bench.generator import generating
from microq.bench.nothing import doing_nothing
from microq.bench.pace import Pace, System, by_kind, memory, pace
from microq.bench.scenes import SCENES, Scene
from microq.chaos.controls import NO_REDELIVERY
from microq.chaos.evidence import Evidence
from microq.chaos.forms import scenario
from microq.chaos.history import record
from microq.chaos.matrix import ERROR, Plan, Row, row_of
from microq.chaos.scenario import Stage, Trial
from microq.chaos.timing import longest_silence
from microq.cli.compare import Options
from microq.cli.machine import prepare
from microq.cli.output import note, run
from microq.cli.trials import operating
from microq.client import open_session
from microq.config import Config
from microq.engines import jars, kafka_jars
from microq.engines.provision import Engine
from microq.errors import MicroqError

CLIENTS = ("aiohttp", "aiokafka", "hazelcast-python-client")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to start and to measure in run number `run`; a ceiling has no backend."""

    backend: str
    run: int
    what: str
    make: Callable[[], Coroutine[Any, Any, None]]


def take(configs: Mapping[str, Config], folder: Path, options: Options, found: Found) -> Iterator[None]:
    """Take all steps, and yield after each; one that cannot be taken is noted, and does not end the others."""
    steps = list(_steps(configs, folder, options, found))
    for number, step in enumerate(steps, 1):
        note(f"[{number}/{len(steps)}] run {step.run}, {' '.join(filter(None, (step.backend, step.what)))}")
        try:
            run(step.make())
        except (MicroqError, OSError) as error:
            note(f"  could not be made: {error}")
            found.failures.append(Failure(step.backend, step.run, step.what, str(error)))
        yield


def _steps(configs: Mapping[str, Config], folder: Path, options: Options, found: Found) -> Iterator[Step]:
    for number in range(1, options.runs + 1):
        yield Step("", number, "a handler that does nothing", _Ceiling(number, options, found).measure)
        # Who is first takes turns: a machine that warms up, or that others load, does so to both.
        turn = [_Run(name, number, config, folder, options, found) for name, config in configs.items()]
        turn = turn[:: 1 if number % 2 else -1]
        yield from (Step(one.backend, number, "rates", one.measure) for one in turn)
        yield from (Step(one.backend, number, "faults", one.strike) for one in turn)


@dataclass(frozen=True, slots=True)
class _Ceiling:
    number: int
    options: Options
    found: Found

    async def measure(self) -> None:
        """Measure how much this load generator gets out of a handler that does nothing."""
        paces = []
        async with doing_nothing() as address, generating() as generator:
            await generator.send(address, self.options.connections[-1], self.options.warm)
            for connections in self.options.connections:
                sent = await generator.send(address, connections, self.options.seconds)
                paces.append(pace(connections, sent, None, {}))
                _tell(paces[-1], stores=False)
        self.found.ceiling.append(Paced("", self.number, tuple(paces)))


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of one backend: a fresh system for its rates, and another one for its faults."""

    backend: str
    number: int
    config: Config
    folder: Path
    options: Options
    found: Found

    @asynccontextmanager
    async def _system(self, what: str) -> AsyncIterator[tuple[Any, Path]]:
        """Start a system of its own, in a folder of its own, and note how long that took and what it needs idle."""
        folder = self.folder / f"{self.number}-{self.backend}-{what}"
        folder.mkdir(mode=0o700)
        took: list[float] = []
        async with operating(self.config, folder, {}, (), no_messages=False, ready=took.append) as (operator, _):
            view = await operator.snapshot()
            one = Started(self.backend, self.number, round(took[0], 3), str(folder), memory(view))
            self.found.started.append(one)
            note(f"  ready after {one.seconds:.1f} s")
            yield operator, folder

    async def measure(self) -> None:
        """Measure its rates, latencies, and what it takes; the consumers are on."""
        paces: list[Pace] = []
        async with (
            self._system("rates") as (operator, _),
            open_session() as session,
            generating() as generator,
        ):
            system = System(session, self.config, by_kind(await operator.snapshot()), generator)
            await system.warm(self.options.connections[-1], self.options.warm)
            try:
                for connections in self.options.connections:
                    paces.append(await system.measure(connections, self.options.seconds))
                    _tell(paces[-1])
            finally:
                if paces:  # some of them, after Ctrl-C
                    after = memory(await operator.snapshot())
                    self.found.paced.append(Paced(self.backend, self.number, tuple(paces), after))

    async def strike(self) -> None:
        """Put it through every scene."""
        async with self._system("faults") as (operator, folder), open_session() as session:
            for scene in SCENES:
                one = await self._play(scene, operator, folder, session)
                self.found.struck.append(one)
                _tell_row(scene, one.row)

    async def _play(self, scene: Scene, operator: Any, folder: Path, session: Any) -> Struck:
        options = self.options
        # The same choices for both.
        seed = Random(f"{options.seed} {scene.key} {self.number}").randrange(1 << 32)
        trial = Trial(
            scene.fault,
            options.quiet_messages if scene.quiet else options.messages,
            seed,
            defects=NO_REDELIVERY if scene.quiet else {},
        )
        history = folder / f"{scene.key}.jsonl"
        try:
            with record(history) as written:
                # Restored, as a system that ran before: the next scene needs it whole.
                stage = Stage(self.config, operator, session, written, _silent, restore=True)
                verdict = await scenario(stage, trial, quiet=scene.quiet).run()
        except (MicroqError, OSError) as error:
            row = Row(scene.fault.name, self.number, seed, ERROR, reasons=(str(error),), history=str(history))
            return Struck(self.backend, scene.key, row)
        row = row_of(Plan(scene.fault, self.number, seed), verdict, str(history))
        return Struck(self.backend, scene.key, row, longest_silence(written.entries, Evidence(written.entries).earlier))


def _silent(_text: str) -> None:
    """Say nothing of the steps of a scene; its history has them."""


def _tell(one: Pace, *, stores: bool = True) -> None:
    stored = "n/a" if one.stored_per_s is None else f"{one.stored_per_s:,.0f}/s"
    more = f" acknowledged, {stored} stored" if stores else ""
    note(f"  {over(one.connections)}: {one.acknowledged_per_s:,.0f}/s{more}")


def _tell_row(scene: Scene, row: Row) -> None:
    gap = "n/a" if row.longest_gap_s is None else f"{row.longest_gap_s:.2f} s"
    said = "".join(f"; {reason.partition(chr(10))[0]}" for reason in row.reasons)
    note(f"  {scene.title}: {row.verdict}, {row.acknowledged} acknowledged, gap {gap}{said}")


def provided(configs: Mapping[str, Config]) -> dict[str, Any]:
    """Download what is missing before anything is measured, and return the versions of all that is used.

    Raises `JavaMissingError` or `JarMissingError`.
    """
    engines = [prepare(config) for config in configs.values()]
    return versions(engines[0])


def versions(engine: Engine) -> dict[str, Any]:
    """Return the versions of all that is measured and measured with."""
    return {
        "microq": __version__,
        "python": platform.python_version(),
        "java": engine.java.version,
        "hazelcast": _release(jars.HAZELCAST),
        "kafka": kafka_jars.VERSION,
        "clients": {name: _version(name) for name in CLIENTS},
    }


def _release(jar: jars.Jar) -> str:
    return jar.coordinate.rpartition(":")[2]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """Return what this machine is, how busy it is with other things, and when it is."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
