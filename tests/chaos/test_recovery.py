"""What is told of a recovery, from snapshots as a cluster shows them one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.fakes import PLAIN
from support.inprocess import InProcess
from support.snapshots import figures

from microq.chaos.recovery import Copies, copies_now, until_settled, watch
from microq.config import Config
from microq.figures import MemberFigures, QueueView
from microq.fleet import ProcessState, ProcessView, Role, Snapshot

A, B, C = "hazelcast-1", "hazelcast-2", "hazelcast-3"


class Replay(InProcess):
    """An operator that shows one snapshot after the other, the last one for ever."""

    def __init__(self, config: Config, *snapshots: Snapshot) -> None:
        super().__init__(config)
        self._snapshots = iter(snapshots)
        self._now = snapshots[0]

    async def snapshot(self) -> Snapshot:
        self._now = next(self._snapshots, self._now)
        return self._now


def snapshot(*members: MemberFigures, owner: str | None = A, up: Sequence[str] = (A, B, C)) -> Snapshot:
    processes = tuple(
        ProcessView(
            name,
            Role.QUEUE,
            f"127.0.0.1:{name[-1]}",
            ProcessState.READY if name in up else ProcessState.EXITED,
        )
        for name in (A, B, C)
    )
    return Snapshot(0.0, "", processes, members, QueueView("hazelcast", "q", 10, 100, 2, owner))


HEALTHY = snapshot(figures(A, items=10), figures(B, backups=10), figures(C, backups=10))
GONE = (B, C)
NOT_NOTICED = snapshot(figures(B, backups=10), figures(C, backups=10), up=GONE)
ONE_NOTICED = snapshot(figures(B, backups=10, seen=2), figures(C, backups=10), up=GONE)
ORPHANED = snapshot(
    figures(B, backups=10, seen=2, safe=False), figures(C, backups=10, seen=2, safe=False), owner=None, up=GONE
)
PROMOTED = snapshot(figures(B, items=10, seen=2, safe=False), figures(C, seen=2, safe=False), owner=B, up=GONE)
COPIED = snapshot(
    figures(B, items=10, seen=2, safe=False), figures(C, backups=10, seen=2, safe=False), owner=B, up=GONE
)
SAFE = snapshot(figures(B, items=10, seen=2), figures(C, backups=10, seen=2), owner=B, up=GONE)


async def told(
    *snapshots: Snapshot, killed: Sequence[str] = (A,), backups: int = 2, seconds: float = 5.0
) -> tuple[bool, list[str]]:
    steps: list[str] = []
    system = Replay(PLAIN, *snapshots)
    done = await watch(system, killed, Copies.of(HEALTHY), backups, steps.append, seconds)
    return done, steps


async def test_step_is_reported_when_it_is_seen() -> None:
    done, steps = await told(NOT_NOTICED, ONE_NOTICED, ORPHANED, PROMOTED, COPIED, SAFE)
    assert done
    assert steps == ["left the member list", "backup promoted to owner", "new backups made", "1 of 2 backups in place"]


async def test_step_is_reported_after_all_survivors_agree() -> None:
    done, steps = await told(NOT_NOTICED, ONE_NOTICED, seconds=0.2)
    assert not done
    assert steps == [
        "not seen in 0.2 s: left the member list, backup promoted to owner, new backups made, 1 of 2 backups in place"
    ]


async def test_step_not_seen_in_time_is_reported() -> None:
    done, steps = await told(ORPHANED, PROMOTED, seconds=0.2)
    assert not done
    assert steps[:2] == ["left the member list", "backup promoted to owner"]
    assert steps[2:] == ["not seen in 0.2 s: new backups made, 1 of 2 backups in place"]


async def test_no_backup_is_promoted_when_a_backup_dies() -> None:
    after = snapshot(figures(A, items=10, seen=2), figures(C, backups=10, seen=2), up=(A, C))
    assert await told(after, killed=[B]) == (
        True,
        ["left the member list", "new backups made", "1 of 2 backups in place"],
    )


async def test_last_survivor_has_no_server_for_copies() -> None:
    last = snapshot(figures(C, items=10, seen=1), owner=C, up=[C])
    assert await told(last, killed=[A, B]) == (
        True,
        ["left the member list", "backup promoted to owner", "0 of 2 backups in place"],
    )


async def test_without_backups_none_are_waited_for() -> None:
    after = snapshot(figures(B, seen=2), figures(C, seen=2), owner=B, up=GONE)
    steps = (await told(after, backups=0))[1]
    assert steps == [
        "left the member list",
        "another member owns the queue, which is empty there",
        "0 of 0 backups in place",
    ]


async def test_a_member_that_does_not_answer_has_not_agreed() -> None:
    silent = snapshot(figures(B, items=10, seen=2), owner=B, up=GONE)
    done, steps = await told(silent, SAFE)
    assert done
    assert steps[:2] == ["left the member list", "backup promoted to owner"]


async def test_copies_are_read_when_every_server_that_is_up_tells() -> None:
    busy, silent = snapshot(figures(C, backups=10), up=GONE), snapshot(up=GONE)
    found = await copies_now(Replay(PLAIN, silent, busy, SAFE))
    assert found.members == {B: (10, 0), C: (0, 10)}


async def test_copies_of_a_server_that_tells_nothing_stay_unknown() -> None:
    busy = snapshot(figures(C, backups=10), up=GONE)
    assert (await copies_now(Replay(PLAIN, busy), seconds=0.1)).members == {C: (0, 10)}


@pytest.mark.parametrize(
    ("view", "is_safe"),
    [
        (HEALTHY, True),
        (SAFE, True),
        (COPIED, False),
        (NOT_NOTICED, False),
        (snapshot(figures(A), figures(B)), False),
        (snapshot(), False),
    ],
)
def test_settled_means_that_all_who_are_up_answer_and_agree(view: Snapshot, *, is_safe: bool) -> None:
    assert view.settled is is_safe


async def test_waiting_for_safety_ends_when_it_is_there() -> None:
    assert await until_settled(Replay(PLAIN, ORPHANED, COPIED, SAFE), 5.0)
    assert not await until_settled(Replay(PLAIN, ORPHANED, COPIED), 0.1)


def test_copies_say_who_has_what() -> None:
    copies = Copies.of(HEALTHY)
    assert (copies.items, copies.backups, set(copies.owners)) == (10, 20, {A})
    assert str(copies) == f"★ {A} owns 10, backs up 0; {B} owns 0, backs up 10; {C} owns 0, backs up 10"
    assert str(Copies.of(snapshot())) == "no server of the queue reports its items"
