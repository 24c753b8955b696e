"""Run a comparison: both backends under the same load and faults, alternately, each run on fresh systems."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from microq.bench.ceiling import doing_nothing
from microq.bench.comparison import SCENES, Failure, Found, Paced, Scene, Started, Struck, over, to_json
from microq.bench.generator import generating
from microq.bench.measure import by_kind, memory, pace_of
from microq.bench.options import CompareOptions
from microq.bench.result import Pace
from microq.chaos.checker import longest_silence
from microq.chaos.controls import NO_REDELIVERY
from microq.chaos.evidence import Evidence
from microq.chaos.history import record
from microq.chaos.matrix import ERROR, Plan, Row, row_of
from microq.chaos.scenario import Stage, Trial, scenario
from microq.chaos.timeouts import Timeouts
from microq.client import open_session
from microq.config import Config, without_secrets
from microq.errors import MicroqError, UsageError, reason
from microq.report.comparison import render
from microq.workflows import Terminal
from microq.workflows.finished import REPORT
from microq.workflows.measure import Run, Running, Step, machine, started, take, under_load

FILE = "compare.json"

BUSY = 0.5
"""Load average per core above which a note says that other programs use this machine."""


def check(config: Config) -> None:
    """Raise `UsageError` if the faults of a comparison cannot be applied to a system with this configuration."""
    if not config.managed:
        raise UsageError(
            f"[{config.queue.backend}] managed = false: microq did not start the servers and cannot break them"
        )
    for scene in SCENES:
        scene.fault.check(config, config.servers)


class Comparison:
    """A comparison; its figures are added to `found` step by step; `configs` is backend -> configuration."""

    def __init__(
        self,
        configs: Mapping[str, Config],
        folder: Path,
        options: CompareOptions,
        terminal: Terminal,
        used: Mapping[str, Any],
        *,
        quick: bool,
    ) -> None:
        self._configs, self._folder, self._options, self._terminal = configs, folder, options, terminal
        mine = machine()
        self._facts: dict[str, Any] = {
            "versions": used,
            "machine": mine,
            "options": {**dataclasses.asdict(options), "quick": quick, "backends": list(configs)},
            "seed": options.seed,
            "configuration": {backend: without_secrets(config.to_toml()) for backend, config in configs.items()},
        }
        self.found = Found(tuple(configs), options.connections)
        load, cores = mine["load_average"][0], mine["cores"]
        if load > cores * BUSY:
            terminal.note(
                f"Other programs use this machine (load {load} on {cores} cores): the figures are less reliable."
            )

    @property
    def file(self) -> Path:
        """The file with all figures."""
        return self._folder / FILE

    def take(self, run: Run) -> None:
        """Make all runs, and write the file after each step; note a run that cannot be made."""
        for _ in take(list(self._steps()), self._terminal, run):
            self.write(complete=False)

    def write(self, *, complete: bool) -> dict[str, Any]:
        """Write the results so far, and return the content of the file."""
        whole = to_json(self.found, self._facts, complete=complete)
        self.file.write_text(json.dumps(whole, ensure_ascii=False, indent=2), encoding="utf-8")
        return whole

    def report(self, *, complete: bool) -> Path | None:
        """Write the page of the comparison and return its path; None if it could not be written."""
        file = self._folder / REPORT
        try:
            file.write_text(render(self.found, self._facts, complete=complete), encoding="utf-8")
        except (MicroqError, OSError) as error:  # the figures do not depend on it
            self._terminal.note(f"The report could not be written: {reason(error)}")
            return None
        return file

    def _steps(self) -> Iterator[Step]:
        for number in range(1, self._options.runs + 1):
            yield self._step("", number, "a handler that does nothing", lambda number=number: self._ceiling(number))
            # The first backend alternates: a change in the machine's speed affects both.
            turn = [_Round(name, number, config, self) for name, config in self._configs.items()]
            turn = turn[:: 1 if number % 2 else -1]
            yield from (self._step(one.backend, number, "rates", one.measure) for one in turn)
            yield from (self._step(one.backend, number, "faults", one.strike) for one in turn)

    def _step(self, backend: str, number: int, what: str, measure: Any) -> Step:
        failed = lambda why: self.found.failures.append(Failure(backend, number, what, why))  # noqa: E731 - a listener
        return Step(f"run {number}, {' '.join(filter(None, (backend, what)))}", measure, failed)

    async def _ceiling(self, number: int) -> None:
        """Measure the rate of a handler that does nothing, with this load generator."""
        options, paces = self._options, []
        async with doing_nothing() as address, generating() as generator:
            await generator.send(address, options.connections[-1], options.warm)
            for connections in options.connections:
                sent = await generator.send(address, connections, options.seconds)
                paces.append(pace_of(connections, sent, None, {}))
                self.tell(paces[-1], stores=False)
        self.found.ceiling.append(Paced("", number, tuple(paces)))

    def tell(self, one: Pace, *, stores: bool = True) -> None:
        """Show a rate."""
        stored = "n/a" if one.stored_per_s is None else f"{one.stored_per_s:,.0f}/s"
        more = f" acknowledged, {stored} stored" if stores else ""
        self._terminal.note(f"  {over(one.connections)}: {one.acknowledged_per_s:,.0f}/s{more}")

    def tell_row(self, scene: Scene, row: Row) -> None:
        """Show the result of a fault."""
        gap = "n/a" if row.longest_gap_s is None else f"{row.longest_gap_s:.2f} s"
        reasons = "".join(f"; {reason.partition(chr(10))[0]}" for reason in row.reasons)
        self._terminal.note(f"  {scene.title}: {row.verdict}, {row.acknowledged} acknowledged, gap {gap}{reasons}")

    def system(self, backend: str, number: int, config: Config, what: str) -> Any:
        """Start a fresh system in its own folder; note the time of the start and the idle memory."""

        async def note(running: Running) -> None:
            sizes = memory(await running.operator.snapshot())
            self.found.started.append(Started(backend, number, round(running.ready_s, 3), str(running.folder), sizes))

        return started(config, self._folder / f"{number}-{backend}-{what}", self._terminal, note)

    @property
    def options(self) -> CompareOptions:
        """The amount of measurement."""
        return self._options


@dataclass(frozen=True, slots=True)
class _Round:
    """One run of one backend: a fresh system for its rates, and another one for its faults."""

    backend: str
    number: int
    config: Config
    whole: Comparison

    async def measure(self) -> None:
        """Measure its rates, latencies and usage; the consumers are on."""
        options, paces = self.whole.options, list[Pace]()
        async with (
            self.whole.system(self.backend, self.number, self.config, "rates") as running,
            under_load(running, by_kind) as system,
        ):
            await system.warm(options.connections[-1], options.warm)
            try:
                for connections in options.connections:
                    paces.append(await system.measure(connections, options.seconds))
                    self.whole.tell(paces[-1])
            finally:
                if paces:  # some of them, after Ctrl-C
                    after = memory(await running.operator.snapshot())
                    self.whole.found.paced.append(Paced(self.backend, self.number, tuple(paces), after))

    async def strike(self) -> None:
        """Apply every fault to it."""
        async with (
            self.whole.system(self.backend, self.number, self.config, "faults") as running,
            open_session() as session,
        ):
            for scene in SCENES:
                one = await self._play(scene, running, session)
                self.whole.found.struck.append(one)
                self.whole.tell_row(scene, one.row)

    async def _play(self, scene: Scene, running: Running, session: aiohttp.ClientSession) -> Struck:
        options = self.whole.options
        # The same choices for both backends.
        seed = Random(f"{options.seed} {scene.key} {self.number}").randrange(1 << 32)
        trial = Trial(
            scene.fault,
            options.quiet_messages if scene.quiet else options.messages,
            seed,
            quiet=scene.quiet,
            defects=NO_REDELIVERY if scene.quiet else {},
            reread=False,
        )
        history = running.folder / f"{scene.key}.jsonl"
        try:
            with record(history) as written:
                stage = Stage(
                    self.config,
                    running.operator,
                    session,
                    written,
                    lambda _step: None,  # the history has the steps
                    restore=True,  # the next fault needs a complete system
                    timeouts=Timeouts.of(self.config),
                )
                verdict = await scenario(stage, trial).run()
        except (MicroqError, OSError) as error:
            row = Row(scene.fault.name, self.number, seed, ERROR, reasons=(str(error),), history=str(history))
            return Struck(self.backend, scene.key, row)
        row = row_of(Plan(scene.fault, self.number, seed), verdict, str(history))
        return Struck(self.backend, scene.key, row, longest_silence(written.entries, Evidence(written.entries).others))
