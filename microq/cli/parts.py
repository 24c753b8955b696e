"""The parts of a benchmark, one after the other: what is started for each, and what is measured on it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from microq.bench import cost, held
from microq.bench.batch import batch
from microq.bench.comparison import over
from microq.bench.generator import Generator, generating
from microq.bench.idle import idle
from microq.bench.lag import SHARE, lag
from microq.bench.nothing import doing_nothing
from microq.bench.pace import System
from microq.bench.rates import level
from microq.bench.result import Level, Omission, Rates, Result, Start
from microq.bench.startup import link_cache, timed
from microq.bench.usage import SUPERVISOR, by_name, forget_peaks, peaks
from microq.cli.bench import Options, Part
from microq.cli.output import configuration, note, run
from microq.cli.trials import operating
from microq.client import open_session
from microq.config import Address, Config
from microq.engines.jars import cache_folder
from microq.errors import MicroqError
from microq.fleet import Role
from microq.system import control, records

LONGEST_FILL = 300.0
"""How long the filling of a system may take, in seconds, as far as it can be told before."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to start and to measure; it takes about so many seconds."""

    part: str
    what: str
    seconds: float
    make: Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class _Running:
    """A system of its own that runs, and what it is measured with."""

    config: Config
    folder: Path
    operator: Any
    session: aiohttp.ClientSession
    generator: Generator
    groups: dict[str, list[int]]
    nothing: Address

    @property
    def system(self) -> System:
        return System(self.session, self.config, self.groups, self.generator)


class Bench:
    """A whole benchmark; what it finds is in `result`, step by step."""

    def __init__(self, path: Path | None, sets: Sequence[str], engine: Any, folder: Path, options: Options) -> None:
        self._path, self._sets, self._engine = path, sets, engine
        self._folder, self._options = folder, options
        self._config = configuration(path, [*sets])
        self.result = Result(cores=psutil.cpu_count() or 0)

    def take(self) -> Iterator[None]:
        """Take all steps, and yield after each; one that cannot be taken is noted, and does not end the others."""
        steps = [step for step in self._steps() if step.part in self._options.parts]
        for number, step in enumerate(steps, 1):
            left = sum(each.seconds for each in steps[number - 1 :])
            note(f"[{number}/{len(steps)}] {step.what}; all that is left takes about {left:.0f} s")
            try:
                run(step.make())
            except (MicroqError, OSError) as error:
                self._omit(step.part, str(error), failed=True)
            yield

    def _omit(self, part: str, why: str, *, failed: bool) -> None:
        note(f"  {part}: {'could not be measured' if failed else 'left out'}: {why}")
        self.result.omitted.append(Omission(part, why, failed))

    def _steps(self) -> Iterator[Step]:
        options = self._options
        starts = options.starts
        yield Step("start", "--help, and starts cold and warm", 3 + 13 * starts + options.idle, self._start)
        if Part.START not in options.parts:  # which watches one that it started
            yield Step("idle", "an idle system", 10 + options.idle, self._idle)
        for number in range(1, options.rounds + 1):
            seconds = 6 + len(options.connections) * (2 * options.seconds + 1)
            yield Step("rates", f"rates, round {number} of {options.rounds}", seconds, self._rates)
        yield Step("lag", f"stored behind accepted at {SHARE:.0%} of the highest rate", 12 + options.seconds, self._lag)
        yield Step("batch", f"{options.lines:,} lines in one batch", 14 + options.lines / 6000, self._batch)
        most = max(options.held)
        what = f"up to {most:,} messages held"
        yield Step("held", what, 8 + len(options.held) * (6 * options.seconds) + most / 5000, self._held)
        seconds = 6 + 2 * options.rounds * (options.seconds + 5)
        yield Step("cost", "what crash safety costs", seconds, self._cost)

    @asynccontextmanager
    async def _running(self, what: str, config: Config | None = None) -> AsyncIterator[_Running]:
        """Start a system of its own with its consumers, and beside it all that it is measured with."""
        config = config or self._config
        folder = self._folder / what
        folder.mkdir(mode=0o700, exist_ok=True)  # by a round that could not start
        async with AsyncExitStack() as stack:
            ready = lambda seconds: note(f"  ready after {seconds:.1f} s")  # noqa: E731 - a listener
            starting = operating(config, folder, {}, (), no_messages=False, ready=ready)
            operator, _ = await stack.enter_async_context(starting)
            session = await stack.enter_async_context(open_session())
            generator = await stack.enter_async_context(generating())
            nothing = await stack.enter_async_context(doing_nothing())
            groups = {**by_name(await operator.snapshot()), SUPERVISOR: [os.getpid()]}
            yield _Running(config, folder, operator, session, generator, groups, nothing)

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
        note(f"  cold {min(cold):.1f} s, warm {min(warm):.1f} s, --help {min(helps):.2f} s")
        self.result.start = Start(tuple(helps), tuple(cold), tuple(warm))

    @asynccontextmanager
    async def _up(self, environment: dict[str, str] | None = None) -> AsyncIterator[float]:
        """Start the system as its users do, and yield how long that took; end it, also where it is cut short."""
        where = ["--config", str(self._path)] if self._path else []
        try:
            yield await timed(["up", "-d", *where, *(f"--set={each}" for each in self._sets)], environment)
        finally:
            await timed(["down", *where], environment)

    async def _idle(self) -> None:
        async with self._up():
            await self._watch()

    async def _watch(self) -> None:
        """Watch the system that was started while nobody wants anything of it."""
        async with control.connect(self._config) as operator:
            groups = by_name(await operator.snapshot())
        if (pid := records.supervisor_pid(self._config)) is not None:
            groups[SUPERVISOR] = [pid]
        self.result.idle = await idle(groups, self._options.idle)

    async def _rates(self) -> None:
        options = self._options
        async with self._running(f"rates-{len(self.result.rates) + 1}") as one:
            await one.generator.send(one.nothing, max(options.connections), options.warm)
            await one.system.warm(max(options.connections), options.warm)
            forget_peaks(one.groups)
            levels: list[Level] = []
            try:
                for connections in options.connections:
                    levels.append(await level(one.system, one.generator, one.nothing, connections, options.seconds))
                    _tell(levels[-1])
            finally:
                if levels:  # some of them, after Ctrl-C
                    self.result.rates.append(Rates(tuple(levels), peaks(one.groups)))

    async def _lag(self) -> None:
        options = self._options
        async with self._running("lag") as one:
            await one.system.warm(max(options.connections), options.warm)
            highest = self.result.highest
            if highest is None:
                highest = (await one.system.measure(max(options.connections), options.seconds)).acknowledged_per_s
            self.result.lag = await lag(
                one.system, one.session, one.generator, one.config, SHARE * highest, options.seconds
            )
            note(f"  {self.result.lag.sent_per_s:,.0f}/s; 99 % stored within {self.result.lag.p99_ms} ms")

    async def _batch(self) -> None:
        options = self._options
        async with self._running("batch") as one:
            if self._config.queue.backend == Role.HAZELCAST:
                self.result.bare = await one.generator.bare(one.folder / "config.toml", options.bare)
            else:
                self._omit("bare client", "the queue is Kafka's, whose bare producer is not measured", failed=False)
            facade = next(name for name in one.groups if name.startswith(Role.FACADE))
            address = self._config.service_ips.facade_service
            await one.generator.send_lines(address, options.lines // 20)
            self.result.batch = found = await batch(
                one.system, one.generator, address, one.groups[facade], options.lines
            )
            note(f"  {found.acknowledged_per_s:,.0f}/s acknowledged")

    async def _held(self) -> None:
        options = self._options
        fitting = self._fitting()
        if not fitting:
            return
        self.result.held_settings = held.settings(self._config, max(fitting))
        config = configuration(self._path, [*self._sets, *self.result.held_settings])
        async with self._running("held", config) as one, generating() as reader:
            holding = held.Holding(config, one.system, one.generator, reader, one.nothing, options.seconds)
            await one.generator.send(one.nothing, held.CONNECTIONS, options.warm)
            for messages in fitting:
                missing = messages - (await one.system.held() or 0)
                if holding.fill_per_s and missing / holding.fill_per_s > LONGEST_FILL:
                    why = f"{messages:,} messages would take {missing / holding.fill_per_s:.0f} s to fill in"
                    self._omit("held", why, failed=False)
                    break
                note(f"  filling up to {messages:,} messages")
                await holding.fill(messages)
                await holding.settle()
                self.result.held.append(await holding.measure(messages))
                _tell(self.result.held[-1].level)

    def _fitting(self) -> list[int]:
        """Return the numbers of messages that this machine has the memory for."""
        free = psutil.virtual_memory().available
        fitting = []
        for messages in sorted(self._options.held):
            needed = held.needed_bytes(messages)
            if needed > free:
                why = f"{messages:,} messages need {needed / (1 << 30):.1f} GiB, {free / (1 << 30):.1f} are free"
                self._omit("held", why, failed=False)
            else:
                fitting.append(messages)
        return fitting

    async def _cost(self) -> None:
        options = self._options
        found = []
        async with self._running("cost") as one:
            facade, connections = self._config.service_ips.facade_service, options.cost_connections
            rates = cost.rates(one.operator, one.generator, facade, connections, options.seconds, options.rounds)
            async for rate in rates:
                note(f"  {'with' if rate.safe else 'without'} crash safety: {rate.per_second:,.0f}/s")
                found.append(rate)
        self.result.cost = cost.cost(found)


def _tell(one: Level) -> None:
    ratio = "" if one.ratio is None else f", {one.ratio:.2f} of a do-nothing handler"
    note(f"  {over(one.pace.connections)}: {one.pace.acknowledged_per_s:,.0f}/s{ratio}")
