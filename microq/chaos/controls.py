"""The negative controls: systems with one broken promise each, on which the proof must fail."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from microq.chaos.faults.base import Arena, Fault, Hit
from microq.chaos.faults.members import KillMember, MemberFault
from microq.chaos.faults.network import LoseReplies
from microq.chaos.faults.services import KillConsumer
from microq.chaos.verdict import Layer, Ruling, Verdict
from microq.fleet import Role, Snapshot
from microq.message import Message

NO_REDELIVERY: Mapping[str, str] = {Role.FACADE.value: "no-redelivery"}
"""The defect with which the quiet proof runs: what the queue loses must be missing, not brought back."""


@dataclass(frozen=True, slots=True)
class Miss(MemberFault):
    """Say that a member is hit, and do nothing."""

    name: ClassVar[str] = "miss"

    async def hit(self, arena: Arena, hits: Sequence[Hit]) -> None:
        """See `MemberFault.hit`."""
        async with arena.hitting(hits, "hit", lambda _view, _hit: False):
            arena.say("  nothing is done to it")


@dataclass(frozen=True, slots=True)
class Plant(Fault):
    """Put messages straight into the queue that nobody sent."""

    name: ClassVar[str] = "plant"

    count: int = 3

    async def strike(self, arena: Arena) -> None:
        """See `Fault.strike`."""
        ids = [f"planted-{uuid.UUID(int=arena.random.getrandbits(128))}" for _ in range(self.count)]
        async with arena.hitting([Hit(arena.config.queue.name)], "given items that nobody sent", _planted):
            await arena.flow.plant([Message(i, "planted", 1.0).to_json() for i in ids])

    async def heal(self, arena: Arena) -> None:
        """See `Fault.heal`: nothing was broken."""


def _planted(_view: Snapshot, _hit: Hit) -> bool:
    """Prove a planting: it would have raised an error."""
    return True


@dataclass(frozen=True, slots=True)
class Control:
    """A run that must be red: its fault, what is broken beforehand, and what the verdict must then say."""

    name: str
    help: str
    fault: Fault
    expected: Ruling
    category: str = ""
    """The list of ids in the verdict that must not be empty."""
    layer: Layer | None = None
    """Where each missing message must have been seen last."""
    reason: str = ""
    """What must be among the reasons of the verdict: it may be unknown for another one."""
    quiet: bool = True
    messages: int = 100
    settings: tuple[str, ...] = ()
    defects: Mapping[str, str] = field(default_factory=dict)

    @property
    def expectation(self) -> str:
        """What must come out, in words."""
        parts = [self.expected.value, self.category, f"in the {self.layer}" if self.layer else ""]
        return " ".join(part for part in parts if part)

    def red(self, found: Verdict) -> bool:
        """Return whether a verdict is what this control must bring about."""
        if found.verdict is not self.expected:
            return False
        if self.reason not in "; ".join(found.reasons):
            return False
        if self.category and not getattr(found, self.category):
            return False
        return self.layer is None or {found.layers[i] for i in found.lost} == {self.layer}


def outcome(found: Verdict) -> str:
    """Return what came out of a control, in the words of `Control.expectation`."""
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
        ),
        Control(
            "no-redelivery",
            "A consumer is killed with messages in its hands, and nobody delivers them again.",
            KillConsumer(times=1),
            Ruling.FAIL,
            "lost",
            Layer.CONSUMER,
            quiet=False,
            defects={**NO_REDELIVERY, Role.MESSAGES.value: "hesitant"},
        ),
        Control(
            "no-dedupe",
            "Replies are lost, so messages are sent again, and what the queue gives twice is shown twice.",
            LoseReplies(every=10, losses=3),
            Ruling.FAIL,
            "duplicated",
            quiet=False,
            messages=200,
            defects={Role.MESSAGES.value: "no-dedupe"},
        ),
        Control(
            "planted",
            "Messages that nobody sent are in the queue.",
            Plant(),
            Ruling.FAIL,
            "unexpected",
            quiet=False,
        ),
        Control(
            "forgetful",
            "The logging-services answer success and store nothing.",
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
            reason="the fault was not seen to happen",
            defects=NO_REDELIVERY,
        ),
    )
}
"""Name on the command line -> control."""
