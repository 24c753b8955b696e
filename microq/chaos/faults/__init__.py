"""The faults, one small type each. To add one: its class in a module here, and its line in `FAULTS`."""

from __future__ import annotations

from microq.chaos.faults.base import Fault
from microq.chaos.faults.load import FullQueue, Poison
from microq.chaos.faults.members import BounceOwner, KillLeader, KillMember, KillTwoMembers, PauseMember, StopMember
from microq.chaos.faults.network import CutClient, LoseReplies, SlowNetwork, SplitCluster
from microq.chaos.faults.services import KillConsumer, KillFacade, KillLogging, RollingRestart

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        KillMember,
        KillLeader,
        KillTwoMembers,
        StopMember,
        PauseMember,
        BounceOwner,
        RollingRestart,
        KillConsumer,
        KillLogging,
        KillFacade,
        CutClient,
        SplitCluster,
        SlowNetwork,
        LoseReplies,
        FullQueue,
        Poison,
    )
}
"""Name on the command line -> fault. Commands, help, list, matrix and tests come from here."""

CHECKS: frozenset[type[Fault]] = frozenset({KillMember, KillLeader})
"""The check of the task, by both its names: done with the consumers off unless told."""
