"""What a fault is, and what it may use: the arena with the system, the traffic around it, and the history."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar, Protocol

from microq.chaos.history import History
from microq.chaos.patience import Patience
from microq.chaos.recovery import until, until_safe
from microq.config import Address, Config
from microq.errors import UsageError
from microq.fleet import UP, Operator, ProcessState, ProcessView, Role, Snapshot
from microq.queues import BACKENDS

Say = Callable[[str], None]
"""Hears each step as it happens, in words for people."""


LOOK = 0.1
"""Pause between two looks at the system while traffic runs, in seconds: looking takes of the same processors."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing that a fault hits, mostly a process: `owner` says whether it was the queue's primary owner."""

    target: str
    pid: int | None = None
    address: str = ""
    owner: bool = False


Proof = Callable[[Snapshot, Hit], bool]
"""Whether a snapshot shows that the fault happened to this target."""


class Flow(Protocol):
    """The messages around a fault. A quiet scenario has none on the way, and waits for none."""

    async def passes(self, count: int) -> bool:
        """Wait until `count` more messages are acknowledged, a moment that a seed repeats; return whether they were."""
        ...

    async def ping(self) -> float:
        """Return how long a request to the facade takes that does nothing, in seconds; 0 if there was no answer."""
        ...

    async def burst(self, count: int) -> int:
        """Send `count` messages once each; return how many were rejected."""
        ...

    async def plant(self, items: Sequence[str]) -> None:
        """Put items straight into the queue, past the facade."""
        ...

    async def dead_letters(self) -> list[str] | None:
        """Return each dead letter as one text, or None where nobody keeps them."""
        ...


@dataclass(slots=True)
class Arena:
    """Where a fault acts. Its waits end in time; one that was in vain makes the verdict unknown."""

    operator: Operator
    config: Config
    history: History
    flow: Flow
    random: Random
    say: Say
    fault: str
    messages: int
    patience: Patience = field(default_factory=Patience)
    links: Any = None
    """The links between the processes, for a fault that needs them."""
    hits: list[Hit] = field(default_factory=list)
    """Everything that was hit so far."""
    began: float | None = None
    """The loop's time of the first hit."""

    def step(self, what: str) -> None:
        """Note and tell what was seen just now, with the time since the first hit."""
        now = asyncio.get_running_loop().time()
        since = now - (now if self.began is None else self.began)
        self.history.note("step", what=what, since=round(since, 3))
        self.say(f"  +{since:.2f} s {what}")

    def doubt(self, reason: str) -> None:
        """Note why this run proves nothing, whatever it shows."""
        self.history.note("doubt", reason=reason)
        self.say(f"  {reason}")

    @asynccontextmanager
    async def hitting(self, hits: Sequence[Hit], done: str, proof: Proof) -> AsyncIterator[list[str]]:
        """Note that these are hit now, let the body do it, then note for each whether it is seen; yields their names.

        `done` is what the body does to them, as in "killed".
        """
        self.began = asyncio.get_running_loop().time() if self.began is None else self.began
        self.hits += hits
        for hit in hits:
            self.history.note("fault", fault=self.fault, target=hit.target, pid=hit.pid, owner=hit.owner)
        names = [hit.target for hit in hits]
        yield names
        self.step(f"{' and '.join(names)} {done}")
        view = await self.operator.snapshot()
        for hit in hits:
            if proof(view, hit):
                self.history.note("struck", target=hit.target)
            else:
                self.say(f"  {hit.target} was not {done}: the fault missed")

    async def until(self, effect: Callable[[Snapshot], bool], what: str) -> bool:
        """Wait for what a snapshot shows; return whether it was in time, a doubt if not."""
        seen = await until(self.operator, effect, self.patience.effect, LOOK)
        if not seen:
            self.doubt(f"not seen in {self.patience.effect:g} s: {what}")
        return seen

    async def refused(self, what: str) -> None:
        """Send until a message is refused for certain; a doubt if that is not seen in time."""
        end = asyncio.get_running_loop().time() + self.patience.effect
        while not await self.flow.burst(1):
            if asyncio.get_running_loop().time() >= end:
                self.doubt(f"not seen in {self.patience.effect:g} s: {what}")
                return
        self.step(what)

    async def look(self, tells: Callable[[Snapshot], bool]) -> Snapshot:
        """Look at the system until a look tells what is wanted, and return the last one; not for ever.

        What is asked must answer within a fraction of a second, which a machine at work does not always give.
        """
        views: list[Snapshot] = []

        def seen(view: Snapshot) -> bool:
            views.append(view)
            return tells(view)

        await until(self.operator, seen, self.patience.effect, LOOK)
        return views[-1] if views else await self.operator.snapshot()

    async def until_safe(self) -> bool:
        """Wait until every copy is in place; return whether it was in time, a doubt if not."""
        safe = await until_safe(self.operator, self.patience.watch, LOOK)
        if not safe:
            self.doubt(f"the cluster was not safe again after {self.patience.watch:g} s")
        return safe

    async def those_up(self, role: Role) -> list[Hit]:
        """Return the processes of a role that are up, as targets."""
        view = await self.operator.snapshot()
        return [hit_of(view, process) for process in alive(view, role)]

    async def revive(self) -> None:
        """Bring back every process that was hit, and wait until the cluster is safe."""
        view = await self.operator.snapshot()
        mine = {hit.target for hit in self.hits}
        states = {process.name: process.state for process in view.processes if process.name in mine}
        paused = [name for name, state in states.items() if state is ProcessState.PAUSED]
        if paused:
            await self.operator.resume(paused)
        down = [name for name, state in states.items() if state not in UP]
        if down:
            await self.operator.start(down)
        if await self.until_safe() and down:
            self.say(f"{', '.join(down)} rejoined; the cluster is safe again.")


class Fault(ABC):
    """Something that is done to a running system, and undone. A subclass is a small frozen dataclass.

    The first line of its docstring is its help, its fields are its options; see `option`.
    """

    __slots__ = ()

    name: ClassVar[str]
    needs_links: ClassVar[bool] = False
    """Whether it acts on the links between the processes, so that the system must be started with them."""
    settings: ClassVar[tuple[str, ...]] = ()
    """What the system must be configured with, as for `--set`."""
    backends: ClassVar[tuple[str, ...]] = tuple(BACKENDS)
    """The queues that it makes sense with."""

    def check(self, config: Config, up: Sequence[Address]) -> None:  # noqa: ARG002 - some faults look at it
        """Raise `UsageError` if it is no fault of this backend, or cannot hit a queue whose servers `up` are up."""
        if config.queue.backend not in self.backends:
            raise UsageError(
                f"{self.name} is a fault of {' and '.join(self.backends)}, and the queue is {config.queue.backend}'s"
            )

    @abstractmethod
    async def strike(self, arena: Arena) -> None:
        """Do it, each time within `Arena.hitting`; return when its effect is seen."""

    async def heal(self, arena: Arena) -> None:
        """Undo what still holds; return when that is seen."""
        await arena.revive()


def option(default: Any, text: str, least: float | None = None, most: float | None = None, flag: str = "") -> Any:
    """Make a dataclass field that is an option on the command line, with its help; `flag` is its short form."""
    return field(default=default, metadata={"help": text, "least": least, "most": most, "flag": flag})


def alive(view: Snapshot, role: Role) -> list[ProcessView]:
    """Return the processes of a role that are up, the lowest address first."""
    up = [process for process in view.having(role) if process.state in UP]
    return sorted(up, key=lambda process: Address.parse(process.address))


def hit_of(view: Snapshot, process: ProcessView) -> Hit:
    """Return a process as a target."""
    return Hit(process.name, process.pid, process.address, owner=process.name in view.owners)


def gone(view: Snapshot, hit: Hit) -> bool:
    """Prove a kill: the process that was there is gone."""
    process = view.named(hit.target)
    return hit.pid is not None and (process.state not in UP or process.pid != hit.pid)


def restarted(view: Snapshot, hit: Hit) -> bool:
    """Prove a restart: another process is ready in its place."""
    return gone(view, hit) and view.named(hit.target).state is ProcessState.READY


def dropped(view: Snapshot, hit: Hit) -> bool:
    """Prove a pause: the process is stopped, and no server that runs sees more than those that run.

    They may fall apart as well, as after `SplitCluster`: what one of them has dropped first is what was silent first.
    """
    up = {process.name for process in view.having(view.queue_role) if process.state is ProcessState.READY}
    seen = {figures.name: figures.members_seen for figures in view.servers}
    stopped = view.named(hit.target).state is ProcessState.PAUSED
    return stopped and bool(up) and seen.keys() == up and all(count <= len(up) for count in seen.values())
