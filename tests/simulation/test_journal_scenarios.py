"""Schedules that a random one rarely is, for the protocol with journals: each needs a rule that no other one shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from simulation.cluster import Call
from simulation.journal_mutations import Burying, Forgetful, Returned, Timeless, Unadopted
from simulation.journals import JournalParts
from simulation.loop import Process
from simulation.run import Result, Run, quiet
from simulation.system import Layout, Service

A, B, FACADE = "messages-5001", "messages-5002", "facade-5000"


@dataclass
class Plan:
    """A schedule: what happens when (in seconds), and one process that is paused before it sends a call."""

    name: str
    layout: dict[str, int]
    events: list[tuple[float, Callable[[Planned], None]]]
    pauses: str
    """The process that is paused, and how its call begins."""
    call: str
    seconds: float
    begin: float = 0.0
    """When it is paused at the earliest."""
    lates: str = ""
    """A call that fails, and is carried out `late` seconds later."""
    late: float = 0.0
    room: int = 1000
    heal_at: float = 60.0


class Planned(Run):
    """A run without random faults, as planned."""

    def __init__(self, plan: Plan, parts: JournalParts) -> None:
        self.plan = plan
        super().__init__(1, parts, None, frozenset(), 400)
        self.faults.rates.clear()
        self._heal_at = plan.heal_at
        self.members.most = plan.room
        self.members.pauses_before = self._pauses_before
        self._dispatch, self.members._dispatch = self.members._dispatch, self._or_late  # type: ignore[method-assign]
        self.members.hit = self._pause
        self.done = False
        self._is_late = False

    def _draw_layout(self) -> Layout:
        usual = replace(super()._draw_layout(), facades=1, consumers=2, loggers=1, visibility_timeout=1)
        return replace(usual, **{"take_over_after": 0, "max_deliveries": 50, **self.plan.layout})

    def _schedule(self) -> None:
        for service in self.system.services:
            self.loop.in_world(0.0, service.start)
        for at, event in self.plan.events:
            self.loop.in_world(at, event, self)
        self.loop.in_world(self._heal_at, self._heal)
        self.loop.in_world(0.0, self._look)

    def service(self, name: str) -> Service:
        return next(each for each in self.system.services if each.name == name)

    def send(self, message_id: str) -> None:
        self._send(self.system.facades[0], message_id)

    def crash(self, name: str) -> None:
        process = self.service(name).process
        assert process
        process.crash()

    def start(self, name: str) -> None:
        self.service(name).start()

    def _pauses_before(self, call: Call) -> bool:
        plan = self.plan
        if call.process.name != plan.pauses or not call.what.startswith(plan.call) or self.loop.time() < plan.begin:
            return False
        return call.process.paused or not self.done

    def _or_late(self, call: Call, carry_out: Callable[[Call, Callable[[Any], None]], None]) -> None:
        if self._is_late or call.what != self.plan.lates:
            return self._dispatch(call, carry_out)
        self._is_late = True
        self.loop.in_world(0.1, call.fail)
        self.loop.in_world(self.plan.late, self.members._carry_out_late, call)
        self.members.late += 1
        return None

    def hide(self) -> None:
        """Let what is in the queue wait behind others for a while."""
        self._hidden = list(self.members.whole.items)
        self.members.whole.items.clear()

    def show(self) -> None:
        self.members.append(self.members.whole, self._hidden)

    def _pause(self, process: Process, _kind: str) -> float:
        if not self.done:
            self.done = True
            process.pause()
            self.loop.in_world(self.plan.seconds, self._resume, process)
        return self.plan.seconds


def sends(message_id: str) -> Callable[[Planned], None]:
    return lambda run: run.send(message_id)


def crashes(name: str) -> Callable[[Planned], None]:
    return lambda run: run.crash(name)


def starts(name: str) -> Callable[[Planned], None]:
    return lambda run: run.start(name)


def hides(run: Planned) -> None:
    run.hide()


PLANS = [
    (
        Plan(
            "a takeover is paused before it appends, and the owner is back",
            {"take_over_after": 2},
            [(1.0, sends("m0")), (1.3, sends("m1")), (1.6, sends("m2")), (5.0, crashes(A)), (9.0, starts(A))],
            pauses=B,
            call=f"stored slots.put_if_absent {A}/",
            seconds=14.0,
            begin=5.0,
        ),
        JournalParts(shelf=Returned),
        "is shown twice",
    ),
    (
        Plan(
            "a put comes late, a second copy is fenced and not stored yet, and the fenced one restarts",
            {},
            [(0.5, crashes(A)), (1.0, sends("m0")), (1.5, crashes(FACADE)), (6.0, starts(A)), (75.0, starts(FACADE))],
            pauses=B,
            call=f"stored slots.put_if_absent {B}/",
            seconds=60.0,
            lates="offer",
            late=45.0,  # as if it had waited in a long queue
            heal_at=90.0,
        ),
        JournalParts(shelf=Forgetful),
        "is shown",
    ),
    (
        Plan(
            "a facade is paused before it takes a refused message out of the log, and another one finds it",
            {"facades": 2, "consumers": 1},
            [(0.5, crashes(A)), (1.0, sends("m0")), (2.0, sends("m1")), (4.0, starts(A))],
            pauses=FACADE,
            call="log slots.replace_if_same",
            seconds=30.0,
            room=1,
        ),
        JournalParts(deliverer=Unadopted),
        "was refused, and is shown",
    ),
    (
        Plan(
            "a consumer is paused before it appends, until the message is a dead letter",
            {"consumers": 1, "max_deliveries": 3},
            [(1.0, sends("m0")), *((3.0 * n, hides) for n in range(1, 6))],
            pauses=A,
            call=f"stored slots.put_if_absent {A}/",
            seconds=20.0,
        ),
        JournalParts(deliverer=Burying),
        "is a dead letter, and is shown",
    ),
    (
        Plan(
            "both halves deliver what waited before the split, one of them long after the merge",
            {},
            [
                (0.5, crashes(A)),
                (0.5, crashes(B)),
                (1.0, sends("m0")),
                (2.0, lambda run: run._divide([B])),
                (3.0, starts(B)),
                (5.9, hides),
                (6.0, lambda run: run.members.merge()),
                (6.02, starts(A)),
                (50.0, lambda run: run.show()),
            ],
            pauses="",
            call="",
            seconds=0.0,
            heal_at=55.0,
        ),
        JournalParts(shelf=Timeless),
        "is shown",
    ),
]


def run(plan: Plan, parts: JournalParts) -> Result:
    with quiet():
        planned = Planned(plan, parts)
        result = planned.run()
    assert planned.done is bool(plan.pauses)
    return result


@pytest.mark.parametrize("plan", [plan for plan, *_ in PLANS], ids=lambda plan: plan.name)
def test_journals_keep_promise_in_rare_schedule(plan: Plan) -> None:
    result = run(plan, JournalParts())
    assert not result.failure, result


@pytest.mark.parametrize(("plan", "parts", "failure"), PLANS, ids=[plan.name for plan, *_ in PLANS])
def test_rare_schedule_finds_defect(plan: Plan, parts: JournalParts, failure: str) -> None:
    assert failure in run(plan, parts).failure
