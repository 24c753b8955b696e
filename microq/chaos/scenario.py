"""The scenario of the task: consumers off, send, break a server, consumers on, and account for every message."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from microq import __version__
from microq.chaos.faults import Fault, Hit
from microq.chaos.history import History
from microq.chaos.judge import Verdict, judge
from microq.chaos.recovery import Copies, until_safe, watch
from microq.chaos.traffic import Patience, Traffic
from microq.config import Address, Config
from microq.errors import MachineError, UsageError
from microq.fleet import UP, Operator, Role, Snapshot
from microq.message import Outcome
from microq.tasks import task_group

Say = Callable[[str], None]
"""Hears each step as it happens, in words for people."""


@dataclass(slots=True)
class ConsumersOff:
    """The messages-services are off while a fault hits the queue: what arrives later came from its copies."""

    config: Config
    operator: Operator
    session: aiohttp.ClientSession
    history: History
    fault: Fault
    messages: int
    probe: bool
    restore: bool
    say: Say
    patience: Patience = field(default_factory=Patience)

    async def run(self) -> Verdict:
        """Run it, restore what was there before, and return the verdict."""
        before = await self.operator.snapshot()
        if not before.managed:
            raise UsageError("[hazelcast] managed = false: the members are not microq's, so it cannot break them")
        # Before anything is changed.
        self.fault.check([Address.parse(p.address) for p in before.having(Role.HAZELCAST) if p.state in UP])
        hits: Sequence[Hit] = ()
        traffic = Traffic(self.session, self.config, self.history, self.patience)
        await traffic.reach()
        try:
            await self._begin(before, traffic)
            copies = await self._fill(traffic)
            hits = await self._choose()
            await self._break(traffic, hits, copies)
            await self._consume(traffic)
        finally:
            await self._restore(before, hits)
        self.history.note("end")
        return judge(self.history.entries)

    async def _begin(self, before: Snapshot, traffic: Traffic) -> None:
        self.history.note(
            "begin",
            scenario=self.fault.name,
            queue=self.config.queue.backend,
            messages=self.messages,
            backup_count=self.config.queue.backup_count,
            fault=repr(self.fault),
            folder=before.folder,
            microq=__version__,
            python=platform.python_version(),
            system=f"{platform.system()} {platform.machine()}",
        )
        if not before.safe:
            self.say("The cluster is not safe yet; waiting until every copy is in place.")
            if not await until_safe(self.operator, self.patience.watch):
                raise MachineError(
                    "the cluster does not become safe, so no fault would prove anything; `microq status`"
                )
        stopped = await self.operator.stop([Role.MESSAGES.value])
        self.say(f"Consumers are off: {', '.join(stopped) if stopped else 'they were off already'}.")
        await traffic.earlier()

    async def _fill(self, traffic: Traffic) -> Copies:
        receipts = await traffic.send_all(f"msg{number}" for number in range(1, self.messages + 1))
        acknowledged = sum(receipt.outcome is Outcome.ACKNOWLEDGED for receipt in receipts)
        self.say(f"Sent {len(receipts)}, acknowledged {acknowledged}.")
        if acknowledged < len(receipts):
            self.probe = False  # what is refused before the fault times nothing after it
        copies = await self._note_copies("before")
        self.say(f"Copies: {copies}.")
        return copies

    async def _note_copies(self, when: str) -> Copies:
        copies = Copies.of(await self.operator.snapshot())
        self.history.note("copies", when=when, members=copies.members, owner=copies.owner)
        return copies

    async def _choose(self) -> Sequence[Hit]:
        hits = self.fault.choose(await self.operator.snapshot())
        for hit in hits:
            role = "It owns the queue." if hit.owner else "It does not own the queue."
            self.say(f"Hitting {hit.target} (pid {hit.pid}, {hit.address}) with {self.fault.name}. {role}")
        return hits

    async def _break(self, traffic: Traffic, hits: Sequence[Hit], copies: Copies) -> None:
        """Hit, prove that it happened, and tell what the survivors do about it."""
        for hit in hits:
            self.history.note("fault", fault=self.fault.name, target=hit.target, pid=hit.pid, owner=hit.owner)
        began = asyncio.get_running_loop().time()

        def step(what: str) -> None:
            since = asyncio.get_running_loop().time() - began
            self.history.note("step", what=what, since=round(since, 3))
            self.say(f"  +{since:.2f} s {what}")

        # All at once: the gap is measured from the kill on, not from when its effect was looked for.
        async with task_group() as tasks:
            tasks.create_task(self._strike(hits, step))
            tasks.create_task(self._watch([hit.target for hit in hits], copies, step))
            if self.probe:
                tasks.create_task(self._probe(traffic, step))
        now = await self._note_copies("after")
        self.say(f"Copies now: {now}.")

    async def _strike(self, hits: Sequence[Hit], step: Callable[[str], None]) -> None:
        await self.fault.inject(self.operator, hits)
        step(f"{' and '.join(hit.target for hit in hits)} killed")
        view = await self.operator.snapshot()
        for hit in hits:
            if self.fault.seen(view, hit):
                self.history.note("struck", target=hit.target)
            else:
                self.say(f"  {hit.target} still lives: the fault missed")

    async def _watch(self, killed: Sequence[str], copies: Copies, step: Callable[[str], None]) -> None:
        await watch(self.operator, killed, copies, self.config.queue.backup_count, step, self.patience.watch)

    async def _probe(self, traffic: Traffic, step: Callable[[str], None]) -> None:
        """Send one more message, to time the first acknowledgement after the fault."""
        done = await traffic.probe(f"msg{self.messages + 1}")
        step("first acknowledgement, of one message more" if done else "nothing more is acknowledged")

    async def _consume(self, traffic: Traffic) -> None:
        started = await self.operator.start([Role.MESSAGES.value])
        self.say(f"Started {', '.join(started)}; draining the queue.")
        await traffic.drain()
        view = await self.operator.snapshot()
        await traffic.read_back(view)
        logs, messages = await traffic.read_through_facade()
        counts = ", ".join(f"{p.name} holds {p.held}" for p in view.having(Role.MESSAGES))
        self.say(f"Read back: {counts}; through the facade {len(messages)} messages and {len(logs)} log entries.")

    async def _restore(self, before: Snapshot, hits: Sequence[Hit]) -> None:
        """Bring back what was there before; a system that was started for this run is stopped by its starter."""
        if not self.restore:
            return
        if hits:
            await self.fault.heal(self.operator, hits)
            if await until_safe(self.operator, self.patience.watch):
                self.say(f"{', '.join(hit.target for hit in hits)} rejoined; the cluster is safe again.")
        up = {process.name for process in before.processes if process.state in UP}
        consumers = [process.name for process in before.having(Role.MESSAGES)]
        await self.operator.start([name for name in consumers if name in up])
        await self.operator.stop([name for name in consumers if name not in up])
