"""Every fault under traffic on the real services: it must be proved and undone, and where it misses prove nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from support.fakes import FakeQueue
from support.inprocess import AmnesiacMap, FakeLinks, InProcess, LossyQueue, in_process
from support.project import make_project

from microq.chaos.checker import judge
from microq.chaos.conditions import Condition
from microq.chaos.controls import CONTROLS, Miss
from microq.chaos.faults import FAULTS
from microq.chaos.faults.base import Fault, combine
from microq.chaos.history import Entry, read, record
from microq.chaos.matrix import make
from microq.chaos.scenario import Stage, Trial, scenario
from microq.chaos.timeouts import Timeouts
from microq.chaos.verdict import Ruling, Verdict
from microq.client import FacadeClient, open_session
from microq.errors import MachineError, QueueIndeterminateError
from microq.fleet import ProcessState

SOON = Timeouts(
    probe=2.0, watch=10.0, effect=10.0, fault=30.0, load=30.0, drain=15.0, quiet=0.1, loss=1.0, redelivery=0.5
)

IN_VAIN = replace(SOON, effect=0.2, watch=0.5, probe=0.5)
"""For what cannot come: a longer wait would show no more."""

MANY = 16
"""Connections, as the command has, where only the trickle of a long fault takes time; they crowd this loop."""

SMALL: dict[str, Any] = {"times": 2, "seconds": 0.1, "tries": 2, "sends": 60, "delay": 20.0, "passing": 5, "every": 5}
"""Options that make a fault short."""

QUEUES = {"full-queue": 20}
"""Fault -> how many messages the queue takes."""


HEAPS = {"fill-memory": "32m"}
"""Fault -> how large the heap of a member is said to be."""


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
    reread: bool = True
    held: int = 0
    bounds: Mapping[str, float] = field(default_factory=dict)
    timeouts: Timeouts = SOON
    defects: Mapping[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @property
    def history(self) -> Path:
        return self.folder / "history.jsonl"

    def entries(self) -> list[Entry]:
        return list(read(self.history))

    async def verdict(self) -> Verdict:
        self.history.unlink(missing_ok=True)
        found = await self._run()
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
                    opener=system.store.opener(),
                    timeouts=self.timeouts,
                )
                trial = Trial(
                    self.fault,
                    self.messages,
                    self.seed,
                    self.connections,
                    quiet=self.quiet,
                    defects=self.defects,
                    reread=self.reread,
                    held=self.held,
                    bounds=self.bounds,
                )
                return await scenario(stage, trial).run()


def small(tmp_path: Path, name: str, most: int = 1000, heap: str = "256m") -> Run:
    system = in_process(tmp_path, queue=FakeQueue(most=most))
    system.config = system.config.with_settings("hazelcast", heap=heap)
    return Run(system, tmp_path, make(name, **SMALL))


async def states(system: InProcess) -> set[ProcessState]:
    return {process.state for process in (await system.snapshot()).processes}


MINE = [name for name, kind in FAULTS.items() if kind.suits("hazelcast") and name != "jump-clock"]
"""The others need real brokers, or a process whose clock can be set."""


@pytest.mark.parametrize("name", MINE)
async def test_every_fault_is_proved_and_undone(tmp_path: Path, name: str) -> None:
    run = small(tmp_path, name, QUEUES.get(name, 1000), HEAPS.get(name, "256m"))
    found = await run.verdict()
    assert (found.verdict, found.reasons, found.quiet, found.seed) == (Ruling.PASS, (), False, 1)
    assert found.faults
    assert all(hit.fault == name and hit.seen for hit in found.faults)
    assert found.acknowledged >= 60
    assert found.lost == found.duplicated == ()
    assert await states(run.system) == {ProcessState.READY}


@pytest.mark.parametrize("name", MINE)
async def test_every_fault_that_misses_proves_nothing(tmp_path: Path, name: str) -> None:
    run = small(tmp_path, name)
    # A delay that a busy machine does not have by itself.
    run.fault = make(name, **{**SMALL, "delay": 2000.0})
    run.system.misses = True
    run.timeouts, run.connections = IN_VAIN, MANY
    found = await run.verdict()
    assert found.verdict is Ruling.UNKNOWN
    assert "was not observed" in "; ".join(found.reasons)
    assert "the fault missed" in "\n".join(run.said)


async def test_a_proxy_that_ends_leaves_the_verdict_unknown(tmp_path: Path) -> None:
    class Ending(FakeLinks):
        async def impose(self, condition: Condition) -> int:  # noqa: ARG002 - whatever it is
            self.end()
            return 0

    run = small(tmp_path, "slow-network")
    run.system.links = Ending(run.system)
    found = await run.verdict()
    assert found.verdict is Ruling.UNKNOWN
    assert "the proxy ended" in found.reasons
    assert found.acknowledged


def hits(run: Run) -> list[str]:
    """Every strike, with how many messages were acknowledged before it, roughly: tens of them."""
    return [entry.facts["target"].partition("-")[0] for entry in run.entries() if entry.kind == "fault"]


async def test_each_strike_is_noted_on_its_own(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-consumer")
    found = await run.verdict()
    assert Counter(entry.kind for entry in run.entries() if entry.kind in ("fault", "struck")) == {
        "fault": 2,
        "struck": 2,
    }
    assert len(found.faults) == 2


async def test_a_seed_repeats_the_choices(tmp_path: Path) -> None:
    system = in_process(tmp_path)
    ports = {address.port: place for place, address in enumerate(system.config.service_ips.logging_service)}

    async def chosen(seed: int) -> list[int]:
        run = Run(InProcess(system.config), tmp_path, make("kill-logging", times=6), seed=seed)
        return [ports[int(hit.target.rpartition("-")[2])] for hit in (await run.verdict()).faults]

    first = await chosen(1)
    assert await chosen(1) == first
    assert await chosen(2) != first


async def test_message_is_repeated_under_its_id_until_acknowledged(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-facade")
    found = await run.verdict()
    tries = Counter(entry.facts["id"] for entry in run.entries() if entry.kind == "send")
    assert max(tries.values()) > 1
    assert len(tries) == found.attempted == found.acknowledged


async def test_rejected_messages_of_a_full_queue_are_nowhere(tmp_path: Path) -> None:
    found = await small(tmp_path, "full-queue", QUEUES["full-queue"]).verdict()
    assert found.rejected > 0
    assert found.attempted == found.acknowledged + found.rejected


async def test_a_queue_that_drops_is_caught_under_traffic(tmp_path: Path) -> None:
    queue = LossyQueue()
    system = in_process(tmp_path, queue=queue)
    # Nobody redelivers what it drops.
    found = await Run(
        system, tmp_path, make("kill-logging", times=1), 120, defects={"facade": "no-redelivery"}
    ).verdict()
    assert found.verdict is Ruling.FAIL
    assert queue.dropped
    assert set(found.lost) == set(queue.dropped)
    assert set(found.layers) == set(found.lost)


async def test_traffic_that_is_never_acknowledged_ends_in_time(tmp_path: Path) -> None:
    system = in_process(tmp_path, queue=FakeQueue(most=0))
    timeouts = replace(SOON, load=1.0, probe=0.3)
    found = await Run(system, tmp_path, make("kill-logging", times=1), timeouts=timeouts).verdict()
    assert found.verdict is Ruling.UNKNOWN
    assert "only 0 of 60 messages were acknowledged" in found.reasons
    assert "nothing was acknowledged" in found.reasons


async def test_a_fault_without_an_end_is_ended(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-consumer")
    run.fault = make("kill-consumer", times=1000)
    run.timeouts = replace(SOON, fault=1.0)
    found = await run.verdict()
    assert found.verdict is Ruling.UNKNOWN
    # The strike that is cut short may be one that nobody has seen yet.
    unseen = [f"the effect of the fault was not observed on {hit.target}" for hit in found.faults[-1:] if not hit.seen]
    assert found.reasons == ("the fault was not over after 1 s", *unseen)
    assert await states(run.system) == {ProcessState.READY}


async def test_a_system_that_ran_before_is_restored(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-member")
    await run.system.stop(["messages"])
    run.restore = True
    assert (await run.verdict()).verdict is Ruling.PASS
    view = await run.system.snapshot()
    stopped = {process.name for process in view.processes if process.state is ProcessState.STOPPED}
    assert {name.partition("-")[0] for name in stopped} == {"messages"}


async def test_second_delivery_is_ignored_by_consumers(tmp_path: Path) -> None:
    run = small(tmp_path, "lose-replies")
    found = await run.verdict()
    assert run.system.queue.repeated > 0
    assert (found.verdict, found.duplicated) == (Ruling.PASS, ())


def noted(run: Run, kind: str) -> list[Mapping[str, Any]]:
    return [entry.facts for entry in run.entries() if entry.kind == kind]


async def test_each_send_has_its_attempt_its_text_and_its_sender(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-facade")
    await run.verdict()
    sends, outcomes = noted(run, "send"), noted(run, "outcome")
    attempts = Counter((facts["id"], facts["attempt"]) for facts in sends)
    assert set(attempts.values()) == {1}
    assert max(attempt for _, attempt in attempts) > 1
    assert Counter((facts["id"], facts["attempt"]) for facts in outcomes) == attempts
    assert len({facts["hash"] for facts in sends}) == len({facts["id"] for facts in sends})
    assert len({facts["sender"] for facts in sends}) == run.connections
    under_way: set[str] = set()
    senders = {(facts["id"], facts["attempt"]): facts["sender"] for facts in sends}
    for entry in run.entries():  # a sender sends one after another
        if entry.kind == "send":
            assert entry.facts["sender"] not in under_way
            under_way.add(entry.facts["sender"])
        elif entry.kind == "outcome":
            under_way.remove(senders[entry.facts["id"], entry.facts["attempt"]])


async def test_the_consumers_are_restarted_and_read_again(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-logging")
    assert (await run.verdict()).verdict is Ruling.PASS
    ((restart, entry),) = [(n, e) for n, e in enumerate(run.entries()) if e.kind == "restarted"]
    assert [name.partition("-")[0] for name in entry.facts["instances"]] == ["messages", "messages"]
    before, after = ([e.kind for e in part] for part in (run.entries()[:restart], run.entries()[restart:]))
    assert "agreed" in before
    assert "agreed" in after
    assert "claims" in after
    run.reread = False
    assert (await run.verdict()).verdict is Ruling.PASS
    assert noted(run, "restarted") == []


class Neighbour(InProcess):
    """While a fault strikes somebody else sends as well."""

    others: tuple[str, ...] = ()

    async def kill(self, names: Sequence[str]) -> list[str]:
        async with open_session() as session:
            client = FacadeClient(session, self.config.service_ips.facade_service)
            self.others += tuple([(await client.send("mine")).id for _ in range(5)])
        return await super().kill(names)


@pytest.mark.parametrize("quiet", [False, True], ids=["live", "quiet"])
async def test_what_somebody_else_sends_is_foreign(tmp_path: Path, *, quiet: bool) -> None:
    system = Neighbour(make_project(tmp_path).config)
    run = Run(system, tmp_path, make("kill-member"), quiet=quiet)
    found = await run.verdict()
    assert (found.verdict, found.reasons) == (Ruling.PASS, ())
    assert found.unexpected == ()
    (foreign,) = noted(run, "foreign")
    assert foreign == {"ids": sorted(system.others), "known": True}
    assert len(found.foreign) == 5


async def test_faults_strike_together_each_with_its_own_proof(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-member")
    run.fault = combine([make("kill-member"), make("kill-logging", times=2), make("kill-facade", times=1)])
    found = await run.verdict()
    assert (found.verdict, found.scenario) == (Ruling.PASS, "kill-member+kill-logging+kill-facade")
    assert Counter(hit.fault for hit in found.faults) == {"kill-member": 1, "kill-logging": 2, "kill-facade": 1}
    assert all(hit.seen for hit in found.faults)
    assert await states(run.system) == {ProcessState.READY}


async def test_of_faults_together_one_that_misses_proves_nothing(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-member")
    run.fault = combine([make("kill-facade", times=1), Miss()])
    found = await run.verdict()
    assert found.verdict is Ruling.UNKNOWN
    assert {hit.fault: hit.seen for hit in found.faults} == {"kill-facade": True, "miss": False}


async def test_messages_are_held_before_the_run(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-logging")
    run.held = 150
    found = await run.verdict()
    assert (found.verdict, found.reasons) == (Ruling.PASS, ())
    (earlier,) = noted(run, "earlier")
    assert len(earlier["ids"]) == len(earlier["texts"]) == sum(map(len, earlier["shown"].values())) == 150
    # What was there before is noted once.
    assert not {*earlier["ids"]} & {facts["id"] for kind in ("logged", "shown") for facts in noted(run, kind)}


async def test_what_fails_while_messages_are_put_in_is_sent_again(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-logging")
    run.held = 50
    run.system.queue.late_errors.extend([QueueIndeterminateError("the reply was lost")] * 3)
    assert (await run.verdict()).verdict is Ruling.PASS
    assert not run.system.queue.late_errors
    (earlier,) = noted(run, "earlier")
    assert len(earlier["ids"]) == 50


async def test_too_many_held_messages_are_refused_before_the_run(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-logging", most=0)
    run.held = 10
    with pytest.raises(
        MachineError, match=r"10 messages cannot be held before the run: 503 .*ask for less with --held"
    ):
        await run.verdict()
    assert run.history.read_text(encoding="utf-8") == ""


async def test_bounds_are_part_of_the_history(tmp_path: Path) -> None:
    run = small(tmp_path, "kill-logging")
    run.bounds = {"p99": 0.000001}
    found = await run.verdict()
    assert noted(run, "begin")[0]["bounds"] == {"p99": 0.000001}
    assert found.verdict is Ruling.FAIL


HERE = [
    name
    for name, control in CONTROLS.items()
    if control.suits("hazelcast") and name not in ("no-redelivery", "forgetful")
]
"""Controls whose defects a system in this process can have; the others need processes."""


@pytest.mark.parametrize("name", HERE)
async def test_every_control_is_red(tmp_path: Path, name: str) -> None:
    control = CONTROLS[name]
    setting = "backup-count = 0\n" if control.settings else ""
    system = in_process(tmp_path, f"[queue]\nvisibility-timeout = 1\n{setting}")
    run = Run(system, tmp_path, control.fault, min(control.messages, 40), quiet=control.quiet, defects=control.defects)
    run.timeouts, run.connections, run.reread = IN_VAIN, MANY, False
    found = await run.verdict()
    # Here nobody writes log files, so the layer is not known.
    assert replace(control, layer=None).red(found), found.reasons


@pytest.mark.parametrize("name", HERE)
async def test_no_control_is_red_on_an_honest_run(tmp_path: Path, name: str) -> None:
    found = await small(tmp_path, "kill-member").verdict()
    assert not CONTROLS[name].red(found)


async def test_a_log_that_keeps_nothing_is_what_the_control_expects(tmp_path: Path) -> None:
    system = in_process(tmp_path, log=AmnesiacMap())
    control = CONTROLS["forgetful"]
    assert control.red(await Run(system, tmp_path, control.fault, 20, quiet=True).verdict())
