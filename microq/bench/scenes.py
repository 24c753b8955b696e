"""The faults that both queues are put through: the server that matters most is killed, and paused."""

from __future__ import annotations

from dataclasses import dataclass

from microq.chaos.faults.base import Fault
from microq.chaos.faults.members import KillMember, PauseMember


@dataclass(frozen=True, slots=True)
class Scene:
    """One fault in one of its forms: its key in the data, and what people call it."""

    key: str
    title: str
    fault: Fault
    quiet: bool


SCENES = (
    Scene("kill-quiet", "kill the owner, consumers off", KillMember("owner"), quiet=True),
    Scene("kill-live", "kill the owner under traffic", KillMember("owner"), quiet=False),
    Scene("pause-live", "pause the owner under traffic", PauseMember("owner"), quiet=False),
)
