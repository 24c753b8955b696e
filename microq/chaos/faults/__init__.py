"""The faults, one small class each.

A new fault needs one class in a module here and one line in `FAULTS`. If it acts on the links between processes, it
sets `needs_links` and imposes a `Condition` on its arena's links; a new condition is a class beside the fault.
"""

from __future__ import annotations

from microq.chaos.faults.base import Fault
from microq.chaos.faults.network import CutClient, LoseReplies, SlowNetwork, SplitCluster
from microq.chaos.faults.servers import (
    BounceOwner,
    KillLeader,
    KillMember,
    KillTwoMembers,
    KillWhileRestoring,
    PauseMember,
    ServerFault,
    Starve,
    StopMember,
)
from microq.chaos.faults.services import (
    JumpClock,
    KillConsumer,
    KillFacade,
    KillLogging,
    PauseConsumer,
    PauseLogging,
    RollingRestart,
)
from microq.chaos.faults.traffic import FillMemory, FullQueue, Poison

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        KillMember,
        KillLeader,
        KillTwoMembers,
        KillWhileRestoring,
        StopMember,
        PauseMember,
        Starve,
        BounceOwner,
        RollingRestart,
        KillConsumer,
        KillLogging,
        KillFacade,
        PauseLogging,
        PauseConsumer,
        JumpClock,
        CutClient,
        SplitCluster,
        SlowNetwork,
        LoseReplies,
        FullQueue,
        FillMemory,
        Poison,
    )
}
"""Name on the command line -> fault. The commands, their help, the list, the matrix, the page and the tests use it."""

MESSAGES_QUIET, MESSAGES_LIVE = 100, 5000
"""The default minimum numbers of messages, with the consumers off and under traffic."""

MOST_MESSAGES = 100_000
"""The largest number of messages of a run: the default queue holds no more."""

MOST_SEED = 1 << 32

CHECKS: frozenset[type[Fault]] = frozenset({KillMember, KillLeader})
"""The check of the task, by both its names: by default its consumers are off."""


def has_quiet_form(kind: type[Fault]) -> bool:
    """Return whether a fault can be applied with the consumers off."""
    return issubclass(kind, ServerFault)
