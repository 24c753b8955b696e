"""Negative controls on a system that runs, so that each need not start one."""

from __future__ import annotations

import asyncio

from support.project import Project

from microq.chaos.controls import Control
from microq.chaos.scenario import Trial
from microq.chaos.verdict import Verdict
from microq.supervisor import control, records
from microq.workflows.trial import run_here


def needs_own(each: Control) -> bool:
    """Whether a control needs a system that is started for it."""
    return bool(each.settings or each.fault.settings or each.fault.needs_links)


def controlled(project: Project, each: Control) -> Verdict:
    """Run a control on the system that runs here, which gets its defects first and loses them afterwards."""
    trial = Trial(each.fault, each.messages, 1, quiet=each.quiet, defects=each.defects, reread=False)

    async def tried() -> Verdict:
        config = records.in_force(project.config)
        async with control.connect(config) as operator:
            verdict, _ = await run_here(operator, config, trial)
            return verdict

    return asyncio.run(tried())
