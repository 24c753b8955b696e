"""Which member a fault hits, and how it is known that it did."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from inprocess import in_process

from microq.chaos.faults import FAULTS, Hit, KillMember
from microq.config import Address
from microq.errors import UsageError
from microq.fleet import ProcessState, ProcessView, QueueView, Role, Snapshot

PORTS = (15701, 5702, 5703)
"""As text the first one would be the lowest."""


def member(port: int, state: ProcessState = ProcessState.READY) -> ProcessView:
    return ProcessView(f"hazelcast-{port}", Role.HAZELCAST, f"127.0.0.1:{port}", state, pid=port)


def snapshot(*members: ProcessView, owner: str | None = "hazelcast-5703") -> Snapshot:
    queue = QueueView("hazelcast", "messages-queue", 0, 100, 2, owner)
    facade = ProcessView("facade-5000", Role.FACADE, "127.0.0.1:5000", ProcessState.READY, pid=1)
    return Snapshot(0.0, "", (*(members or map(member, PORTS)), facade), (), queue)


def targets(fault: KillMember, view: Snapshot) -> list[str]:
    return [hit.target for hit in fault.choose(view)]


@pytest.mark.parametrize(
    ("target", "chosen"),
    [
        ("lowest", "hazelcast-5702"),
        ("owner", "hazelcast-5703"),
        ("hazelcast-15701", "hazelcast-15701"),
        ("127.0.0.1:15701", "hazelcast-15701"),
        ("15701", "hazelcast-15701"),
    ],
)
def test_a_target_can_be_said_in_many_ways(target: str, chosen: str) -> None:
    assert targets(KillMember(target), snapshot()) == [chosen]


def test_a_hit_says_whether_it_is_the_owner() -> None:
    assert KillMember("lowest").choose(snapshot()) == [Hit("hazelcast-5702", 5702, "127.0.0.1:5702", owner=False)]
    assert KillMember("owner").choose(snapshot())[0].owner
    assert KillMember("lowest").choose(snapshot(owner="hazelcast-5702"))[0].owner
    assert not KillMember("lowest").choose(replace(snapshot(), queue=None))[0].owner


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
    with pytest.raises(UsageError, match="2 members cannot lose 2"):
        KillMember("lowest", members=2).choose(view)
    with pytest.raises(UsageError, match=r"5702 is no member that is up; .* hazelcast-5703, hazelcast-15701"):
        KillMember("5702").choose(view)


@pytest.mark.parametrize("target", ["nosuch", "", "facade-5000", "5000", "hazelcast", "127.0.0.1", "all"])
def test_what_is_no_member_is_refused(target: str) -> None:
    with pytest.raises(UsageError, match="is no member that is up; there are lowest, owner, hazelcast-"):
        KillMember(target).choose(snapshot())
    with pytest.raises(UsageError, match="is no member"):
        KillMember(target).check([Address("127.0.0.1", port) for port in PORTS])


@pytest.mark.parametrize("view", [snapshot(owner=None), replace(snapshot(), queue=None)])
def test_an_owner_that_nobody_knows_is_refused(view: Snapshot) -> None:
    with pytest.raises(UsageError, match="nobody knows now who owns the queue"):
        KillMember("owner").choose(view)


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
def test_it_happened_when_the_process_is_gone(now: ProcessView, *, seen: bool) -> None:
    hit = KillMember("5702").choose(snapshot())[0]
    assert KillMember().seen(snapshot(now, member(5703)), hit) is seen


def test_a_process_that_never_was_cannot_have_been_killed() -> None:
    view = snapshot(member(5702, ProcessState.EXITED), member(5703))
    assert not KillMember().seen(view, Hit("hazelcast-5702", None, "127.0.0.1:5702", owner=False))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_does_what_it_says_and_undoes_it(tmp_path: Path, name: str) -> None:
    system, fault = in_process(tmp_path), FAULTS[name]()

    async def life() -> None:
        hits = fault.choose(await system.snapshot())
        before = await system.snapshot()
        await fault.inject(system, hits)
        broken = await system.snapshot()
        await fault.heal(system, hits)
        after = await system.snapshot()
        assert hits
        for hit in hits:
            assert [fault.seen(view, hit) for view in (before, broken)] == [False, True]
            assert after.named(hit.target).state is ProcessState.READY

    asyncio.run(life())
