"""Which member a fault hits, and how it is known that it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.snapshots import figures

from microq.chaos.faults import FAULTS
from microq.chaos.faults.base import Arena, Hit, dropped, gone, restarted
from microq.chaos.faults.network import SplitCluster
from microq.chaos.faults.servers import KillLeader, KillMember, KillTwoMembers, PauseMember, ServerFault
from microq.chaos.faults.services import KillLogging
from microq.chaos.history import record
from microq.chaos.matrix import make
from microq.config import Address, Config
from microq.errors import UsageError
from microq.figures import PartitionView, QueueView
from microq.fleet import ProcessState, ProcessView, Role, Snapshot

HAZELCAST = Config("the test", Path())
KAFKA = replace(HAZELCAST, queue=replace(HAZELCAST.queue, backend="kafka"))

PORTS = (15701, 5702, 5703)
"""As text the first one would be the lowest."""


def member(port: int, state: ProcessState = ProcessState.READY) -> ProcessView:
    return ProcessView(f"hazelcast-{port}", Role.QUEUE, f"127.0.0.1:{port}", state, pid=port)


def snapshot(*members: ProcessView, owner: str | None = "hazelcast-5703") -> Snapshot:
    queue = QueueView("hazelcast", "messages-queue", 0, 100, 2, owner)
    facade = ProcessView("facade-5000", Role.FACADE, "127.0.0.1:5000", ProcessState.READY, pid=1)
    return Snapshot(0.0, "", (*(members or map(member, PORTS)), facade), (), queue)


def targets(fault: ServerFault, view: Snapshot, seed: int = 0) -> list[str]:
    return [hit.target for hit in fault.choose(view, Random(seed))]


@pytest.mark.parametrize(
    ("target", "chosen"),
    [
        ("lowest", "hazelcast-5702"),
        ("owner", "hazelcast-5703"),
        ("backup", "hazelcast-5702"),
        ("hazelcast-15701", "hazelcast-15701"),
        ("127.0.0.1:15701", "hazelcast-15701"),
        ("15701", "hazelcast-15701"),
    ],
)
def test_a_target_can_be_said_in_many_ways(target: str, chosen: str) -> None:
    assert targets(KillMember(target), snapshot()) == [chosen]


def test_a_hit_says_whether_it_is_the_owner() -> None:
    assert KillMember("lowest").choose(snapshot(), Random(0)) == [
        Hit("hazelcast-5702", 5702, "127.0.0.1:5702", owner=False)
    ]
    assert KillMember("owner").choose(snapshot(), Random(0))[0].owner
    assert KillMember("lowest").choose(snapshot(owner="hazelcast-5702"), Random(0))[0].owner
    assert not KillMember("lowest").choose(replace(snapshot(), queue=None), Random(0))[0].owner


@pytest.mark.parametrize(
    ("target", "chosen"),
    [
        ("lowest", ["hazelcast-5702", "hazelcast-5703"]),
        ("owner", ["hazelcast-5703", "hazelcast-5702"]),
        ("15701", ["hazelcast-15701", "hazelcast-5702"]),
    ],
)
def test_the_second_victim_is_the_lowest_of_the_others(target: str, chosen: list[str]) -> None:
    assert targets(KillMember(target, members=2), snapshot()) == chosen


def test_only_members_that_are_up_are_chosen() -> None:
    view = snapshot(member(5702, ProcessState.EXITED), member(5703), member(15701))
    assert targets(KillMember("lowest"), view) == ["hazelcast-5703"]
    with pytest.raises(UsageError, match="needs 3 members, so that one survives; 2 are up"):
        KillMember("lowest", members=2).choose(view, Random(0))
    with pytest.raises(UsageError, match=r"5702 is not a member that is up; .* hazelcast-5703, hazelcast-15701"):
        KillMember("5702").choose(view, Random(0))


@pytest.mark.parametrize("target", ["nosuch", " ", "facade-5000", "5000", "hazelcast", "127.0.0.1", "all"])
def test_what_is_no_member_is_refused(target: str) -> None:
    with pytest.raises(
        UsageError, match="not a member that is up; choose one of lowest, owner, leader, backup, random, haz"
    ):
        KillMember(target).choose(snapshot(), Random(0))
    with pytest.raises(UsageError, match="is not a member"):
        KillMember(target).check(HAZELCAST, [Address("127.0.0.1", port) for port in PORTS])


@pytest.mark.parametrize("view", [snapshot(owner=None), replace(snapshot(), queue=None)])
def test_unknown_owner_is_refused(view: Snapshot) -> None:
    with pytest.raises(UsageError, match="the owner of the queue is unknown now"):
        KillMember("owner").choose(view, Random(0))


def test_a_seed_repeats_the_choice() -> None:
    chosen = [targets(KillMember("random"), snapshot(), seed) for seed in range(20)]
    assert chosen == [targets(KillMember("random"), snapshot(), seed) for seed in range(20)]
    assert {name for [name] in chosen} == {f"hazelcast-{port}" for port in PORTS}


def test_two_members_are_two() -> None:
    assert targets(KillTwoMembers(), snapshot()) == ["hazelcast-5703", "hazelcast-5702"]
    with pytest.raises(UsageError, match=r"2 of 3 members are up, .* `microq start hazelcast"):
        KillTwoMembers().check(HAZELCAST, [Address("127.0.0.1", port) for port in PORTS[:2]])


HIT = Hit("hazelcast-5702", 5702, "127.0.0.1:5702")


@pytest.mark.parametrize(
    ("now", "seen"),
    [
        (member(5702), False),
        (member(5702, ProcessState.PAUSED), False),
        (member(5702, ProcessState.STOPPING), False),
        (member(5702, ProcessState.EXITED), True),
        (replace(member(5702), pid=99), True),
    ],
)
def test_a_kill_happened_when_the_process_is_gone(now: ProcessView, *, seen: bool) -> None:
    assert gone(snapshot(now, member(5703)), HIT) is seen


def test_a_process_that_never_was_cannot_have_been_killed() -> None:
    view = snapshot(member(5702, ProcessState.EXITED), member(5703))
    assert not gone(view, replace(HIT, pid=None))


@pytest.mark.parametrize(
    ("now", "seen"),
    [
        (member(5702), False),
        (replace(member(5702), pid=99), True),
        (replace(member(5702, ProcessState.STARTING), pid=99), False),
        (member(5702, ProcessState.EXITED), False),
    ],
)
def test_a_restart_happened_when_another_process_is_ready(now: ProcessView, *, seen: bool) -> None:
    assert restarted(snapshot(now), HIT) is seen


@pytest.mark.parametrize(
    ("state", "others_see", "seen"),
    [(ProcessState.PAUSED, 1, True), (ProcessState.PAUSED, 2, False), (ProcessState.READY, 1, False)],
)
def test_a_pause_happened_when_the_others_dropped_it(state: ProcessState, others_see: int, *, seen: bool) -> None:
    view = snapshot(member(5702, state), member(5703))
    assert dropped(replace(view, members=(figures("hazelcast-5703", seen=others_see),)), HIT) is seen
    assert not dropped(view, HIT)


@pytest.mark.parametrize(
    ("others_see", "seen"), [((2, 2), True), ((1, 1), True), ((1, 2), True), ((3, 1), False), ((2,), False)]
)
def test_pause_is_proved_even_if_the_others_split(others_see: tuple[int, ...], *, seen: bool) -> None:
    view = snapshot(member(5702, ProcessState.PAUSED), member(5703), member(5701))
    told = zip((5703, 5701), others_see, strict=False)
    members = tuple(figures(f"hazelcast-{port}", seen=count) for port, count in told)
    assert dropped(replace(view, members=members), HIT) is seen


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_says_what_it_does(name: str) -> None:
    kind = FAULTS[name]
    assert kind.name == name
    assert kind.__doc__
    assert kind.__doc__.strip().partition("\n")[0].endswith((".", "live."))
    assert make(name, nonsense=1) == kind()


# -- the same faults on brokers ---------------------------------------------------------------------------------------

BROKERS = (9092, 9091, 9093)


def brokers(*up: int, owner: str = "kafka-9092") -> Snapshot:
    processes = tuple(
        ProcessView(f"kafka-{port}", Role.QUEUE, f"127.0.0.1:{port}", ProcessState.READY, pid=port) for port in up
    )
    waiting = {9091: 30, 9092: 50, 9093: 20}
    names = tuple(f"kafka-{port}" for port in sorted(up))
    partitions = tuple(
        PartitionView(number, f"kafka-{port}", names, 3, waiting[port])
        for number, port in enumerate(sorted(up))
        if port != 9093
    )
    queue = QueueView("kafka", "messages-queue", 100, 1000, 2, owner)
    members = tuple(replace(member(port), role=Role.MAPS) for port in PORTS)
    return Snapshot(0.0, "", (*members, *processes), (), queue, backend="kafka", partitions=partitions)


@pytest.mark.parametrize(
    ("fault", "chosen"),
    [
        (KillMember(), "kafka-9092"),
        (KillLeader(), "kafka-9092"),
        (KillMember("lowest"), "kafka-9091"),
        (KillMember("backup"), "kafka-9091"),
        (PauseMember("9093"), "kafka-9093"),
    ],
)
def test_with_kafka_a_broker_is_the_target(fault: ServerFault, chosen: str) -> None:
    fault.check(KAFKA, [Address("127.0.0.1", port) for port in BROKERS])
    assert targets(fault, brokers(*BROKERS)) == [chosen]


def test_every_leader_is_an_owner() -> None:
    view = brokers(*BROKERS)
    hits = [KillMember(str(port)).choose(view, Random(0))[0] for port in BROKERS]
    assert {hit.target: hit.owner for hit in hits} == {"kafka-9091": True, "kafka-9092": True, "kafka-9093": False}


def test_quiet_fault_keeps_a_majority_of_brokers() -> None:
    with pytest.raises(UsageError, match=r"without 2 of 3 brokers .* kill-two-members"):
        KillMember(members=2).check(KAFKA, [Address("127.0.0.1", port) for port in BROKERS])
    KillTwoMembers().check(KAFKA, [Address("127.0.0.1", port) for port in BROKERS])


@pytest.mark.parametrize(("fault", "config"), [(KillLeader(), HAZELCAST), (SplitCluster(), KAFKA)])
def test_a_fault_of_the_other_queue_is_refused(fault: ServerFault, config: Config) -> None:
    with pytest.raises(UsageError, match=r"is a fault of (kafka|hazelcast), and the queue is (hazelcast|kafka)'s"):
        fault.check(config, [Address("127.0.0.1", port) for port in BROKERS])


class Loggers:
    """An operator of logging-services, and the traffic through them: it notes who was up while it was waited for."""

    def __init__(self, count: int) -> None:
        self.states = {f"logging-{5003 + number}": ProcessState.READY for number in range(count)}
        self.waited: list[int] = []

    async def snapshot(self) -> Snapshot:
        views = (ProcessView(name, Role.LOGGING, "127.0.0.1:5003", state, pid=1) for name, state in self.states.items())
        return Snapshot(0.0, "", tuple(views), (), None)

    async def kill(self, names: Sequence[str]) -> Sequence[str]:
        self.states |= dict.fromkeys(names, ProcessState.EXITED)
        return names

    async def start(self, names: Sequence[str]) -> Sequence[str]:
        self.states |= dict.fromkeys(names, ProcessState.READY)
        return names

    async def passes(self, _count: int) -> bool:
        self.waited.append(sum(state is ProcessState.READY for state in self.states.values()))
        return True


@pytest.mark.parametrize(("count", "waited"), [(1, [1]), (3, [3, 2])])
async def test_lone_service_restarts_before_any_wait(tmp_path: Path, count: int, waited: list[int]) -> None:
    loggers: Any = Loggers(count)
    with record(tmp_path / "history.jsonl") as history:
        arena = Arena(loggers, HAZELCAST, history, loggers, Random(0), lambda _text: None, "kill-logging", 400)
        await KillLogging(times=1).strike(arena)
    assert loggers.waited == waited
    assert {*loggers.states.values()} == {ProcessState.READY}
