"""The negative controls: systems with one broken promise each, on which the proof must fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from microq.chaos.faults.base import Fault
from microq.chaos.faults.members import KillMember
from microq.chaos.faults.network import LoseReplies
from microq.chaos.faults.services import KillConsumer
from microq.chaos.traps import Miss, Plant, StrandLeader
from microq.chaos.verdict import Layer, Ruling, Verdict
from microq.fleet import Role
from microq.queues import BACKENDS

NO_REDELIVERY: Mapping[str, str] = {Role.FACADE.value: "no-redelivery"}
"""The defect with which the quiet proof runs: what the queue loses must be missing, not brought back."""


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
    backends: tuple[str, ...] = tuple(BACKENDS)
    """The queues whose promise it breaks."""

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


_HAZELCAST, _KAFKA = (Role.HAZELCAST.value,), (Role.KAFKA.value,)

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
            backends=_HAZELCAST,
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
            backends=_HAZELCAST,
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
            backends=_HAZELCAST,
        ),
        Control(
            "one-ack",
            "The facade is content with the leader's word (acks=1), and the leader dies before its followers have it.",
            StrandLeader(),
            Ruling.FAIL,
            "lost",
            Layer.QUEUE,
            quiet=False,
            messages=1000,
            defects={Role.FACADE.value: "one-ack"},
            backends=_KAFKA,
        ),
        Control(
            "early-commit",
            "A consumer confirms messages before it has stored them (auto-commit), and is killed.",
            KillConsumer(times=1),
            Ruling.FAIL,
            "lost",
            Layer.CONSUMER,
            quiet=False,
            defects={**NO_REDELIVERY, Role.MESSAGES.value: "hasty"},
            backends=_KAFKA,
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
