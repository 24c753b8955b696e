"""The base of all faults, the arena in which they act (system, traffic and history), and combined faults."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from itertools import combinations
from random import Random
from typing import Any, ClassVar, Protocol, get_type_hints

from microq.aio import task_group
from microq.backends import backend, with_traits
from microq.backends.base import Trait
from microq.caveats import safety
from microq.chaos.history import History
from microq.chaos.recovery import until, until_settled
from microq.chaos.timeouts import Timeouts
from microq.config import Address, Config
from microq.errors import UsageError
from microq.fleet import UP, Operator, ProcessState, ProcessView, Role, Snapshot

Say = Callable[[str], None]
"""Called with each step when it happens, in words for people."""


SERVERS, LINKS = "servers", "links"

LOOK = 0.1
"""Seconds between two snapshots while traffic runs: a snapshot uses the same processors."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A target of a fault, mostly a process; `owner` says whether it was the queue's primary owner."""

    target: str
    pid: int | None = None
    address: str = ""
    owner: bool = False


Proof = Callable[[Snapshot, Hit], bool]
"""Returns whether a snapshot shows that the fault took effect on this target."""


class Flow(Protocol):
    """The messages around a fault. A quiet scenario sends none meanwhile, and waits for none."""

    async def passes(self, count: int) -> bool:
        """Wait until `count` more messages are acknowledged; return whether they were. A seed repeats this moment."""
        ...

    async def ping(self) -> float:
        """Return the seconds of a request to the facade that does nothing; 0 if there was no answer."""
        ...

    async def ahead(self) -> float | None:
        """Return how many seconds the facade's wall clock is ahead of this one; None if there was no answer."""
        ...

    async def burst(self, count: int, size: int = 0, why: str = "") -> int:
        """Send `count` messages of at least `size` characters once each; return how many were rejected.

        With `why` only those count whose reason contains it.
        """
        ...

    async def plant(self, items: Sequence[str]) -> None:
        """Put items directly into the queue, past the facade."""
        ...

    async def dead_letters(self) -> list[str] | None:
        """Return each dead letter as one text; None if it is unknown."""
        ...


@dataclass(slots=True)
class Arena:
    """Where a fault acts. Its waits have deadlines; one that fails makes the verdict unknown."""

    operator: Operator
    config: Config
    history: History
    flow: Flow
    random: Random
    say: Say
    fault: str
    messages: int
    timeouts: Timeouts = field(default_factory=Timeouts)
    links: Any = None
    """The links between the processes, for a fault that needs them."""
    hits: list[Hit] = field(default_factory=list)
    """All targets that were hit so far."""
    began: float | None = None
    """The event loop's time of the first hit."""
    struck: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a hit was confirmed: times after the fault count from here."""

    def step(self, what: str) -> None:
        """Note and report what has just been observed, with the time since the first hit."""
        now = asyncio.get_running_loop().time()
        since = now - (now if self.began is None else self.began)
        self.history.note("step", what=what, since=round(since, 3))
        self.say(f"  +{since:.2f} s {what}")

    def doubt(self, reason: str) -> None:
        """Note why this run proves nothing."""
        self.history.note("doubt", reason=reason)
        self.say(f"  {reason}")

    @asynccontextmanager
    async def hitting(self, hits: Sequence[Hit], done: str, proof: Proof) -> AsyncIterator[list[str]]:
        """Note that these targets are hit, run the body, then note for each whether the effect was observed.

        Yields their names. `done` says what the body does to them, for instance "killed".
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
                self.struck.set()
            else:
                self.say(f"  {hit.target} was not {done}: the fault missed")

    @asynccontextmanager
    async def pausing(self, hits: Sequence[Hit], seconds: float, done: str, proof: Proof) -> AsyncIterator[list[str]]:
        """Pause these targets for at least `seconds` and until the body ends, then resume them; as `hitting`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        async with self.hitting(hits, done, proof) as names:
            await self.operator.pause(names)
            yield names
        await asyncio.sleep(max(0.0, end - loop.time()))
        await self.operator.resume(names)

    async def until(self, effect: Callable[[Snapshot], bool], what: str) -> bool:
        """Wait until a snapshot shows an effect; return whether it did in time; else note a doubt."""
        seen = await until(self.operator, effect, self.timeouts.effect, LOOK)
        if not seen:
            self.doubt(f"not seen in {self.timeouts.effect:g} s: {what}")
        return seen

    async def refused(self, what: str) -> None:
        """Send until a message is rejected; note a doubt if none is in time."""
        end = asyncio.get_running_loop().time() + self.timeouts.effect
        while not await self.flow.burst(1):
            if asyncio.get_running_loop().time() >= end:
                self.doubt(f"not seen in {self.timeouts.effect:g} s: {what}")
                return
        self.step(what)

    async def accepted(self, what: str) -> None:
        """Send until a message is not rejected; note a doubt if all are."""
        end = asyncio.get_running_loop().time() + self.timeouts.watch
        while await self.flow.burst(1):
            if asyncio.get_running_loop().time() >= end:
                self.doubt(f"not seen in {self.timeouts.watch:g} s: {what}")
                return
            await asyncio.sleep(LOOK)
        self.step(what)

    async def look(self, suffices: Callable[[Snapshot], bool]) -> Snapshot:
        """Take snapshots until one suffices, and return the last one; there is a deadline."""
        return await self.operator.look(suffices, self.timeouts.effect, LOOK)

    async def until_settled(self) -> bool:
        """Wait until the cluster is as safe as its servers allow; return whether it was in time; else note a doubt."""
        safe = await until_settled(self.operator, self.timeouts.watch, LOOK)
        if not safe:
            self.doubt(f"the cluster was not safe again after {self.timeouts.watch:g} s")
        return safe

    async def those_up(self, role: Role) -> list[Hit]:
        """Return the running processes of a role as targets."""
        view = await self.operator.snapshot()
        return [hit_of(view, process) for process in alive(view, role)]

    async def revive(self) -> None:
        """Start every process that was hit again, and wait until the cluster is safe."""
        view = await self.operator.snapshot()
        mine = {hit.target for hit in self.hits}
        states = {process.name: process.state for process in view.processes if process.name in mine}
        paused = [name for name, state in states.items() if state is ProcessState.PAUSED]
        if paused:
            await self.operator.resume(paused)
        down = [name for name, state in states.items() if state not in UP]
        if down:
            await self.operator.start(down)
        if await self.until_settled() and down:
            self.say(f"{', '.join(down)} rejoined; {safety(await self.operator.snapshot())[1]}.")


class Fault(ABC):
    """A fault: applied to a running system, and undone. A subclass is a small frozen dataclass.

    The first line of its docstring is its help; its fields, made by `option`, are its options.
    """

    __slots__ = ()

    name: ClassVar[str]
    needs_links: ClassVar[bool] = False
    """Whether it acts on the links between processes: then the system must be started with links."""
    breaks: ClassVar[frozenset[str]] = frozenset({SERVERS})
    """What it breaks: servers, links, or services of some roles; a fault with a `role` breaks the services of that."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Settings that the system needs, in the form of `--set`."""
    needs: ClassVar[frozenset[Trait]] = frozenset()
    """Traits that a backend must have for this fault."""
    bounds: ClassVar[Mapping[str, float]] = {}
    """Bounds of its verdict, by the names in `history.BOUNDS`."""
    needs_own: ClassVar[frozenset[str]] = frozenset()
    """Roles that microq's own services must have: it acts on them in a way of their own."""
    reorders: ClassVar[bool] = False
    """Whether messages may be shown out of order after it: it splits the servers, or restarts consumers.

    A merge changes the order. A restarted consumer shows messages by the times of their claims, and a repeated claim
    has a later time.
    """

    @classmethod
    def suits(cls, of_queue: str) -> bool:
        """Return whether a backend has the traits that it needs."""
        return backend(of_queue).traits >= cls.needs

    @classmethod
    def check_suits(cls, of_queue: str) -> None:
        """Raise `UsageError` if a backend lacks a trait that it needs."""
        if not cls.suits(of_queue):
            raise UsageError(
                f"{cls.name} is a fault of {' and '.join(with_traits(cls.needs))}, and the queue is {of_queue}'s"
            )

    @property
    def acts_on(self) -> frozenset[str]:
        """What it breaks; two faults that share one of these cannot be combined."""
        return frozenset({self.role}) if hasattr(self, "role") else self.breaks

    def check(self, config: Config, up: Sequence[Address]) -> None:  # noqa: ARG002 - some faults look at it
        """Raise `UsageError` if it does not suit this backend, or cannot hit a queue with the servers `up`."""
        self.check_suits(config.queue.backend)

    @abstractmethod
    async def strike(self, arena: Arena) -> None:
        """Apply it, each hit within `Arena.hitting`; return when its effect is observed."""

    async def heal(self, arena: Arena) -> None:
        """Undo it; return when that is observed."""
        await arena.revive()


def option(default: Any, text: str, least: float | None = None, most: float | None = None, flag: str = "") -> Any:
    """Make a dataclass field that is an option on the command line, with its help; `flag` is its short form."""
    return field(default=default, metadata={"help": text, "least": least, "most": most, "flag": flag})


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a fault; `least` and `most` bound a number."""

    name: str
    type: type
    default: Any
    help: str
    least: float | None
    most: float | None
    flag: str
    """Its short form on the command line, empty if it has none."""

    def check(self, value: Any) -> None:
        """Raise `UsageError` if a value is not valid."""
        types = (int, float) if self.type is float else (self.type,)
        if not isinstance(value, types) or (isinstance(value, bool) and self.type is not bool):
            raise UsageError(f'"{self.name}" must be {WORDS[self.type]}')
        if isinstance(value, int | float):
            if self.least is not None and value < self.least:
                raise UsageError(f'"{self.name}" must be {self.least:g} or more, not {value}')
            if self.most is not None and value > self.most:
                raise UsageError(f'"{self.name}" must be {self.most:g} or less, not {value}')


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def options_of(kind: Any) -> Iterator[Option]:
    """Yield the options of a kind of fault."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        yield Option(name=each.name, type=hints[each.name], default=each.default, **each.metadata)


def summary(kind: type[Fault]) -> str:
    """Return the first line of a fault's docstring, which is its help."""
    return (kind.__doc__ or "").strip().partition("\n")[0]


def alive(view: Snapshot, role: Role) -> list[ProcessView]:
    """Return the running processes of a role, the lowest address first."""
    up = [process for process in view.having(role) if process.state in UP]
    return sorted(up, key=lambda process: Address.parse(process.address))


def hit_of(view: Snapshot, process: ProcessView) -> Hit:
    """Return a process as a target."""
    return Hit(process.name, process.pid, process.address, owner=process.name in view.owners)


def gone(view: Snapshot, hit: Hit) -> bool:
    """Prove a kill: the process is gone."""
    process = view.named(hit.target)
    return hit.pid is not None and (process.state not in UP or process.pid != hit.pid)


def restarted(view: Snapshot, hit: Hit) -> bool:
    """Prove a restart: a new process is ready in its place."""
    return gone(view, hit) and view.named(hit.target).state is ProcessState.READY


def paused(view: Snapshot, hit: Hit) -> bool:
    """Prove a pause: this process is stopped."""
    process = view.named(hit.target)
    return process.state is ProcessState.PAUSED and process.pid == hit.pid


def dropped(view: Snapshot, hit: Hit) -> bool:
    """Prove a long pause: the process is stopped, and the running servers no longer see it.

    They may see fewer servers than run, as in `SplitCluster`: each drops the process that was silent first.
    """
    up = {process.name for process in view.having(Role.QUEUE) if process.state is ProcessState.READY}
    seen = {figures.name: figures.members_seen for figures in view.servers}
    stopped = view.named(hit.target).state is ProcessState.PAUSED
    return stopped and bool(up) and seen.keys() == up and all(count <= len(up) for count in seen.values())


SIGN = "+"
"""The sign between the names of combined faults."""


@dataclass(frozen=True, slots=True)
class CombinedFault(Fault):
    """Faults that strike at the same time, each with its own choices, hits and proofs. `combine` makes it."""

    parts: tuple[Fault, ...]

    @property
    def acts_on(self) -> frozenset[str]:
        """Return what its parts break."""
        return frozenset[str]().union(*(part.acts_on for part in self.parts))

    def check(self, config: Config, up: Sequence[Address]) -> None:
        """Raise `UsageError` if one of its parts cannot be applied."""
        for part in self.parts:
            part.check(config, up)

    async def strike(self, arena: Arena) -> None:
        """Apply all parts at the same time, each with choices of its own."""
        arena.began = asyncio.get_running_loop().time()
        async with task_group() as tasks:
            for part in self.parts:
                mine = replace(arena, fault=part.name, random=Random(arena.random.getrandbits(64)), hits=[])
                tasks.create_task(_strike(part, mine, arena))

    async def heal(self, arena: Arena) -> None:
        """Undo the parts one after another."""
        for part in self.parts:
            await part.heal(arena)


async def _strike(part: Fault, mine: Arena, whole: Arena) -> None:
    try:
        await part.strike(mine)
    finally:
        whole.hits += mine.hits  # they are healed together


def combine(parts: Sequence[Fault]) -> Fault:
    """Return several faults as one. Raises `UsageError` if they cannot be applied at the same time."""
    if len(parts) == 1:
        return parts[0]
    for one, other in combinations(parts, 2):
        if one.name == other.name:
            raise UsageError(f"{one.name} is named twice; it can be applied once at a time")
        if both := one.acts_on & other.acts_on:
            raise UsageError(
                f"{one.name} and {other.name} cannot be combined: both act on the {' and the '.join(sorted(both))}"
            )
    _check_settings(parts)
    return _kind(tuple(type(part) for part in parts))(tuple(parts))


def _check_settings(parts: Sequence[Fault]) -> None:
    wanted: dict[str, tuple[str, str]] = {}
    for part in parts:
        for setting in part.settings:
            key, _, value = setting.partition("=")
            known, name = wanted.setdefault(key, (value, part.name))
            if known != value:
                raise UsageError(
                    f"{name} and {part.name} cannot be combined: one needs {key}={known}, the other one {setting}"
                )


@lru_cache
def _kind(kinds: tuple[type[Fault], ...]) -> type[CombinedFault]:
    """Make the type of these combined faults, with what they need."""
    needs: frozenset[Trait] = frozenset().union(*(kind.needs for kind in kinds))
    if not with_traits(needs):
        raise UsageError(f"no backend suits all of {', '.join(kind.name for kind in kinds)}")
    facts = {
        "__slots__": (),
        "__doc__": "At the same time: " + " ".join((kind.__doc__ or "").strip().partition("\n")[0] for kind in kinds),
        "name": SIGN.join(kind.name for kind in kinds),
        "needs_links": any(kind.needs_links for kind in kinds),
        "settings": tuple(dict.fromkeys(setting for kind in kinds for setting in kind.settings)),
        "needs": needs,
        "needs_own": frozenset[str]().union(*(kind.needs_own for kind in kinds)),
        "bounds": {name: bound for kind in kinds for name, bound in kind.bounds.items()},
        "reorders": any(kind.reorders for kind in kinds),
    }
    return type(CombinedFault.__name__, (CombinedFault,), facts)
