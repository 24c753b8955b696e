"""What every scenario does: begin on a safe cluster, break it, account for every message, and restore it."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import aiohttp

from microq import __version__
from microq.chaos.faults.base import Arena, Fault, Say
from microq.chaos.history import History
from microq.chaos.inquiry import Inquiry
from microq.chaos.judge import judge
from microq.chaos.load import Load
from microq.chaos.patience import Patience
from microq.chaos.planting import Planter, plant
from microq.chaos.recovery import until_safe
from microq.chaos.traffic import Traffic
from microq.chaos.verdict import Verdict
from microq.config import Address, Config
from microq.errors import MachineError, UsageError
from microq.fleet import UP, Operator, Role, Snapshot


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a fault: what is sent around it, and what its choices are made of."""

    fault: Fault
    messages: int
    seed: int = 0
    connections: int = 16
    probe: bool = True
    """Quiet only: whether one message more is sent, to time the first acknowledgement."""
    defects: Mapping[str, str] = field(default_factory=dict)
    """Role -> the defect with which its services run, as of `Operator.sabotage`."""


@dataclass(slots=True)
class Stage:
    """The system on which a trial is run, and who hears of it."""

    config: Config
    operator: Operator
    session: aiohttp.ClientSession
    history: History
    say: Say
    restore: bool = False
    """Whether the system ran before: then it is given its defects here, and afterwards what it had."""
    links: Any = None
    planter: Planter = plant
    patience: Patience = field(default_factory=Patience)


class Scenario(ABC):
    """One run of a trial on a stage; `form` says how it treats the consumers."""

    form: ClassVar[str]

    def __init__(self, stage: Stage, trial: Trial) -> None:
        self.stage, self.trial = stage, trial
        self.history, self.operator, self.say = stage.history, stage.operator, stage.say
        self.patience = self.patient()
        self.traffic = Traffic(stage.session, stage.config, stage.history, self.patience)
        self.load = Load(self.traffic, stage.config, stage.planter, trial.messages, trial.connections)
        self.inquiry = Inquiry(self.traffic, stage.history)
        self.arena = Arena(
            stage.operator,
            stage.config,
            stage.history,
            self.load,
            Random(trial.seed),
            stage.say,
            trial.fault.name,
            trial.messages,
            self.patience,
            stage.links,
        )

    def patient(self) -> Patience:
        """Return how long this scenario waits for what."""
        return self.stage.patience

    @abstractmethod
    async def act(self) -> None:
        """Send, and let the fault strike; afterwards the consumers are on."""

    async def run(self) -> Verdict:
        """Run it, restore what was there before, and return the verdict."""
        before = await self.operator.snapshot()
        self._check(before)
        await self.traffic.reach()
        try:
            await self._sabotage(self.trial.defects)
            await self._begin(before)
            await self.act()
            await self._account()
        finally:
            await self._restore(before)
        self.history.note("end")
        return judge(self.history.entries)

    def _check(self, before: Snapshot) -> None:
        """Refuse what cannot be, before anything is changed."""
        if not before.managed:
            raise UsageError(f"[{before.backend}] managed = false: the servers are not microq's, it cannot break them")
        up = [Address.parse(p.address) for p in before.having(before.queue_role) if p.state in UP]
        self.trial.fault.check(self.stage.config, up)

    async def _sabotage(self, defects: Mapping[str, str]) -> None:
        """Give a system that ran before its defects; one that is started for this run starts with them."""
        if not self.stage.restore or not self.trial.defects:
            return
        for role, defect in defects.items():
            await self.operator.sabotage(role, defect)
        await self.operator.restart(list(defects))

    async def _begin(self, before: Snapshot) -> None:
        trial, config = self.trial, self.stage.config
        self.history.note(
            "begin",
            scenario=trial.fault.name,
            form=self.form,
            queue=config.queue.backend,
            messages=trial.messages,
            connections=trial.connections,
            seed=trial.seed,
            backup_count=config.queue.backup_count,
            fault=repr(trial.fault),
            defects=dict(trial.defects),
            folder=before.folder,
            microq=__version__,
            python=platform.python_version(),
            system=f"{platform.system()} {platform.machine()}",
        )
        if not before.safe:
            self.say("The cluster is not safe yet; waiting until every copy is in place.")
            if not await until_safe(self.operator, self.patience.watch):
                raise MachineError(
                    "the cluster does not become safe, so no fault would prove anything; `microq status`"
                )
        await self.traffic.earlier()
        await self.inquiry.before()

    async def _account(self) -> None:
        """Wait until everything has arrived, read every instance, and ask each layer for what is missing."""
        await self.traffic.drain()
        view = await self.operator.snapshot()
        await self.traffic.read_back(view)
        logs, messages = await self.traffic.read_through_facade()
        counts = ", ".join(f"{p.name} holds {p.held}" for p in view.having(Role.MESSAGES))
        self.say(f"Read back: {counts}; through the facade {len(messages)} messages and {len(logs)} log entries.")
        so_far = judge(self.history.entries)
        await self.inquiry.after(Path(view.folder), list(so_far.layers))

    async def _restore(self, before: Snapshot) -> None:
        """Bring back what was there before; a system that was started for this run is stopped by its starter."""
        if not self.stage.restore:
            return
        if self.arena.hits:
            await self.trial.fault.heal(self.arena)
        up = {process.name for process in before.processes if process.state in UP}
        consumers = [process.name for process in before.having(Role.MESSAGES)]
        await self._sabotage(dict.fromkeys(self.trial.defects, ""))
        await self.operator.start([name for name in consumers if name in up])
        await self.operator.stop([name for name in consumers if name not in up])
