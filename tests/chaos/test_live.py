"""Every fault under traffic on the real services: it must be proved and undone, and where it misses prove nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeQueue
from inprocess import AmnesiacMap, InProcess, LossyQueue, in_process

from microq.chaos.controls import CONTROLS
from microq.chaos.faults import FAULTS
from microq.chaos.faults.base import Fault
from microq.chaos.forms import scenario
from microq.chaos.history import Entry, read, record
from microq.chaos.judge import judge
from microq.chaos.matrix import make
from microq.chaos.patience import Patience
from microq.chaos.scenario import Stage, Trial
from microq.chaos.verdict import Ruling, Verdict
from microq.client import open_session
from microq.fleet import ProcessState

SOON = Patience(
    probe=2.0, watch=1.0, effect=1.0, fault=30.0, load=30.0, drain=15.0, quiet=0.1, loss=0.4, redelivery=0.5
)

IN_VAIN = replace(SOON, effect=0.2, watch=0.5, probe=0.5)
"""For what cannot come: a longer wait would show no more."""

MANY = 16
"""Connections, as the command has, where only the trickle of a long fault takes time; they crowd this loop."""

SMALL: dict[str, Any] = {"times": 2, "seconds": 0.1, "sends": 60, "delay": 20.0, "passing": 5, "every": 5}
"""Options that make a fault short."""

QUEUES = {"full-queue": 20}
"""Fault -> how many messages the queue takes."""


@dataclass
class Run:
    """A trial in a system of this process."""

    system: InProcess
    folder: Path
    fault: Fault
    messages: int = 60
    seed: int = 1
    connections: int = 4
    restore: bool = False
    quiet: bool = False
    patience: Patience = SOON
    defects: Mapping[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @property
    def history(self) -> Path:
        return self.folder / "history.jsonl"

    def entries(self) -> list[Entry]:
        return list(read(self.history))

    def verdict(self) -> Verdict:
        self.history.unlink(missing_ok=True)
        found = asyncio.run(self._run())
        assert judge(read(self.history)) == found
        return found

    async def _run(self) -> Verdict:
        for role, defect in self.defects.items():
            await self.system.sabotage(role, defect)
        async with self.system as system, open_session() as session:
            with record(self.history) as history:
                stage = Stage(
                    system.config,
                    system,
                    session,
                    history,
                    self.said.append,
                    restore=self.restore,
                    links=system.links,
                    planter=system.plant,
                    patience=self.patience,
                )
                trial = Trial(self.fault, self.messages, self.seed, self.connections, defects=self.defects)
                return await scenario(stage, trial, quiet=self.quiet).run()


def small(tmp_path: Path, name: str, most: int = 1000) -> Run:
    system = in_process(tmp_path, queue=FakeQueue(most=most))
    return Run(system, tmp_path, make(name, **SMALL))


def states(system: InProcess) -> set[ProcessState]:
    return {process.state for process in asyncio.run(system.snapshot()).processes}


MINE = [name for name, kind in FAULTS.items() if "hazelcast" in kind.backends]
"""The others need real brokers."""


@pytest.mark.parametrize("name", MINE)
def test_every_fault_is_proved_and_undone(tmp_path: Path, name: str) -> None:
    run = small(tmp_path, name, QUEUES.get(name, 1000))
    found = run.verdict()
    assert (found.verdict, found.reasons, found.quiet, found.seed) == (Ruling.PASS, (), False, 1)
    assert found.faults
    assert all(hit.fault == name and hit.seen for hit in found.faults)
    assert found.acknowledged >= 60
    assert found.lost == found.duplicated == ()
    assert states(run.system) == {ProcessState.READY}


@pytest.mark.parametrize("name", MINE)
def test_every_fault_that_misses_proves_nothing(tmp_path: Path, name: str) -> None:
    run = small(tmp_path, name)
    # A delay that a busy machine does not have by itself.
    run.fault = make(name, **{**SMALL, "delay": 2000.0})
    run.system.misses = True
    run.patience, run.connections = IN_VAIN, MANY
    found = run.verdict()
    assert found.verdict is Ruling.UNKNOWN
    assert "was not seen to happen" in "; ".join(found.reasons)
    assert "the fault missed" in "\n".join(run.said)


def hits(run: Run) -> list[str]:
    """Every strike, with how many messages were acknowledged before it, roughly: tens of them."""
    return [entry.facts["target"].partition("-")[0] for entry in run.entries() if entry.kind == "fault"]


def test_each_strike_is_noted_on_its_own(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-consumer")
    found = run.verdict()
    assert Counter(entry.kind for entry in run.entries() if entry.kind in ("fault", "struck")) == {
        "fault": 2,
        "struck": 2,
    }
    assert len(found.faults) == 2


def test_a_seed_repeats_the_choices(tmp_path: Path) -> None:
    system = in_process(tmp_path)
    ports = {address.port: place for place, address in enumerate(system.config.service_ips.logging_service)}

    def chosen(seed: int) -> list[int]:
        run = Run(InProcess(system.config), tmp_path, make("kill-logging", times=6), seed=seed)
        return [ports[int(hit.target.rpartition("-")[2])] for hit in run.verdict().faults]

    first = chosen(1)
    assert chosen(1) == first
    assert chosen(2) != first


def test_a_message_is_sent_again_under_its_id_until_it_is_acknowledged(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-facade")
    found = run.verdict()
    tries = Counter(entry.facts["id"] for entry in run.entries() if entry.kind == "send")
    assert max(tries.values()) > 1
    assert len(tries) == found.attempted == found.acknowledged


def test_rejected_messages_of_a_full_queue_are_nowhere(tmp_path: Path) -> None:
    found = small(tmp_path, "full-queue", QUEUES["full-queue"]).verdict()
    assert found.rejected > 0
    assert found.attempted == found.acknowledged + found.rejected


def test_a_queue_that_drops_is_caught_under_traffic(tmp_path: Path) -> None:
    queue = LossyQueue()
    system = in_process(tmp_path, queue=queue)
    # Nobody redelivers what it drops.
    found = Run(system, tmp_path, make("kill-logging", times=1), 120, defects={"facade": "no-redelivery"}).verdict()
    assert found.verdict is Ruling.FAIL
    assert queue.dropped
    assert set(found.lost) == set(queue.dropped)
    assert set(found.layers) == set(found.lost)


def test_traffic_that_is_never_acknowledged_ends_in_time(tmp_path: Path) -> None:
    system = in_process(tmp_path, queue=FakeQueue(most=0))
    patience = replace(SOON, load=1.0, probe=0.3)
    found = Run(system, tmp_path, make("kill-logging", times=1), patience=patience).verdict()
    assert found.verdict is Ruling.UNKNOWN
    assert "only 0 of 60 messages were acknowledged" in found.reasons
    assert "nothing was acknowledged" in found.reasons


def test_a_fault_without_an_end_is_ended(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-consumer")
    run.fault = make("kill-consumer", times=1000)
    run.patience = replace(SOON, fault=1.0)
    found = run.verdict()
    assert found.verdict is Ruling.UNKNOWN
    # The strike that is cut short may be one that nobody has seen yet.
    unseen = [f"the fault was not seen to happen on {hit.target}" for hit in found.faults[-1:] if not hit.seen]
    assert found.reasons == ("the fault was not over after 1 s", *unseen)
    assert states(run.system) == {ProcessState.READY}


def test_a_system_that_ran_before_is_restored(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-member")
    asyncio.run(run.system.stop(["messages"]))
    run.restore = True
    assert run.verdict().verdict is Ruling.PASS
    view = asyncio.run(run.system.snapshot())
    stopped = {process.name for process in view.processes if process.state is ProcessState.STOPPED}
    assert {name.partition("-")[0] for name in stopped} == {"messages"}


def test_what_the_queue_gives_twice_is_ignored_by_honest_consumers(tmp_path: Path) -> None:
    run = small(tmp_path, "lose-replies")
    found = run.verdict()
    assert run.system.queue.repeated > 0
    assert (found.verdict, found.duplicated) == (Ruling.PASS, ())


HERE = [
    name
    for name, control in CONTROLS.items()
    if "hazelcast" in control.backends and name not in ("no-redelivery", "forgetful")
]
"""Controls whose defects a system in this process can have; the others need processes."""


@pytest.mark.parametrize("name", HERE)
def test_every_control_is_red(tmp_path: Path, name: str) -> None:
    control = CONTROLS[name]
    setting = "backup-count = 0\n" if control.settings else ""
    system = in_process(tmp_path, f"[queue]\nvisibility-timeout = 1\n{setting}")
    run = Run(system, tmp_path, control.fault, min(control.messages, 40), quiet=control.quiet, defects=control.defects)
    run.patience, run.connections = IN_VAIN, MANY
    found = run.verdict()
    # Here nobody writes log files, so the layer is not known.
    assert replace(control, layer=None).red(found), found.reasons


@pytest.mark.parametrize("name", HERE)
def test_no_control_is_red_on_an_honest_run(tmp_path: Path, name: str) -> None:
    found = small(tmp_path, "kill-member").verdict()
    assert not CONTROLS[name].red(found)


def test_a_log_that_keeps_nothing_is_what_the_control_expects(tmp_path: Path) -> None:
    system = in_process(tmp_path, log=AmnesiacMap())
    control = CONTROLS["forgetful"]
    assert control.red(Run(system, tmp_path, control.fault, 20, quiet=True).verdict())
