"""The two forms of a trial: quiet, with the consumers off, and live, under traffic."""

from __future__ import annotations

from microq.chaos.faults.base import Fault
from microq.chaos.faults.members import MemberFault
from microq.chaos.live import Live
from microq.chaos.quiet import ConsumersOff
from microq.chaos.scenario import Scenario, Stage, Trial
from microq.errors import UsageError


def scenario(stage: Stage, trial: Trial, *, quiet: bool) -> Scenario:
    """Return a trial in one of its forms. Raises `UsageError` if its fault has no quiet one."""
    if not quiet:
        return Live(stage, trial)
    return ConsumersOff(stage, trial, quietly(trial.fault))


def quietly(fault: Fault) -> MemberFault:
    """Return a fault that can be done with the consumers off; raises `UsageError` for another one."""
    if isinstance(fault, MemberFault):
        return fault
    raise UsageError(f"{fault.name} has no quiet form: it needs traffic, or consumers")
