"""A scenario: one run of a fault, from a safe cluster to the verdict; afterwards it restores the system.

It has two forms. `ConsumersOff` is the form of the task: send while no consumer runs, strike, start the consumers.
`Live` sends and consumes before, during and after the fault.
"""

from __future__ import annotations

import asyncio
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import aiohttp

from microq import __version__
from microq.aio import running, task_group
from microq.backends import backend
from microq.backends.base import Trait
from microq.chaos.checker import judge
from microq.chaos.controls import NO_REDELIVERY
from microq.chaos.faults.base import Arena, Fault, Hit, Say
from microq.chaos.faults.servers import ServerFault
from microq.chaos.forensics import Forensics
from microq.chaos.history import FORMAT, History
from microq.chaos.readings import Readings
from microq.chaos.recovery import Copies, copies_now, until, until_settled, watch
from microq.chaos.texts import TextClient, TextForensics, TextReadings
from microq.chaos.timeouts import Timeouts
from microq.chaos.verdict import Verdict
from microq.chaos.workload import RETRY, Planter, RecordingClient, Workload, plant
from microq.client import FacadeClient, one_by_one, send_all
from microq.config import Address, Config
from microq.errors import MachineError, MicroqError, UsageError
from microq.fleet import UP, Operator, ProcessState, ProcessView, Role, Snapshot, external_roles
from microq.message import Outcome, Receipt
from microq.store import StoreOpener, open_store

STALLED = 1.0
"""Seconds without progress of the links from which on they are reported: members drop each other after a few."""

HOLD_WINDOW = 512
"""Messages in flight at the same time when messages are sent before a run."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The parameters of one run of a fault: messages, seed, bounds and so on."""

    fault: Fault
    messages: int
    seed: int = 0
    connections: int = 16
    quiet: bool = False
    """Whether the consumers are off during the fault."""
    probe: bool = True
    """Quiet only: whether one more message is sent, to time the first acknowledgement."""
    defects: Mapping[str, str] = field(default_factory=dict)
    """Role -> the defect of its services, as in `Operator.sabotage`."""
    reread: bool = True
    """Whether the messages-services are restarted at the end and must show the same again."""
    bounds: Mapping[str, float] = field(default_factory=dict)
    """Bounds of the verdict, by the names in `history.BOUNDS`."""
    held: int = 0
    """The number of messages that are sent before the run and held by the consumers."""


@dataclass(slots=True)
class Stage:
    """The system on which a trial runs, and the listeners of its events."""

    config: Config
    operator: Operator
    session: aiohttp.ClientSession
    history: History
    say: Say
    restore: bool = False
    """Whether the system ran before: then the scenario gives it the defects, and restores it afterwards."""
    links: Any = None
    planter: Planter = plant
    opener: StoreOpener = open_store
    """Opens the maps of the cluster, to read the claims."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    pace: float = 0.0
    """Seconds for which a scenario with the consumers off waits before the fault and after it, for people who watch."""


def _check_some_run(processes: Sequence[ProcessView], *, most: bool) -> None:
    """Raise `UsageError` if too few processes of one role run: none or, if `most`, not a majority."""
    unready = [process for process in processes if process.state not in {ProcessState.READY, ProcessState.STARTING}]
    left = len(processes) - len(unready)
    if not unready or (left * 2 > len(processes) if most else left):
        return
    paused = [process.name for process in unready if process.state is ProcessState.PAUSED]
    ended = [process.name for process in unready if process.state is not ProcessState.PAUSED]
    orders = [f"`microq {verb} {' '.join(names)}`" for verb, names in (("start", ended), ("resume", paused)) if names]
    raise UsageError(
        f"{', '.join(f'{each.name} is {each.state}' for each in unready)}: nothing can be sent before the fault; "
        + ", ".join(orders)
    )


class Scenario(ABC):
    """One run of a trial on a stage; `form` is the word for its treatment of the consumers."""

    form: ClassVar[str]

    def __init__(self, stage: Stage, trial: Trial) -> None:
        self.stage, self.trial = stage, trial
        self.history, self.operator, self.say = stage.history, stage.operator, stage.say
        self.timeouts = self.timeouts_of()
        self._open()
        self.load = Workload(self.traffic, stage.config, stage.planter, trial.messages, trial.connections)
        self.arena = Arena(
            stage.operator,
            stage.config,
            stage.history,
            self.load,
            Random(trial.seed),
            stage.say,
            trial.fault.name,
            trial.messages,
            self.timeouts,
            stage.links,
        )

    def _open(self) -> None:
        """Make what sends, reads and asks: by ids, or by texts if services are external."""
        session, config, history = self.stage.session, self.stage.config, self.history
        self.traffic: RecordingClient
        self.readings: Readings
        self.forensics: Forensics
        if config.by_text:
            self.traffic = client = TextClient(session, config, history, self.timeouts)
            self.readings = TextReadings(client, session, config, history, self.operator)
            self.forensics = TextForensics(client, history)
        else:
            self.traffic = RecordingClient(session, config, history, self.timeouts)
            self.readings = Readings(self.traffic, session, config, history, self.stage.opener)
            self.forensics = Forensics(self.traffic, history)

    def timeouts_of(self) -> Timeouts:
        """Return the time limits of this scenario."""
        return self.stage.timeouts

    @abstractmethod
    async def act(self) -> None:
        """Send, and apply the fault; afterwards the consumers are on."""

    async def run(self) -> Verdict:
        """Run it, restore the system, and return the verdict."""
        before = await self.operator.snapshot()
        self._check(before)
        await self.traffic.reach()
        try:
            await self._perform_linked(before)
        finally:
            await self._restore(before)
        self.history.end()
        # In a thread: it takes seconds, and this process may serve the page of the system.
        return await asyncio.to_thread(judge, self.history.entries)

    async def _perform_linked(self, before: Snapshot) -> None:
        """Perform the run; end it if the proxy of the links ends, because the run then proves nothing."""
        links = self.stage.links
        if links is None:
            await self._perform(before)
            return
        try:
            async with running(links.watch()):
                await self._perform(before)
                if (stalled := (await links.counts()).stalled) >= STALLED:
                    self.say(f"The links passed nothing for up to {stalled:.1f} s: this machine was too busy.")
        except MicroqError:
            why = await links.failure()
            if not (why and self.history.entries):
                raise
            self.arena.doubt(why)

    async def _perform(self, before: Snapshot) -> None:
        await self._sabotage(self.trial.defects)
        await self._hold()
        await self._begin(before)
        await self.act()
        await self._account(before)

    def _check(self, before: Snapshot) -> None:
        """Refuse an impossible run before anything is changed."""
        if not before.managed:
            raise UsageError(
                f"[{before.backend}] managed = false: microq did not start the servers, so it cannot break them"
            )
        up = [Address.parse(p.address) for p in before.having(Role.QUEUE) if p.state in UP]
        self.trial.fault.check(self.stage.config, up)
        servers = backend(before.backend)
        for role in (Role.QUEUE, Role.MAPS, Role.LOGGING, Role.FACADE):
            _check_some_run(before.having(role), most=role is Role.QUEUE and Trait.QUORUM in servers.traits)

    async def _sabotage(self, defects: Mapping[str, str]) -> None:
        """Give defects to a system that ran before; a system that is started for this run starts with them."""
        if not self.stage.restore or not self.trial.defects:
            return
        for role, defect in defects.items():
            await self.operator.sabotage(role, defect)
        await self.operator.restart(list(defects))

    async def _hold(self) -> None:
        """Send the messages that are held before the run. Raises `MachineError` if the system does not accept all."""
        wanted = self.trial.held
        if not wanted:
            return
        await self.operator.start([Role.MESSAGES.value])
        before, began = await self.readings.held(), time.monotonic()
        why = await self._fill_up(wanted)
        timeouts = self.timeouts.for_held(before + wanted)
        got = 0 if why else await self.readings.holding(before + wanted, timeouts.drain)
        if got < before + wanted:
            why = why or f"the consumers hold {got - before} of them"
            raise MachineError(f"{wanted} messages cannot be held before the run: {why}; ask for less with --held")
        self.say(f"The consumers hold {wanted} more messages, after {time.monotonic() - began:.1f} s.")

    async def _fill_up(self, wanted: int) -> str:
        """Send this number of messages; return why one was not acknowledged, empty if all were.

        On a busy machine unanswered messages are sent again, but not each of many if there is no room.
        """
        facade = self.stage.config.service_ips.facade_service
        texts = one_by_one(f"held{number}" for number in range(1, wanted + 1))
        failures: list[Receipt] = []
        async for receipt in send_all(self.stage.session, facade, texts, HOLD_WINDOW):
            if receipt.reason:
                failures.append(receipt)
            if len(failures) > HOLD_WINDOW:
                return receipt.reason
        client, loop = FacadeClient(self.stage.session, facade), asyncio.get_running_loop()
        end = loop.time() + self.timeouts.probe
        for failure in failures:
            receipt = failure
            while receipt.reason:
                if loop.time() >= end:
                    return receipt.reason
                await asyncio.sleep(receipt.retry_after or RETRY)
                receipt = await client.send(failure.text, failure.id)
        return ""

    async def _begin(self, before: Snapshot) -> None:
        trial, config = self.trial, self.stage.config
        self.readings.leave_out(before)
        self.history.note(
            "begin",
            format=FORMAT,
            scenario=trial.fault.name,
            form=self.form,
            queue=config.queue.backend,
            messages=trial.messages,
            connections=trial.connections,
            seed=trial.seed,
            backup_count=config.queue.backup_count,
            fault=repr(trial.fault),
            defects=dict(trial.defects),
            held=trial.held,
            reread=trial.reread,
            bounds={**trial.fault.bounds, **trial.bounds},
            consumers=list(self.readings.consumers),
            loggers=list(self.readings.loggers),
            ordered=not trial.fault.reorders,
            partitioned=backend(config.queue.backend).partitioned,
            by_text=config.by_text,
            shared_log=config.wire.shared_log,
            folder=before.folder,
            microq=__version__,
            python=platform.python_version(),
            system=f"{platform.system()} {platform.machine()}",
        )
        if not before.settled:
            self.say("The cluster is not safe yet; waiting until every copy that its servers can hold is in place.")
            if not await until_settled(self.operator, self.timeouts.watch):
                raise MachineError(
                    "the cluster does not become safe, so no fault would prove anything; `microq status`"
                )
        await self.readings.earlier(Path(before.folder))
        self.timeouts = self.timeouts.for_held(self.readings.before)
        self.traffic.timeouts = self.arena.timeouts = self.timeouts
        await self.forensics.before()

    async def _account(self, before: Snapshot) -> None:
        """Wait until everything has arrived, read every instance, and ask each layer about missing messages."""
        await self.readings.drain()
        await self._read()
        # With a full disk no process can start, and the verdict is unknown in any case.
        if self.trial.reread and self.history.written:
            names = await self.operator.restart([Role.MESSAGES.value])
            self.history.note("restarted", instances=names)
            self.say(f"Restarted {', '.join(names)}; they must show the same again.")
            await self._read()
        logs, messages = await self.readings.through_facade()
        self.say(f"Through the facade: {len(messages)} messages and {len(logs)} log entries.")
        await self.readings.note_foreign()
        # In a thread: with many messages it takes seconds, in which the links would pass nothing.
        so_far = await asyncio.to_thread(judge, self.history.entries)
        await self.forensics.after(Path(before.folder), list(so_far.layers))

    async def _read(self) -> None:
        whole = lambda view: not any(process.merging for process in view.processes)  # noqa: E731 - an effect
        if not await until(self.operator, whole, self.timeouts.watch):
            self.say("The services still report that they may show only some of the messages.")
        agreed = await self.readings.settle()
        self.say(f"Read back: {self.readings}{'' if agreed else '; two readings do not agree'}.")

    async def _restore(self, before: Snapshot) -> None:
        """Restore the earlier state; a system that was started for this run is stopped by its caller."""
        if not self.stage.restore:
            return
        if self.arena.hits:
            await self.trial.fault.heal(self.arena)
        up = {process.name for process in before.processes if process.state in UP}
        consumers = [process.name for process in before.having(Role.MESSAGES)]
        await self._sabotage(dict.fromkeys(self.trial.defects, ""))
        await self.operator.start([name for name in consumers if name in up])
        await self.operator.stop([name for name in consumers if name not in up])


def check_room(config: Config, trial: Trial, waiting: int = 0) -> None:
    """Raise `UsageError` if the queue cannot hold all messages of a trial and the waiting ones at the same time."""
    room = config.queue.max_size - waiting - trial.probe
    if trial.messages > room:
        what = f"{trial.messages} messages{' and the probe, one more,' if trial.probe else ''}"
        beside = f", and {waiting} wait there" if waiting else ""
        less = [f"-m {room} or less"] if room > 0 else []
        raise UsageError(
            f"{what} do not fit into the queue while the consumers are off: [queue] max-size is "
            f"{config.queue.max_size}{beside}; {' or '.join([*less, 'a larger max-size'])} helps"
        )


class ConsumersOff(Scenario):
    """The messages-services are off while a fault hits the queue: messages that arrive later came from its copies."""

    form: ClassVar[str] = "quiet"

    def __init__(self, stage: Stage, trial: Trial, fault: ServerFault) -> None:
        super().__init__(stage, trial)
        self._fault = fault
        self._probes = trial.probe and trial.messages > 0

    def _check(self, before: Snapshot) -> None:
        """Refuse also messages that do not fit into the queue, in which they wait until the consumers are on again."""
        super()._check(before)
        waiting = before.queue.size if before.queue else None
        check_room(self.stage.config, self.trial, waiting or 0)

    async def act(self) -> None:
        """Stop the consumers, send, hit servers, prove the effect, and start the consumers."""
        stopped = await self.operator.stop([Role.MESSAGES.value])
        self.say(f"Consumers are off: {', '.join(stopped) if stopped else 'they were off already'}.")
        copies = await self._fill()
        await asyncio.sleep(self.stage.pace)
        view = await self.arena.look(self._fault.suffices)
        hits = self._fault.choose(view, self.arena.random)
        self._fault.report(self.arena, view, hits)
        await self._break(hits, copies)
        await asyncio.sleep(self.stage.pace)
        started = await self.operator.start([Role.MESSAGES.value])
        self.say(f"Started {', '.join(started)}; draining the queue.")

    async def _fill(self) -> Copies:
        receipts = await self.traffic.send_all(f"msg{number}" for number in range(1, self.trial.messages + 1))
        acknowledged = sum(receipt.outcome is Outcome.ACKNOWLEDGED for receipt in receipts)
        self.say(f"Sent {len(receipts)}, acknowledged {acknowledged}.")
        # A message refused before the fault must not count in the times after it.
        self._probes = self._probes and acknowledged == len(receipts)
        copies = await self._note_copies("before")
        self.say(f"Copies: {copies}.")
        return copies

    async def _note_copies(self, when: str) -> Copies:
        copies = await copies_now(self.operator)
        self.history.note("copies", when=when, members=copies.members, owners=sorted(copies.owners))
        return copies

    async def _break(self, hits: Sequence[Hit], copies: Copies) -> None:
        """Hit the servers, prove the effect, and report the recovery."""
        async with task_group() as tasks:
            watching = tasks.create_task(self._watch([hit.target for hit in hits], copies))
            probing = tasks.create_task(self._probe())
            await self._fault.hit(self.arena, hits)
            if not self.arena.struck.is_set():  # nothing was hit, so there is no recovery
                watching.cancel()
                probing.cancel()
        now = await self._note_copies("after")
        self.say(f"Copies now: {now}.")

    async def _watch(self, killed: Sequence[str], copies: Copies) -> None:
        backups = self.stage.config.queue.backup_count
        await watch(self.operator, killed, copies, backups, self.arena.step, self.timeouts.watch)

    async def _probe(self) -> None:
        """Send one more message when the fault is confirmed, to time the first acknowledgement after it."""
        await self.arena.struck.wait()
        if not self._probes:
            return
        done = await self.traffic.probe(f"msg{self.trial.messages + 1}")
        self.arena.step("first acknowledgement after the fault" if done else "no acknowledgement after the fault")


LEAD = TAIL = 0.2
"""Shares of the messages that are acknowledged before the fault begins, and after it is healed."""


class Live(Scenario):
    """Messages are sent and consumed before, during and after the fault; each is repeated until it is acknowledged."""

    form: ClassVar[str] = "live"

    def timeouts_of(self) -> Timeouts:
        """Return time limits that include redelivery, if this system redelivers."""
        external = {Role.FACADE, Role.MESSAGES}.intersection(external_roles(self.stage.config))
        if external or NO_REDELIVERY.items() <= self.trial.defects.items():
            return self.stage.timeouts
        return self.stage.timeouts.for_redelivery(self.stage.config)

    async def act(self) -> None:
        """Start the consumers, send while the fault is applied and healed, and send some more after it."""
        await self.operator.start([Role.MESSAGES.value])
        self.say(f"Sending over {self.trial.connections} connections, the consumers are on; seed {self.trial.seed}.")
        # The workers end by themselves when they have sent enough or their time is over.
        async with task_group() as tasks:
            tasks.create_task(self.load.run())
            await asyncio.sleep(0)  # let it start first
            await self.load.passes(round(self.trial.messages * LEAD))
            await self._strike()
            self.load.finish(round(self.trial.messages * TAIL))
        self.say(f"Acknowledged {self.load.acknowledged}.")
        if self.load.acknowledged < self.trial.messages:
            self.arena.doubt(f"only {self.load.acknowledged} of {self.trial.messages} messages were acknowledged")

    async def _strike(self) -> None:
        try:
            async with asyncio.timeout(self.timeouts.fault):
                await self.trial.fault.strike(self.arena)
                await self.trial.fault.heal(self.arena)
        except TimeoutError:
            self.arena.doubt(f"the fault was not over after {self.timeouts.fault:g} s")
            await self.trial.fault.heal(self.arena)
        self.arena.step("the fault is over")


def scenario(stage: Stage, trial: Trial) -> Scenario:
    """Return the scenario of a trial. Raises `UsageError` if its fault has no quiet form."""
    trial = fitted(stage.config, trial)
    if not trial.quiet:
        return Live(stage, trial)
    return ConsumersOff(stage, trial, quietly(trial.fault))


def fitted(config: Config, trial: Trial) -> Trial:
    """Return a trial as the external services of a system allow it.

    They have no defects of microq, and keep messages in memory, so they need not show them again after a restart.
    Raises `UsageError` for a trial that needs a service of microq.
    """
    external = external_roles(config)
    if trial.held and config.by_text:
        raise UsageError("--held needs microq's own services: external ones do not report what they hold")
    if unfit := trial.fault.needs_own.intersection(external):
        raise UsageError(f"{trial.fault.name} needs microq's own service, and external is: {', '.join(sorted(unfit))}")
    defects = {role: defect for role, defect in trial.defects.items() if role not in external}
    return replace(trial, defects=defects, reread=trial.reread and Role.MESSAGES not in external)


def quietly(fault: Fault) -> ServerFault:
    """Return a fault that can be applied with the consumers off; raises `UsageError` for another one."""
    if isinstance(fault, ServerFault):
        return fault
    raise UsageError(f"{fault.name} has no quiet form: it needs traffic, or consumers")
