"""Whether every copy is in place: one answer, and the same in every view."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from support.snapshots import FINE, QUEUE, TOPIC, WHOLE, figures, maps_only, process

from microq.caveats import caveats, of_configuration, safety
from microq.config import load
from microq.dashboard.state import Memory
from microq.figures import BrokerFigures, PartitionView
from microq.fleet import ProcessState, Role, Snapshot
from microq.metrics import of_system
from microq.terminal import screen, status
from microq.terminal.screen import Sight


def down(count: int) -> Snapshot:
    """Three members, of which the first ones are down; the rest has settled."""
    left = 3 - count
    processes = tuple(
        replace(each, state=ProcessState.EXITED) if place < count else each for place, each in enumerate(FINE.processes)
    )
    return replace(
        FINE, processes=processes, members=tuple(replace(m, members_seen=left) for m in FINE.members[count:])
    )


def alone() -> Snapshot:
    return replace(FINE, processes=FINE.processes[2:], members=(replace(FINE.members[2], members_seen=1),))


def counted(copies: int | None, **changes: object) -> Snapshot:
    return replace(FINE, members=tuple(replace(m, copies=copies, **changes) for m in FINE.members))  # type: ignore[arg-type]


BROKERS = tuple(
    BrokerFigures(n, 99.4, 0, 0, cluster_safe=True, members_seen=3, leads=(), follows=(), copies=2, backup_count=2)
    for n in WHOLE
)
LED = replace(
    TOPIC,
    processes=(*maps_only(FINE.processes), *map(process, WHOLE)),
    members=FINE.members,
    brokers=BROKERS,
    partitions=(PartitionView(0, WHOLE[0], WHOLE, 3, 0),),
)
EXITED = tuple(process(name, ProcessState.EXITED) for name in WHOLE)
THREE = replace(FINE, backup_count=3, queue=replace(QUEUE, backup_count=3))

FEWER = [
    (down(1), "1 of 2 backups: one member is down"),
    (down(2), "0 of 2 backups: two members are down"),
    (alone(), "0 of 2 backups: one member can hold no more"),
    (THREE, "2 of 3 backups: three members can hold no more"),
    (counted(0), "0 of 2 backups: counted on the servers"),
    (counted(1), "1 of 2 backups: counted on the servers"),
    (
        counted(None, backup_count=0, differs=("backup-count of messages-queue 0, not 2",)),
        "0 of 2 backups: the servers run with that number",
    ),
    (counted(None, backup_count=None), "the number of copies is unknown"),
    (replace(FINE, backup_count=0), "backup-count is 0: what a killed server owned is lost"),
    (replace(FINE, members=()), "no server of the queue answers"),
    (
        replace(LED, processes=(*maps_only(FINE.processes), *EXITED), brokers=(), partitions=()),
        "no server of the queue answers",
    ),
    (replace(LED, processes=tuple(map(process, WHOLE)), members=()), "the number of copies is unknown"),
    (replace(LED, brokers=tuple(replace(b, backup_count=1, copies=1) for b in BROKERS)), "1 of 2 backups: "),
    (
        replace(LED, members=alone().members, processes=(*maps_only(alone().processes), *map(process, WHOLE))),
        "0 of 2 backups: ",
    ),
]


def pictures(view: Snapshot) -> list[str]:
    """What a terminal shows of a system in each of its views."""
    sight = Sight(view)
    shown = [status.status(view), status.queue(view), screen.screen(sight, 160, 40), screen.screen(sight, 80, 24)]
    texts = []
    for each in shown:
        console = Console(file=io.StringIO(), width=160)
        console.print(each)
        texts.append(console.file.getvalue())  # type: ignore[attr-defined]
    return texts


def metric(view: Snapshot, name: str) -> str | None:
    lines = of_system(view)[0].decode().splitlines()
    return next((line.split()[1] for line in lines if line.startswith(f"{name} ")), None)


@pytest.mark.parametrize(("view", "sentence"), FEWER)
def test_fewer_copies_than_configured_are_nowhere_called_safe(view: Snapshot, sentence: str) -> None:
    safe, said = safety(view)
    assert not safe
    assert said.startswith(sentence)
    assert any(caveat.startswith(sentence) for caveat in caveats(view, {}))
    for picture in pictures(view):
        assert "✓" not in picture
        assert "every copy is in place" not in picture
    for picture in pictures(view)[:2]:
        assert sentence in picture
    assert metric(view, "microq_cluster_safe") in {"0.0", None}
    assert view.to_json()["safe"] in {False, None}
    frame = Memory().complete(view)
    assert (frame["safe"] or False, frame["safety"]) == (False, said)


@pytest.mark.parametrize("view", [FINE, LED, counted(2), replace(FINE, backup_count=1, members=counted(1).members)])
def test_every_copy_in_place_is_said_everywhere(view: Snapshot) -> None:
    assert safety(view) == (True, "cluster safe: every copy is in place")
    status, _, wide, narrow = pictures(view)
    assert "cluster safe: every copy is in place" in status
    assert "✓ cluster safe" in wide
    assert "✓ cluster safe" in narrow
    assert (metric(view, "microq_cluster_safe"), metric(view, "microq_copies")) == ("1.0", f"{view.wanted}.0")
    assert Snapshot.from_json(view.to_json()) == view
    assert Memory().complete(view)["safe"] is True


@pytest.mark.parametrize("view", [FINE, LED])
def test_records_of_older_runs_name_the_backend_of_a_server(view: Snapshot) -> None:
    body = view.to_json()
    older = {Role.QUEUE: view.backend, Role.MAPS: FINE.backend}
    body["processes"] = [{**each, "role": older.get(each["role"], each["role"])} for each in body["processes"]]
    assert Snapshot.from_json(body) == view


def test_what_is_unknown_has_no_figure() -> None:
    unknown = counted(None, backup_count=None)
    assert (unknown.safe, unknown.copies) == (None, None)
    assert metric(unknown, "microq_cluster_safe") is None
    assert metric(unknown, "microq_copies") is None
    assert "n/a of 2 backups" in pictures(unknown)[0]


def test_as_safe_as_the_servers_allow_is_another_thing() -> None:
    assert (down(2).settled, down(2).safe) == (True, False)
    assert not replace(FINE, members=(*FINE.members[:2], figures("hazelcast-5703", safe=False))).settled


def test_differences_of_a_server_are_shown() -> None:
    member = replace(FINE.members[0], differs=("heap 64m, not 256m",))
    view = replace(FINE, members=(member, *FINE.members[1:]))
    assert "hazelcast-5701 runs with heap 64m, not 256m as configured" in caveats(view, {})
    topic = replace(LED, brokers=tuple(replace(b, differs=("min.insync.replicas 1, not 2",)) for b in BROKERS))
    assert caveats(topic, {}) == ["messages-queue has min.insync.replicas 1, not 2 as configured"]


def test_copies_that_the_servers_cannot_hold_are_said_beforehand() -> None:
    assert of_configuration(load(environ={})) == []
    (line,) = of_configuration(load(environ={}, sets=["queue.backup-count=3"]))
    assert line == (
        "[queue] backup-count = 3 needs 4 servers, and [hazelcast] hazelcast-clients lists 3: "
        "there will be 2 of 3 backups"
    )
    kafka = load(environ={}, sets=["queue.backend=kafka", "brokers=2", "members=1"])
    assert [line.split(" lists ")[1][0] for line in of_configuration(kafka)] == ["1", "2"]
    assert of_configuration(load(environ={}, sets=["queue.backup-count=3", "hazelcast.managed=false"])) == []
    assert "[kafka] kafka-brokers" in of_configuration(kafka)[1]
