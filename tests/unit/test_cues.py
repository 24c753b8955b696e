"""What a picture of a system must not keep quiet about."""

from __future__ import annotations

import dataclasses

from sights import QUEUE, SYSTEM, TOPIC, figures, process

from microq.cues import cues
from microq.fleet import ProcessState, Role, Snapshot

FINE = dataclasses.replace(
    SYSTEM,
    processes=(process("hazelcast-5702"), process("hazelcast-5703"), process("facade-5000")),
)
"""A system of which there is nothing to say."""


def only(view: Snapshot) -> str:
    (cue,) = cues(view, {})
    return cue


def test_of_a_sound_system_nothing_is_said() -> None:
    assert cues(FINE, {}) == []
    assert cues(dataclasses.replace(FINE, queue=dataclasses.replace(QUEUE, dead=0)), {}) == []


def test_what_the_queue_lacks_is_said() -> None:
    def queue(**changes: object) -> Snapshot:
        return dataclasses.replace(FINE, queue=dataclasses.replace(QUEUE, **changes))  # type: ignore[arg-type]

    assert only(queue(backup_count=0)) == "backup-count is 0: what a killed server owned is lost"
    assert only(queue(size=None)) == "the queue does not answer: how full it is, is unknown"
    assert only(queue(owner=None)) == "who owns the queue is unknown"
    assert only(queue(dead=1)) == "1 dead letter waits: `microq dead list` shows why"
    assert only(queue(dead=1200)) == "1,200 dead letters wait: `microq dead list` shows why"
    assert only(dataclasses.replace(FINE, queue=None)).startswith("the facade does not answer")


def test_a_server_that_is_gone_has_the_age_of_its_last_figures() -> None:
    last = {"hazelcast-5701": dataclasses.replace(figures("hazelcast-5701", items=34, backups=66), taken_at=97.0)}
    assert cues(SYSTEM, last) == [
        "2 of 3 servers of the queue are up: 1 of 2 backups",
        "hazelcast-5701 has ended: n/a; 3 s ago it had 34 items and 66 backups",
    ]
    assert len(cues(SYSTEM, {})) == 1


def test_a_server_that_is_up_and_silent_is_said_to_be() -> None:
    silent = dataclasses.replace(FINE, members=FINE.members[:1])
    assert "hazelcast-5703 does not answer: its figures are n/a" in cues(silent, {})
    assert "cluster not safe: not every server that is up sees all the others" in cues(silent, {})
    paused = dataclasses.replace(silent, processes=(process("hazelcast-5702"), process("hazelcast-5703")))
    paused = dataclasses.replace(
        paused,
        processes=(paused.processes[0], dataclasses.replace(paused.processes[1], state=ProcessState.PAUSED)),
        members=(dataclasses.replace(figures("hazelcast-5702"), members_seen=1),),
    )
    last = {"hazelcast-5703": dataclasses.replace(figures("hazelcast-5703"), taken_at=90.0)}
    assert cues(paused, last) == ["hazelcast-5703 is paused: n/a; 10 s ago it had 0 items and 0 backups"]
    assert "no server of the queue answers" in cues(dataclasses.replace(FINE, members=()), {})


def test_a_messages_service_that_takes_no_more_is_named() -> None:
    def view(*full: int) -> Snapshot:
        consumers = [
            dataclasses.replace(process(f"messages-{port}"), held=1_000_000, full=port in full) for port in (5001, 5002)
        ]
        return dataclasses.replace(FINE, processes=(*FINE.processes, *consumers))

    assert cues(view(), {}) == []
    (cue,) = cues(view(5002), {})
    said = "messages-5002 is full with 1,000,000 messages and receives none; "
    assert cue == said + "a larger [limits] max-held is for the next `up`"
    both = cues(view(5001, 5002), {})
    assert both[0].startswith("every messages-service is full: what comes stays in the queue")
    assert len(both) == 3
    off = dataclasses.replace(process("messages-5002"), state=ProcessState.STOPPED)
    alone = dataclasses.replace(process("messages-5001"), held=1, full=True)
    found = cues(dataclasses.replace(FINE, processes=(*FINE.processes, off, alone)), {})
    assert found[0].startswith("every messages-service is full")


def test_figures_of_long_ago_are_called_old() -> None:
    old = tuple(dataclasses.replace(each, taken_at=95.0) for each in FINE.members)
    assert cues(dataclasses.replace(FINE, members=old), {}) == [
        "the figures of hazelcast-5702 are 5 s old",
        "the figures of hazelcast-5703 are 5 s old",
    ]


def test_a_cluster_that_makes_copies_is_not_safe() -> None:
    making = dataclasses.replace(FINE, members=(FINE.members[0], figures("hazelcast-5703", seen=2, safe=False)))
    assert only(making) == "cluster not safe: copies are being made"


def test_partitions_without_leader_or_copies_are_named() -> None:
    found = cues(TOPIC, {})
    assert "nobody leads partition 2: what is in there waits" in found
    assert "partition 1 has fewer copies in sync than its replicas" in found
    assert "kafka-9093 does not answer: its figures are n/a" in found


def test_of_servers_elsewhere_nothing_can_be_said() -> None:
    services = tuple(p for p in FINE.processes if p.role is not Role.HAZELCAST)
    elsewhere = dataclasses.replace(FINE, managed=False, members=(), processes=services)
    assert cues(elsewhere, {}) == []
