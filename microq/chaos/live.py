"""The scenario under traffic: producer and consumers go on while the fault strikes and heals."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from microq.chaos.controls import NO_REDELIVERY
from microq.chaos.patience import Patience
from microq.chaos.scenario import Scenario
from microq.fleet import Role
from microq.tasks import task_group

LEAD = TAIL = 0.2
"""Shares of the messages that are acknowledged before the fault begins, and after it is healed."""


class Live(Scenario):
    """Messages are sent and consumed before, while and after the fault strikes, each until it is acknowledged."""

    form: ClassVar[str] = "live"

    def patient(self) -> Patience:
        """See `Scenario.patient`: what a dead consumer held may still be delivered again, if anybody does so."""
        if NO_REDELIVERY.items() <= self.trial.defects.items():
            return self.stage.patience
        return self.stage.patience.for_redelivery(self.stage.config)

    async def act(self) -> None:
        """See `Scenario.act`."""
        await self.operator.start([Role.MESSAGES.value])
        self.say(f"Sending over {self.trial.connections} connections, the consumers are on; seed {self.trial.seed}.")
        # The workers end by themselves, when they have sent enough or their patience ends.
        async with task_group() as tasks:
            tasks.create_task(self.load.run())
            await asyncio.sleep(0)  # it runs before it is waited for
            await self.load.passes(round(self.trial.messages * LEAD))
            await self._strike()
            self.load.finish(round(self.trial.messages * TAIL))
        self.say(f"Acknowledged {self.load.acknowledged}.")
        if self.load.acknowledged < self.trial.messages:
            self.arena.doubt(f"only {self.load.acknowledged} of {self.trial.messages} messages were acknowledged")

    async def _strike(self) -> None:
        try:
            async with asyncio.timeout(self.patience.fault):
                await self.trial.fault.strike(self.arena)
                await self.trial.fault.heal(self.arena)
        except TimeoutError:
            self.arena.doubt(f"the fault was not over after {self.patience.fault:g} s")
            await self.trial.fault.heal(self.arena)
        self.arena.step("the fault is over")
