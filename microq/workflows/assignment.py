"""Do the assignment on a fresh system, step by step; each step is judged by `chaos.assignment`."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from microq.aio import poll_until
from microq.backends import backend
from microq.chaos import assignment
from microq.chaos.assignment import FIRST_TEXTS, MESSAGES, NOT_SENT, Answer, Assignment, Logged, Number, Sets, Step
from microq.chaos.evidence import Evidence
from microq.chaos.faults.servers import KillMember
from microq.chaos.history import Entry, read
from microq.chaos.scenario import Trial, fitted
from microq.chaos.verdict import Ruling
from microq.config import Config, without_secrets
from microq.errors import ExitedEarlyError, MicroqError, StartTimeoutError, UnreadableError, UsageError, reason
from microq.exchange import Exchanges, open_exchanges
from microq.fleet import Operator, Role, addresses, name_of
from microq.log import readable
from microq.message import Outcome
from microq.report.assignment import render
from microq.supervisor import runs
from microq.wire import spotted
from microq.workflows import Terminal, messages
from microq.workflows.host import operating
from microq.workflows.trial import check_alone, run_on, trial_of

FILE, PAGE = "assignment.json", "assignment.html"

READY_SECONDS = 10.0
"""Seconds that the processes may take to be seen as ready after the start."""

SEND_SECONDS = 60.0
"""Seconds after which no further one of the first messages is sent."""

ARRIVAL_SECONDS = 30.0
"""Seconds that the first messages may take until every log shows them."""

LOOK = 0.2
"""Seconds between two readings of the logs."""

FEWEST_GETS, MOST_GETS = 5, 40
"""How many GETs there are at least, and at most until each messages-service has answered."""

MOST_READ = 32 << 20
"""Bytes that are read of one log: a program may flood it."""


Tell = Callable[[Step], None]
"""Called with each step when it ends."""


def check(config: Config) -> None:
    """Raise `UsageError` if the assignment cannot be done with this configuration, or a system runs here."""
    if not config.managed:
        raise UsageError(f"[{config.queue.backend}] managed = false: the servers are not microq's, it cannot kill one")
    check_alone(config)
    KillMember().check(config, config.servers)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the assignment is done: whose work it is, and how many seconds it waits after each step.

    `target` is the one of `SERVER_WORDS` that selects the killed server; empty: that of the task.
    """

    student: str = ""
    pace: float = 0.0
    target: str = ""

    def target_in(self, config: Config) -> str:
        """Return the word that selects the killed server."""
        return self.target or backend(config.queue.backend).default_target

    def trial_in(self, config: Config) -> Trial:
        """Return the trial of the fault-tolerance check."""
        fault = KillMember(self.target_in(config))
        return fitted(config, trial_of(fault, quiet=True, messages=MESSAGES, probe=False, reread=False))


async def perform(config: Config, plan: Plan, terminal: Terminal, tell: Tell) -> tuple[Assignment, Path]:
    """Do the assignment, and return its result and its folder. Nothing is left running.

    Raises `MachineError` if this machine lacks something.
    """
    with runs.only_scenario(config):
        folder = runs.new_run(config, "assignment")
        doing = _Doing(config, plan, folder, terminal, tell)
        began = time.time()
        try:
            async with operating(config, folder, terminal, defects=plan.trial_in(config).defects) as (operator, _):
                await doing.everything(operator)
        except (ExitedEarlyError, StartTimeoutError) as error:
            if doing.steps:  # the start went well, and each step has an error boundary
                raise
            doing.add(assignment.failed(Number.START, str(error)), time.monotonic() - doing.began)
        for step in assignment.untried(doing.steps[-1]):
            doing.add(step, 0.0)
        history = str(doing.history) if doing.history else ""
        return Assignment(plan.student, config.queue.backend, began, tuple(doing.steps), history), folder


def write(found: Assignment, folder: Path) -> Path:
    """Write the result as JSON, and as a report; return the path of the report. Raises `MachineError`, `OSError`."""
    whole = json.dumps(found.to_json(), ensure_ascii=False, indent=2)
    (folder / FILE).write_text(whole, encoding="utf-8")
    entries: Sequence[Entry] = read(Path(found.history)) if found.history else ()
    config = folder / runs.CONFIG_FILE
    config_toml = without_secrets(config.read_text(encoding="utf-8")) if config.is_file() else ""
    page = folder / PAGE
    page.write_text(render(found, entries, config_toml=config_toml), encoding="utf-8")
    return page


@dataclass(slots=True)
class _Doing:
    """The steps so far."""

    config: Config
    plan: Plan
    folder: Path
    terminal: Terminal
    tell: Tell
    began: float = field(default_factory=time.monotonic)
    steps: list[Step] = field(default_factory=list)
    history: Path | None = None

    def add(self, step: Step, seconds: float) -> None:
        """Add a step, and tell of it."""
        self.steps.append(dataclasses.replace(step, seconds=round(step.seconds or seconds, 3)))
        self.tell(self.steps[-1])

    async def take(self, number: Number, make: Callable[[], Awaitable[Step]]) -> Step:
        """Take one step; an error is its result. Then wait, so that people can read it."""
        began = time.monotonic() if self.steps else self.began  # the first step has begun before the system ran
        try:
            step = await make()
        except MicroqError as error:
            step = assignment.failed(number, str(error), unseen=isinstance(error, UnreadableError))
        self.add(step, time.monotonic() - began)
        await asyncio.sleep(self.plan.pace)
        return step

    async def everything(self, operator: Operator) -> None:
        """Take all steps on a system that has started; end early if no message was accepted."""
        await self.take(Number.START, lambda: self._start(operator))
        async with open_exchanges(self.config) as exchanges:
            first = _First(self.config, exchanges, self.folder)
            await self.take(Number.SEND, first.send)
            if not first.accepted:
                return
            await self.take(Number.LOGGED, first.logged)
            await self.take(Number.RECEIVED, first.received)
            await self.take(Number.READ, first.read)
        if (await self.take(Number.OFF, lambda: self._off(operator))).ruling is Ruling.PASS:
            await self._check(operator)

    async def _start(self, operator: Operator) -> Step:
        whole = lambda view: assignment.start(view).ruling is Ruling.PASS and view.settled  # noqa: E731 - a condition
        return assignment.start(await operator.look(whole, READY_SECONDS))

    async def _off(self, operator: Operator) -> Step:
        await operator.stop([Role.MESSAGES.value])
        return assignment.off(await operator.snapshot())

    async def _check(self, operator: Operator) -> None:
        """Make the fault-tolerance check; its steps are judged together at its end."""
        trial = self.plan.trial_in(self.config)
        logs = _Logs(self.folder)
        logs.skip()
        began = time.monotonic()
        try:
            found, self.history = await run_on(
                operator, self.config, trial, self.folder, self.terminal.note, restore=False, pace=self.plan.pace
            )
        except MicroqError as error:
            # Of external services it is not certain that the error is theirs.
            ended = assignment.failed(Number.FILL, f"the check ended early: {error}", unseen=self.config.by_text)
            self.add(ended, time.monotonic() - began)
            return
        record = Evidence(read(self.history))
        names = assignment.texts(record, MESSAGES)
        consumers = [logs.of(name, set(names.values())) for name in _names(self.config, Role.MESSAGES)]
        lowest = name_of(self.config, Role.QUEUE, min(addresses(self.config, Role.QUEUE)))
        for step in assignment.check(record, found, self.plan.target_in(self.config), lowest, consumers):
            self.add(step, 0.0)


def _names(config: Config, role: Role) -> list[str]:
    return [name_of(config, role, address) for address in addresses(config, role)]


@dataclass(slots=True)
class _First:
    """The steps with the first messages; `accepted` are the texts that were acknowledged."""

    config: Config
    exchanges: Exchanges
    folder: Path
    accepted: list[str] = field(default_factory=list)
    consumers: list[Logged] = field(default_factory=list)
    """The logs of the messages-services."""

    async def send(self) -> Step:
        """Send them one after another."""
        loop = asyncio.get_running_loop()
        end, answers = loop.time() + SEND_SECONDS, []
        for text in FIRST_TEXTS:
            if loop.time() >= end:
                answers.append(Answer(text, NOT_SENT, f"{SEND_SECONDS:g} s had passed"))
            elif receipt := (await self.exchanges.send(text)).receipt:
                answers.append(Answer(text, receipt.outcome.value, receipt.reason))
        self.accepted = [answer.text for answer in answers if answer.outcome == Outcome.ACKNOWLEDGED]
        return assignment.send(answers)

    async def logged(self) -> Step:
        """Read the logs of the logging-services."""
        return assignment.logged(await self._logs(Role.LOGGING), self.accepted)

    async def received(self) -> Step:
        """Read the logs of the messages-services."""
        self.consumers = await self._logs(Role.MESSAGES)
        return assignment.received(self.consumers, self.accepted)

    async def _logs(self, role: Role) -> list[Logged]:
        """Read the logs of a role until every accepted message is in one of them; there is a deadline."""
        logs, found = _Logs(self.folder), list[Logged]()

        async def everything() -> bool:
            found[:] = [await asyncio.to_thread(logs.of, name, FIRST_TEXTS) for name in _names(self.config, role)]
            return assignment.complete(found, self.accepted)

        await poll_until(everything, LOOK, ARRIVAL_SECONDS)
        return found

    async def read(self) -> Step:
        """GET both sets until each messages-service has answered."""
        gets: list[Sets] = []
        wanted = {frozenset(log.lines) for log in self.consumers}
        async with aclosing(messages.read(self.config, MOST_GETS, None, None)) as readings:
            async for got in readings:
                logs, shown = (
                    tuple(spotted([message.text for message in part], FIRST_TEXTS)) for part in (got.logs, got.messages)
                )
                gets.append(Sets(logs, shown, got.logging_service or "", got.messages_service or ""))
                whole = set(self.accepted) <= {text for one in gets for text in one.logs}
                if len(gets) >= FEWEST_GETS and whole and wanted <= {frozenset(one.messages) for one in gets}:
                    break
        return assignment.read(gets, self.accepted, self.consumers)


class _Logs:
    """The log files of a run, from a moment on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "logs"
        self._begin: dict[str, int] = {}

    def skip(self) -> None:
        """Leave out what the files contain now."""
        self._begin = {file.stem: file.stat().st_size for file in self._folder.glob("*.log")}

    def of(self, name: str, texts: Sequence[str] | set[str]) -> Logged:
        """Return what the log of a process says of some texts; at most `MOST_READ` bytes are read."""
        try:
            with (self._folder / f"{name}.log").open("rb") as file:
                file.seek(self._begin.get(name, 0))
                data = file.read(MOST_READ + 1)
        except OSError as error:
            return Logged(name, problem=f"cannot be read: {reason(error)}")
        log = "\n".join(map(readable, data[:MOST_READ].decode(errors="replace").splitlines()))
        problem = f"is longer than {MOST_READ >> 20} MiB, of which the first were read" if len(data) > MOST_READ else ""
        return assignment.mentions(name, log, texts, problem)
