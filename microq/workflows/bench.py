"""Run a benchmark: each part on fresh systems, and the files of its figures."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from microq.backends import backend
from microq.backends.jars import Engine, cache_folder
from microq.bench.ceiling import doing_nothing
from microq.bench.comparison import over
from microq.bench.experiments import (
    HELD_CONNECTIONS,
    LAG_SHARE,
    Holding,
    bytes_to_hold,
    cost_of,
    cost_rates,
    link_cache,
    measure_batch,
    measure_lag,
    settings_to_hold,
    timed,
)
from microq.bench.generator import generating
from microq.bench.measure import CLIENT, SUPERVISOR, System, by_name, forget_peaks, measure_level, peaks, watch_idle
from microq.bench.options import BenchOptions, Part
from microq.bench.profile import Spent, hottest, read, record, recorder
from microq.bench.result import Level, Omission, Rates, Result, Start
from microq.bench.table import TARGETS, judge
from microq.config import Address, Config, without_secrets
from microq.errors import UnknownNameError, UsageError
from microq.fleet import SERVERS, Role, Snapshot, group_of
from microq.supervisor import control, records
from microq.supervisor.topology import specs
from microq.terminal.bench import markdown
from microq.workflows import Terminal
from microq.workflows.measure import Run, Running, Step, machine, started, take, under_load, versions

JSON_FILE, MARKDOWN_FILE = "bench.json", "bench.md"

FORMAT = 2
"""The version of the JSON format."""

LONGEST_FILL = 300.0
"""Seconds that filling a system may take, estimated from the last filling; a larger size is left out."""

PROFILED_CONNECTIONS = 32

MOST_FUNCTIONS = 20
"""The number of functions of a profile that are reported."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A running system under load, and the address of its ceiling, a handler that does nothing."""

    running: Running
    system: System
    ceiling: Address


class Benchmark:
    """A benchmark; its figures are added to `result` step by step.

    `load` loads the configuration with additional settings in the form of `--set`; `words` are the options with which
    commands find the same configuration. `repeat` is the command that repeats it.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what is measured, with what, and where the progress is shown
        self,
        load: Callable[[Sequence[str]], Config],
        words: Sequence[str],
        engine: Engine,
        folder: Path,
        options: BenchOptions,
        terminal: Terminal,
        repeat: str,
    ) -> None:
        self._load, self._words, self._engine = load, words, engine
        self._folder, self._options, self._terminal = folder, options, terminal
        self._config = load([])
        self._facts = {
            "format": FORMAT,
            "machine": machine(),
            "versions": versions(engine),
            "options": dataclasses.asdict(options),
            "repeat": repeat,
            "configuration": without_secrets(self._config.to_toml()),
        }
        self.result = Result(cores=psutil.cpu_count() or 0)

    def take(self, run: Run) -> None:
        """Measure everything, and write the files after each step; note the parts that cannot be measured."""
        for _ in take(list(self._steps()), self._terminal, run):
            self.write(complete=False)

    def write(self, *, complete: bool) -> dict[str, Any]:
        """Write the figures so far as JSON and as Markdown, and return the JSON object."""
        judged = [dataclasses.asdict(each) for each in judge(self.result, TARGETS)]
        whole = {**self._facts, "complete": complete, **self.result.to_json(), "targets": judged}
        (self._folder / JSON_FILE).write_text(json.dumps(whole, ensure_ascii=False, indent=2), encoding="utf-8")
        (self._folder / MARKDOWN_FILE).write_text(markdown(self.result, self._facts), encoding="utf-8")
        return whole

    def _steps(self) -> Iterator[Step]:
        return (self._step(*each) for each in self._measurements() if each[0] in self._options.parts)

    def _step(self, part: Part, what: str, seconds: float, measure: Any) -> Step:
        return Step(what, measure, lambda why: self.result.omitted.append(Omission(part, why, failed=True)), seconds)

    def _measurements(self) -> Iterator[tuple[Part, str, float, Any]]:
        """Yield each part, its title, about how many seconds it takes, and the function that measures it."""
        options = self._options
        starts = options.starts
        yield Part.START, "--help, and starts cold and warm", 3 + 13 * starts + options.idle, self._start
        if Part.START not in options.parts:  # that part measures an idle system too
            yield Part.IDLE, "an idle system", 10 + options.idle, self._idle
        for number in range(1, options.rounds + 1):
            seconds = 6 + len(options.connections) * (2 * options.seconds + 1)
            yield Part.RATES, f"rates, round {number} of {options.rounds}", seconds, self._rates
        what = f"stored behind accepted at {LAG_SHARE:.0%} of the highest rate"
        yield Part.LAG, what, 12 + options.seconds, self._lag
        yield Part.BATCH, f"{options.lines:,} lines in one batch", 14 + options.lines / 6000, self._batch
        most = max(options.held)
        seconds = 8 + len(options.held) * (6 * options.seconds) + most / 5000
        yield Part.HELD, f"up to {most:,} messages held", seconds, self._held
        seconds = 6 + 2 * options.rounds * (options.seconds + 5)
        yield Part.COST, "what crash safety costs", seconds, self._cost

    def _leave_out(self, part: str, why: str) -> None:
        self._terminal.note(f"  {part}: left out: {why}")
        self.result.omitted.append(Omission(part, why, failed=False))

    @asynccontextmanager
    async def _loaded(self, part: Part, messages: int, number: str = "") -> AsyncIterator[_Loaded]:
        """Start a fresh system that can hold this number of messages, with a load generator and a ceiling."""
        config = self._carrying(part, messages)
        async with AsyncExitStack() as stack:
            running = await stack.enter_async_context(started(config, self._folder / (part + number), self._terminal))
            system = await stack.enter_async_context(under_load(running, _processes))
            yield _Loaded(running, system, await stack.enter_async_context(doing_nothing()))

    def _carrying(self, part: Part, messages: int) -> Config:
        settings = settings_to_hold(self._config, messages)
        if not settings:
            return self._config
        self.result.settings[part] = settings
        return self._load(settings)

    async def _start(self) -> None:
        options, cache = self._options, cache_folder()
        helps = [await timed(["--help"]) for _ in range(3)]
        cold: list[float] = []
        for _ in range(options.starts):
            with tempfile.TemporaryDirectory(prefix="cold-", dir=self._folder) as empty:
                link_cache(self._engine.files, cache, Path(empty))
                async with self._up({"MICROQ_CACHE": empty}) as seconds:
                    cold.append(seconds)
        warm: list[float] = []
        for _ in range(options.starts):
            async with self._up() as seconds:
                warm.append(seconds)
                if Part.IDLE in options.parts and len(warm) == options.starts:
                    await self._watch()
        self._terminal.note(f"  cold {min(cold):.1f} s, warm {min(warm):.1f} s, --help {min(helps):.2f} s")
        self.result.start = Start(tuple(helps), tuple(cold), tuple(warm))

    @asynccontextmanager
    async def _up(self, environment: Mapping[str, str] | None = None) -> AsyncIterator[float]:
        """Start the system by its command, and yield the seconds; end it, even if this is interrupted."""
        where = [word for word in self._words if not word.startswith("--set=")]
        try:
            yield await timed(["up", "-d", *self._words], environment)
        finally:
            await timed(["down", *where], environment)

    async def _idle(self) -> None:
        async with self._up():
            await self._watch()

    async def _watch(self) -> None:
        """Measure the idle system."""
        async with control.connect(self._config) as operator:
            groups = by_name(await operator.snapshot())
        if (pid := records.supervisor_pid(self._config)) is not None:
            groups[SUPERVISOR] = [pid]
        self.result.idle = await watch_idle(groups, self._options.idle)

    async def _rates(self) -> None:
        options = self._options
        number = f"-{len(self.result.rates) + 1}"
        async with self._loaded(Part.RATES, options.most_messages[Part.RATES], number) as one:
            await one.system.generator.send(one.ceiling, max(options.connections), options.warm)
            await one.system.warm(max(options.connections), options.warm)
            forget_peaks(one.system.groups)
            levels: list[Level] = []
            try:
                for connections in options.connections:
                    levels.append(await measure_level(one.system, one.ceiling, connections, options.seconds))
                    self._tell(levels[-1])
            finally:
                if levels:  # some of them, after Ctrl-C
                    self.result.rates.append(Rates(tuple(levels), peaks(one.system.groups)))

    async def _lag(self) -> None:
        options = self._options
        async with self._loaded(Part.LAG, options.most_messages[Part.LAG]) as one:
            await one.system.warm(max(options.connections), options.warm)
            highest = self.result.highest
            if highest is None:
                highest = (await one.system.measure(max(options.connections), options.seconds)).acknowledged_per_s
            found = await measure_lag(one.system, LAG_SHARE * highest, options.seconds)
        self.result.lag = found
        self._terminal.note(f"  {found.sent_per_s:,.0f}/s; 99 % stored within {found.p99_ms} ms")

    async def _batch(self) -> None:
        options = self._options
        async with self._loaded(Part.BATCH, options.most_messages[Part.BATCH]) as one:
            if backend(self._config.queue.backend).keeps_maps:
                generator = one.system.generator
                self.result.bare = await generator.bare(one.running.folder / "config.toml", options.bare)
            else:
                self._leave_out(
                    "bare client",
                    f"only the map store's client is measured bare, and the queue is {self._config.queue.backend}'s",
                )
            facade = next(name for name in one.system.groups if name.startswith(Role.FACADE))
            address = self._config.service_ips.facade_service
            await one.system.generator.send_lines(address, options.lines // 20)
            found = await measure_batch(one.system, one.system.groups[facade], options.lines)
        self.result.batch = found
        self._terminal.note(f"  {found.acknowledged_per_s:,.0f}/s acknowledged")

    async def _held(self) -> None:
        options = self._options
        fitting = list(self._fitting())
        if not fitting:
            return
        async with self._loaded(Part.HELD, max(fitting)) as one, generating() as reader:
            holding = Holding(one.system, reader, one.ceiling, options.seconds)
            await one.system.generator.send(one.ceiling, HELD_CONNECTIONS, options.warm)
            for messages in fitting:
                missing = messages - (await one.system.held() or 0)
                if holding.fill_per_s and missing / holding.fill_per_s > LONGEST_FILL:
                    seconds = missing / holding.fill_per_s
                    self._leave_out(Part.HELD, f"{messages:,} messages would take {seconds:.0f} s to fill in")
                    break
                self._terminal.note(f"  filling up to {messages:,} messages")
                await holding.fill(messages)
                await holding.settle()
                self.result.held.append(await holding.measure(messages))
                self._tell(self.result.held[-1].level)

    def _fitting(self) -> Iterator[int]:
        """Yield the numbers of messages for which this machine has enough memory."""
        free = psutil.virtual_memory().available
        for messages in sorted(self._options.held):
            needed = bytes_to_hold(self._config, messages)
            if needed <= free:
                yield messages
            else:
                why = f"{messages:,} messages need {needed / (1 << 30):.1f} GiB, {free / (1 << 30):.1f} are free"
                self._leave_out(Part.HELD, why)

    async def _cost(self) -> None:
        options = self._options
        found = []
        async with self._loaded(Part.COST, options.most_messages[Part.COST]) as one:
            facade, connections = self._config.service_ips.facade_service, options.cost_connections
            rates = cost_rates(
                one.running.operator, one.system.generator, facade, connections, options.seconds, options.rounds
            )
            async for rate in rates:
                word = "with" if rate.safe else "without"
                self._terminal.note(f"  {word} crash safety: {rate.per_second:,.0f}/s")
                found.append(rate)
        self.result.cost = cost_of(found)

    def _tell(self, one: Level) -> None:
        spent = one.cpu_s_per_1000
        cpu = "unknown" if spent is None else f"{1000 * spent:,.0f} ms"
        ratio = "" if one.ratio is None else f", {one.ratio:.2f} of a do-nothing handler"
        self._terminal.note(
            f"  {over(one.pace.connections)}: processor time for 1,000 messages {cpu}; "
            f"{one.pace.acknowledged_per_s:,.0f}/s{ratio}"
        )


def _processes(view: Snapshot) -> dict[str, list[int]]:
    """Return the pids of each process, and those of the supervisor, which is this process."""
    return {**by_name(view), SUPERVISOR: [os.getpid()]}


# -- where a process spends its time -----------------------------------------------------------------------------------


def profiled_process(config: Config, name: str) -> str:
    """Return the process with this name, or the first one with this role.

    Raises `UnknownNameError`, `UsageError` for a process of Java, and `ExtraMissingError` without the profiler.
    """
    known = specs(config)
    spec = next((each for each in known if name in {each.name, group_of(each.name)}), None)
    if spec is None and name != CLIENT:
        groups = dict.fromkeys(group_of(each.name) for each in known)
        raise UnknownNameError(name, [CLIENT, *groups, *(each.name for each in known)])
    if spec is not None and spec.role in SERVERS:
        raise UsageError(
            f"{spec.name} is a process of Java, which py-spy cannot look into; a JDK can, while it is under load: "
            f"jcmd PID JFR.start duration=30s filename={spec.name}.jfr (its PID is in `microq status --json`)"
        )
    recorder()
    return CLIENT if spec is None else spec.name


async def profile(config: Config, name: str, file: Path, options: BenchOptions, terminal: Terminal) -> list[Spent]:
    """Profile a process of a fresh system under load into a file; return its hottest functions.

    Raises `MachineError` if the profiler cannot read the process.
    """
    async with started(config, file.parent, terminal) as running, under_load(running, by_name) as system:
        pids = {**system.groups, CLIENT: [system.generator.pid]}
        await system.warm(PROFILED_CONNECTIONS, options.warm)
        seconds = max(options.seconds, 1)
        terminal.note(f"Watching {name} for {seconds:g} s, with {PROFILED_CONNECTIONS} connections.")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(record(pids[name][0], seconds, file))
            tasks.create_task(system.measure(PROFILED_CONNECTIONS, seconds + 1))
    return hottest(read(file), MOST_FUNCTIONS)
