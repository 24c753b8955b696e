"""The negative controls: systems with one broken promise each, for which the check must fail."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from microq.backends import backend
from microq.backends.base import Trait
from microq.chaos.faults.base import Arena, Fault, Hit, alive, gone
from microq.chaos.faults.network import LoseReplies
from microq.chaos.faults.servers import KillMember, ServerFault
from microq.chaos.faults.services import KillConsumer
from microq.chaos.verdict import Layer, Ruling, Verdict
from microq.fleet import Role, Snapshot
from microq.message import Message

STRANDED_SECONDS = 1.0
"""Maximum seconds for which the leader is alone; brokers are declared dead only later."""


@dataclass(frozen=True, slots=True)
class Miss(ServerFault):
    """Report a hit on a member, and do nothing."""

    name: ClassVar[str] = "miss"

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """Do nothing to the servers, so that nothing proves it."""
        async with arena.hitting(hits, "hit", lambda _view, _hit: False):
            arena.say("  nothing is done to it")


@dataclass(frozen=True, slots=True)
class Plant(Fault):
    """Put messages into the queue that no client sent."""

    name: ClassVar[str] = "plant"

    count: int = 3

    async def strike(self, arena: Arena) -> None:
        """Put messages into the queue, past the facade."""
        ids = [f"planted-{uuid.UUID(int=arena.random.getrandbits(128))}" for _ in range(self.count)]
        async with arena.hitting([Hit(arena.config.queue.name)], "given items that no client sent", _planted):
            await arena.flow.plant([Message(i, "planted", 1.0).to_json() for i in ids])

    async def heal(self, arena: Arena) -> None:
        """Do nothing: nothing is broken."""


def _planted(_view: Snapshot, _hit: Hit) -> bool:
    """Prove that the messages were put: a failure would have raised an error."""
    return True


@dataclass(frozen=True, slots=True)
class StrandLeader(ServerFault):
    """Freeze all brokers except the leader, send to it, kill it, and resume the others.

    Messages that only the leader has are lost then. With acks=all it accepts nothing while it is alone.
    """

    name: ClassVar[str] = "strand-leader"
    needs: ClassVar[frozenset[Trait]] = frozenset({Trait.PARTITIONED, Trait.ONE_ACK})

    count: int = 50

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """Freeze the other brokers, kill the leader, and resume the others."""
        others = [p.name for p in alive(await arena.operator.snapshot(), Role.QUEUE) if p.name != hits[0].target]
        async with arena.hitting(hits, "killed alone", gone) as names:
            await arena.operator.pause(others)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STRANDED_SECONDS):
                    await arena.flow.passes(self.count)
            await arena.operator.kill(names)
            await arena.operator.resume(others)


NO_REDELIVERY: Mapping[str, str] = {Role.FACADE.value: "no-redelivery"}
"""The defect of quiet controls: a message that the queue loses must be missing, and not be redelivered."""


@dataclass(frozen=True, slots=True)
class Control:
    """A run whose check must fail: its fault, its broken promise, and the expected verdict."""

    name: str
    help: str
    fault: Fault
    expected: Ruling
    category: str = ""
    """The list of ids in the verdict that must not be empty."""
    layer: Layer | None = None
    """The layer in which each missing message must have been last."""
    reason: str = ""
    """A text that the reasons of the verdict must contain: the verdict could be unknown for another reason."""
    quiet: bool = True
    messages: int = 100
    settings: tuple[str, ...] = ()
    defects: Mapping[str, str] = field(default_factory=dict)
    needs: frozenset[Trait] = frozenset()
    """Traits that a backend must have for this control."""

    def suits(self, of_queue: str) -> bool:
        """Return whether a backend has the traits that it needs."""
        return backend(of_queue).traits >= self.needs

    @property
    def expectation(self) -> str:
        """The expected outcome, in words."""
        parts = [self.expected.value, self.category, f"in the {self.layer}" if self.layer else ""]
        return " ".join(part for part in parts if part)

    def red(self, found: Verdict) -> bool:
        """Return whether a verdict is the expected one."""
        if found.verdict is not self.expected:
            return False
        if self.reason not in "; ".join(found.reasons):
            return False
        if self.category and not getattr(found, self.category):
            return False
        return self.layer is None or {found.layers[i] for i in found.lost} == {self.layer}


def outcome(found: Verdict) -> str:
    """Return the outcome of a control, in the words of `Control.expectation`."""
    names = [name for name in ("lost", "unlogged", "unexpected", "duplicated") if getattr(found, name)]
    layers = sorted({found.layers[i].value for i in found.lost})
    return " ".join([found.verdict.value, *names, *(f"in the {layer}" for layer in layers)])


CONTROLS: dict[str, Control] = {
    control.name: control
    for control in (
        Control(
            "no-backup",
            "The queue has no copies, and its owner is killed.",
            KillMember("owner"),
            Ruling.FAIL,
            "lost",
            Layer.QUEUE,
            settings=("queue.backup-count=0",),
            defects=NO_REDELIVERY,
            needs=frozenset({Trait.IN_MEMORY}),
        ),
        Control(
            "no-redelivery",
            "A consumer is killed before it has stored its messages, and they are not redelivered.",
            KillConsumer(times=1),
            Ruling.FAIL,
            "lost",
            Layer.CONSUMER,
            quiet=False,
            defects={**NO_REDELIVERY, Role.MESSAGES.value: "hesitant"},
            needs=frozenset({Trait.FORGETS}),
        ),
        Control(
            "no-dedupe",
            "Replies are lost, so messages are sent again, and a consumer shows every delivery.",
            LoseReplies(every=10, losses=3),
            Ruling.FAIL,
            "duplicated",
            quiet=False,
            messages=200,
            defects={Role.MESSAGES.value: "no-dedupe"},
            needs=frozenset({Trait.REPEATS}),
        ),
        Control(
            "one-ack",
            "The facade acknowledges what only the leader has (acks=1), and the leader dies before it is copied.",
            StrandLeader(),
            Ruling.FAIL,
            "lost",
            Layer.QUEUE,
            quiet=False,
            messages=1000,
            defects={Role.FACADE.value: "one-ack"},
            needs=frozenset({Trait.ONE_ACK}),
        ),
        Control(
            "early-commit",
            "A consumer acknowledges messages before it has stored them (auto-commit), and is killed.",
            KillConsumer(times=1),
            Ruling.FAIL,
            "lost",
            Layer.CONSUMER,
            quiet=False,
            defects={**NO_REDELIVERY, Role.MESSAGES.value: "hasty"},
            needs=frozenset({Trait.CONFIRMED}),
        ),
        Control(
            "planted",
            "The queue contains messages that no client sent.",
            Plant(),
            Ruling.FAIL,
            "unexpected",
            quiet=False,
        ),
        Control(
            "forgetful",
            "The logging-services answer success and write nothing.",
            KillMember("owner"),
            Ruling.FAIL,
            "unlogged",
            defects={**NO_REDELIVERY, Role.LOGGING.value: "forgetful"},
        ),
        Control(
            "no-traffic",
            "Nothing is sent.",
            KillMember("owner"),
            Ruling.UNKNOWN,
            reason="nothing was acknowledged",
            messages=0,
            defects=NO_REDELIVERY,
        ),
        Control(
            "miss",
            "The fault does nothing.",
            Miss(),
            Ruling.UNKNOWN,
            reason="the effect of the fault was not observed",
            defects=NO_REDELIVERY,
        ),
    )
}
"""Name on the command line -> control."""
