"""The scenario of the task: consumers off, send, break a member, consumers on, and account for every message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from microq.chaos.faults.base import Hit
from microq.chaos.faults.members import MemberFault
from microq.chaos.recovery import Copies, watch
from microq.chaos.scenario import Scenario, Stage, Trial
from microq.fleet import Role
from microq.message import Outcome
from microq.tasks import task_group


class ConsumersOff(Scenario):
    """The messages-services are off while a fault hits the queue: what arrives later came from its copies."""

    form: ClassVar[str] = "quiet"

    def __init__(self, stage: Stage, trial: Trial, fault: MemberFault) -> None:
        super().__init__(stage, trial)
        self._fault = fault
        self._probes = trial.probe and trial.messages > 0

    async def act(self) -> None:
        """See `Scenario.act`."""
        stopped = await self.operator.stop([Role.MESSAGES.value])
        self.say(f"Consumers are off: {', '.join(stopped) if stopped else 'they were off already'}.")
        copies = await self._fill()
        view = await self.arena.look(self._fault.tells)
        hits = self._fault.choose(view, self.arena.random)
        self._fault.tell(self.arena, view, hits)
        await self._break(hits, copies)
        started = await self.operator.start([Role.MESSAGES.value])
        self.say(f"Started {', '.join(started)}; draining the queue.")

    async def _fill(self) -> Copies:
        receipts = await self.traffic.send_all(f"msg{number}" for number in range(1, self.trial.messages + 1))
        acknowledged = sum(receipt.outcome is Outcome.ACKNOWLEDGED for receipt in receipts)
        self.say(f"Sent {len(receipts)}, acknowledged {acknowledged}.")
        # What is refused before the fault times nothing after it.
        self._probes = self._probes and acknowledged == len(receipts)
        copies = await self._note_copies("before")
        self.say(f"Copies: {copies}.")
        return copies

    async def _note_copies(self, when: str) -> Copies:
        copies = Copies.of(await self.operator.snapshot())
        self.history.note("copies", when=when, members=copies.members, owners=sorted(copies.owners))
        return copies

    async def _break(self, hits: Sequence[Hit], copies: Copies) -> None:
        """Hit, prove that it happened, and tell what the survivors do about it."""
        # All at once: the gap is measured from the kill on, not from when its effect was looked for.
        async with task_group() as tasks:
            hitting = tasks.create_task(self._fault.hit(self.arena, hits))
            watching = tasks.create_task(self._watch([hit.target for hit in hits], copies))
            if self._probes:
                tasks.create_task(self._probe())
            await hitting
            if not self._struck(hits):
                watching.cancel()  # nobody was hit, so there is no recovery to be seen
        now = await self._note_copies("after")
        self.say(f"Copies now: {now}.")

    def _struck(self, hits: Sequence[Hit]) -> bool:
        """Return whether the fault was seen to happen to one of these."""
        struck = {entry.facts["target"] for entry in self.history.entries if entry.kind == "struck"}
        return any(hit.target in struck for hit in hits)

    async def _watch(self, killed: Sequence[str], copies: Copies) -> None:
        backups = self.stage.config.queue.backup_count
        await watch(self.operator, killed, copies, backups, self.arena.step, self.patience.watch)

    async def _probe(self) -> None:
        """Send one more message, to time the first acknowledgement after the fault."""
        await asyncio.sleep(0)  # the fault first
        done = await self.traffic.probe(f"msg{self.trial.messages + 1}")
        self.arena.step("first acknowledgement, of one message more" if done else "nothing more is acknowledged")
