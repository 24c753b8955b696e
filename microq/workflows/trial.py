"""A trial: made from options, checked against the system, run on it, and judged."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from microq.aio import task_group
from microq.backends import with_traits
from microq.chaos.controls import NO_REDELIVERY
from microq.chaos.faults import CHECKS, FAULTS, MESSAGES_LIVE, MESSAGES_QUIET, MOST_SEED, has_quiet_form
from microq.chaos.faults.base import Fault, Say, options_of, summary
from microq.chaos.faults.servers import KINDS
from microq.chaos.history import FILE, PUBLISHED, Entry, record
from microq.chaos.scenario import Stage, Trial, check_room, quietly, scenario
from microq.chaos.timeouts import Timeouts
from microq.chaos.verdict import Verdict
from microq.client import open_session
from microq.config import Config
from microq.errors import MicroqError, UsageError
from microq.fleet import Event, Operator, Topic
from microq.supervisor import records, runs, topology
from microq.workflows.finished import write_report

RUNS_HERE = "a system runs here already"


# -- its options ------------------------------------------------------------------------------------------------------


def make(name: str, options: Mapping[str, Any]) -> Fault:
    """Return a fault with some of its options; raises `UsageError` for an unknown name or option."""
    kind: Any = FAULTS.get(name)
    if kind is None:
        raise UsageError(f"no fault is called {name!r}; `microq chaos list` shows them")
    known = {option.name: option for option in options_of(kind)}
    if unknown := sorted(set(options) - known.keys()):
        raise UsageError(f"{name} has no option {', '.join(map(repr, unknown))}")
    for option, value in options.items():
        known[option].check(value)
    fault: Fault = kind(**options)
    return fault


def trial_of(fault: Fault, quiet: bool | None, messages: int | None, **more: Any) -> Trial:  # noqa: FBT001 - as the user asked
    """Return the trial of a fault; its consumers are off if the user asks for it, or if that is the form of the task.

    Other options have the defaults of the fault's command; `more` are fields of `Trial`. Raises `UsageError` if the
    fault has no quiet form.
    """
    if quiet:
        quietly(fault)
    off = type(fault) in CHECKS if quiet is None else quiet
    count = messages or (MESSAGES_QUIET if off else MESSAGES_LIVE)
    seed = more.pop("seed", None)
    seed = secrets.randbelow(MOST_SEED) if seed is None else seed
    return Trial(fault, count, seed, quiet=off, defects=NO_REDELIVERY if off else {}, **more)


# -- its system -------------------------------------------------------------------------------------------------------


def needs(kind: type[Fault] | Fault, config: Config, settings: Sequence[str] = ()) -> str:
    """Return what a system with this configuration lacks for a fault; empty if the fault can use it."""
    here = f"queue.backend={config.queue.backend}"  # a setting that it has already is not needed
    lacking = [each for each in (*kind.settings, *settings) if each != here]
    return ", ".join([*lacking, *(["links between its processes"] if kind.needs_links else [])])


def configured(
    fault: Fault, load: Callable[[Sequence[str]], Config], sets: Sequence[str], settings: Sequence[str] = ()
) -> Config:
    """Return the configuration of the running system, else the one that fault and options ask for.

    `load` loads a configuration with settings in the form of `--set`. Raises `UsageError` if the fault needs another
    system than the running one.
    """
    config = load([*fault.settings, *settings, *sets])
    if records.supervisor_pid(config) is None:
        fault.check(config, config.servers)  # before anything is started
        return config
    running = records.in_force(config)
    if lacking := needs(fault, running, settings):
        raise UsageError(f"{RUNS_HERE}, and {fault.name} needs a new one, with {lacking}; `microq down` ends it")
    if [each for each in sets if each != f"queue.backend={running.queue.backend}"]:
        raise UsageError(f"{RUNS_HERE}, so --set or --queue would change nothing; `microq down` ends it")
    return running


def check_alone(config: Config) -> None:
    """Raise `UsageError` if a system runs here, or `PortTakenError`: each run needs a fresh system."""
    if records.supervisor_pid(config) is not None:
        raise UsageError(f"{RUNS_HERE}, and each run needs a fresh one; `microq down` ends it")
    if not records.leftovers(config):  # those are ended first
        topology.check_ports(topology.specs(config))


def offered(config: Config) -> list[dict[str, Any]]:
    """Return every fault for the page: its options, and why it cannot be applied to the running system."""
    return [_offered(name, kind, config) for name, kind in FAULTS.items()]


def _offered(name: str, kind: type[Fault], config: Config) -> dict[str, Any]:
    why_not = _why_not(kind, config)
    return {
        "name": name,
        "help": summary(kind).rstrip("."),
        "quiet": has_quiet_form(kind),
        "quiet_default": kind in CHECKS,
        "runnable": not why_not,
        "why_not": why_not,
        "fields": [
            {
                **{key: getattr(option, key) for key in ("name", "help", "least", "most", "default")},
                "type": option.type.__name__,
                "choices": KINDS if option.name == "target" else (),
            }
            for option in options_of(kind)
        ],
    }


def _why_not(kind: type[Fault], config: Config) -> str:
    if lacking := needs(kind, config):
        return f"it needs a new system, with {lacking}: `microq down`, then `microq chaos {kind.name}`"
    if not kind.suits(config.queue.backend):
        return f"it is a fault of {' and '.join(with_traits(kind.needs))}"
    return "" if config.managed else "microq did not start the servers"


# -- the run ----------------------------------------------------------------------------------------------------------


@contextmanager
def reserved(config: Config, trial: Trial) -> Iterator[Path]:
    """Hold the lock of scenarios, and yield the folder of a new run.

    Raises `UsageError` if another scenario runs, or the queue cannot hold what the trial sends.
    """
    if trial.quiet:  # before anything is started
        check_room(config, trial)
    with runs.only_scenario(config):
        yield runs.new_run(config, trial.fault.name.replace("+", "-"))


async def run_on(  # noqa: PLR0913 - a trial, the system, and the listeners
    operator: Operator,
    config: Config,
    trial: Trial,
    folder: Path,
    say: Say,
    *,
    restore: bool,
    links: Any = None,
    pace: float = 0.0,
) -> tuple[Verdict, Path]:
    """Run a trial on a system; return its verdict and its history, which is written into `folder`.

    `restore`: the system ran before, and is restored afterwards, even if this is cancelled. `pace` is that of `Stage`.
    """
    history = folder / FILE
    async with open_session() as session, publishing(operator, folder.name) as publisher:
        with record(history, publisher.note) as written:
            timeouts, tell = Timeouts.of(config), publisher.also(say)
            more: dict[str, Any] = {"restore": restore, "links": links, "timeouts": timeouts, "pace": pace}
            stage = Stage(config, operator, session, written, tell, **more)
            verdict = await scenario(stage, trial).run()
        publisher.verdict(verdict.to_json(str(history)))
        return verdict, history


async def run_here(operator: Operator, config: Config, trial: Trial) -> tuple[Verdict, Path]:
    """Run a trial on the running system, restore it, and write the history and the report.

    Raises `UsageError` if another scenario runs in this project, or the system lacks something for this one.
    """
    if lacking := needs(trial.fault, config):
        raise UsageError(f"{trial.fault.name} needs a new system, with {lacking}")
    with reserved(config, trial) as folder:
        verdict, history = await run_on(operator, config, trial, folder, lambda _: None, restore=True)
    await asyncio.to_thread(write_report, history)
    return verdict, history


# -- its events, for all watchers of the system -----------------------------------------------------------------------

SECONDS = 5.0
"""Seconds that publishing the last events may take."""


class Publisher:
    """Publishes the events of the scenario `name`. `publishing` makes it."""

    def __init__(self, operator: Operator, name: str) -> None:
        self._operator, self._name = operator, name
        self._words: asyncio.Queue[Event | None] = asyncio.Queue()
        self._judged = False

    def note(self, entry: Entry) -> None:
        """Publish an event of the history, unless it is about a single message."""
        if entry.kind in PUBLISHED:
            self._tell(entry.kind, entry.wall, facts=entry.facts)

    def also(self, say: Say) -> Say:
        """Return a function that passes a line to `say` and publishes it."""

        def both(text: str) -> None:
            say(text)
            self._tell("says", time.time(), text.strip())

        return both

    def verdict(self, facts: dict[str, Any]) -> None:
        """Publish the verdict."""
        self._judged = True
        self._tell("verdict", time.time(), facts=facts)

    def _tell(self, kind: str, at: float, detail: str = "", facts: dict[str, Any] | None = None) -> None:
        self._words.put_nowait(Event(at, self._name, kind, detail, Topic.SCENARIO, facts or {}))

    def end(self) -> None:
        """Make `run` end when everything is published."""
        if not self._judged:
            self._tell("failed", time.time(), "it ended without a verdict")
        self._words.put_nowait(None)

    async def run(self) -> None:
        """Publish the events in order; if the system is gone, drop them."""
        with suppress(MicroqError):
            while event := await self._words.get():
                await self._operator.announce(event)


@asynccontextmanager
async def publishing(operator: Operator, name: str, seconds: float = SECONDS) -> AsyncIterator[Publisher]:
    """Yield a publisher of the scenario `name`; after the body, its last events are published, within a deadline."""
    publisher = Publisher(operator, name)
    async with task_group() as tasks:
        telling = tasks.create_task(publisher.run())
        try:
            yield publisher
        finally:
            publisher.end()
            await asyncio.wait([telling], timeout=seconds)
            telling.cancel()
