"""What a picture of a system must not keep quiet about."""

from __future__ import annotations

import dataclasses

from support.snapshots import FINE, QUEUE, SYSTEM, TOPIC, figures, process

from microq.caveats import caveats
from microq.fleet import ProcessState, Role, Snapshot


def only(view: Snapshot) -> str:
    (caveat,) = caveats(view, {})
    return caveat


def test_of_a_sound_system_nothing_is_said() -> None:
    assert caveats(FINE, {}) == []
    assert caveats(dataclasses.replace(FINE, queue=dataclasses.replace(QUEUE, dead=0)), {}) == []


def test_a_topic_that_is_gone_is_said() -> None:
    gone = dataclasses.replace(TOPIC, partitions=())
    assert [
        caveat
        for caveat in caveats(gone, {})
        if "know no topic messages-queue" in caveat and "`microq restart facade`" in caveat
    ]
    assert not [caveat for caveat in caveats(TOPIC, {}) if "topic" in caveat]


def test_what_the_queue_lacks_is_said() -> None:
    def queue(**changes: object) -> Snapshot:
        return dataclasses.replace(FINE, queue=dataclasses.replace(QUEUE, **changes))  # type: ignore[arg-type]

    assert only(queue(backup_count=0)) == "backup-count is 0: what a killed server owned is lost"
    assert only(queue(size=None)) == "the queue does not answer: its size is unknown"
    assert only(queue(owner=None)) == "the owner of the queue is unknown"
    hidden = {"messages-5001": 1484}
    said = "messages-5001 is silent: about 1,484 messages that it stored are hidden"
    assert only(queue(hidden=hidden)) == said
    later = "; after 30 s of silence the others take over as many as they have room for"
    assert only(queue(hidden=hidden, take_over_after=30)) == said + later
    assert only(queue(dead=1)) == "1 dead letter waits: `microq dead list` shows why"
    assert only(queue(dead=1200)) == "1,200 dead letters wait: `microq dead list` shows why"
    assert only(dataclasses.replace(FINE, queue=None, backup_count=2)).startswith("the facade does not answer")


def test_a_server_that_is_gone_has_the_age_of_its_last_figures() -> None:
    last = {"hazelcast-5701": dataclasses.replace(figures("hazelcast-5701", items=34, backups=66), taken_at=97.0)}
    assert caveats(SYSTEM, last) == [
        "1 of 2 backups: one member is down",
        "hazelcast-5701 has ended: n/a; 3 s ago it had 34 items and 66 backups",
    ]
    assert len(caveats(SYSTEM, {})) == 1


def test_a_server_that_ran_out_of_memory_is_said_to_have() -> None:
    ended = dataclasses.replace(process("hazelcast-5702"), state=ProcessState.EXITED, exit_status=3)
    assert ended.out_of_memory
    view = dataclasses.replace(FINE, processes=(ended, *FINE.processes[2:]), members=FINE.members[2:])
    assert "hazelcast-5702 ran out of memory and has ended: its figures are n/a" in caveats(view, {})
    assert not dataclasses.replace(ended, role=Role.MESSAGES).out_of_memory


def test_a_server_that_is_up_and_silent_is_said_to_be() -> None:
    silent = dataclasses.replace(FINE, members=FINE.members[:2])
    assert "hazelcast-5703 does not answer: its figures are n/a" in caveats(silent, {})
    assert "the safety of the cluster is unknown: a server that is up does not answer" in caveats(silent, {})
    apart = dataclasses.replace(FINE, members=(*FINE.members[:2], dataclasses.replace(FINE.members[2], members_seen=1)))
    assert "cluster not safe: a server that is up does not see all the others" in caveats(apart, {})
    paused = dataclasses.replace(silent, processes=(process("hazelcast-5702"), process("hazelcast-5703")))
    paused = dataclasses.replace(
        paused,
        processes=(paused.processes[0], dataclasses.replace(paused.processes[1], state=ProcessState.PAUSED)),
        members=(dataclasses.replace(figures("hazelcast-5702"), members_seen=1),),
    )
    last = {"hazelcast-5703": dataclasses.replace(figures("hazelcast-5703"), taken_at=90.0)}
    assert caveats(paused, last) == [
        "0 of 2 backups: one member is not ready",
        "hazelcast-5703 is paused: n/a; 10 s ago it had 0 items and 0 backups",
    ]
    assert "no server of the queue answers" in caveats(dataclasses.replace(FINE, members=()), {})


def test_who_may_show_fewer_messages_than_there_are_is_named() -> None:
    merging = [dataclasses.replace(process(name), merging=True) for name in ("logging-5003", "messages-5001")]
    assert only(dataclasses.replace(FINE, processes=(*FINE.processes, *merging))) == (
        "members joined, perhaps to merge: logging-5003, messages-5001 may show only some of the messages"
    )


def test_a_messages_service_that_takes_no_more_is_named() -> None:
    def view(*full: int) -> Snapshot:
        consumers = [
            dataclasses.replace(process(f"messages-{port}"), held=1_000_000, full=port in full) for port in (5001, 5002)
        ]
        return dataclasses.replace(FINE, processes=(*FINE.processes, *consumers))

    assert caveats(view(), {}) == []
    (caveat,) = caveats(view(5002), {})
    said = "messages-5002 is full with 1,000,000 messages and receives no more; "
    assert caveat == said.replace("more; ", "more: ") + "its log names the bound that it has reached"
    both = caveats(view(5001, 5002), {})
    assert both[0].startswith("every messages-service is full: new messages stay in the queue")
    assert len(both) == 3
    off = dataclasses.replace(process("messages-5002"), state=ProcessState.STOPPED)
    alone = dataclasses.replace(process("messages-5001"), held=1, full=True)
    found = caveats(dataclasses.replace(FINE, processes=(*FINE.processes, off, alone)), {})
    assert found[0].startswith("every messages-service is full")


def test_a_facade_that_has_no_room_is_named() -> None:
    full = dataclasses.replace(process("facade-5000"), full=True)
    others = tuple(each for each in FINE.processes if each.name != full.name)
    said = only(dataclasses.replace(FINE, processes=(*others, full)))
    assert said.startswith("facade-5000 refuses messages: ")


def test_a_service_that_is_up_and_says_nothing_is_named() -> None:
    services = [dataclasses.replace(process(f"{role}-5009"), silent=True) for role in ("messages", "logging")]
    found = caveats(dataclasses.replace(FINE, processes=(*FINE.processes, *services)), {})
    assert found == [f"{each.name} is up and does not answer: its figures are n/a" for each in services]


def test_figures_of_long_ago_are_called_old() -> None:
    old = tuple(dataclasses.replace(each, taken_at=95.0) for each in FINE.members)
    assert caveats(dataclasses.replace(FINE, members=old), {}) == [
        "the figures of hazelcast-5701 are 5 s old",
        "the figures of hazelcast-5702 are 5 s old",
        "the figures of hazelcast-5703 are 5 s old",
    ]


def test_a_cluster_that_makes_copies_is_not_safe() -> None:
    making = dataclasses.replace(FINE, members=(*FINE.members[:2], figures("hazelcast-5703", safe=False)))
    assert only(making) == "cluster not safe: copies are being made"


def test_partitions_without_leader_or_copies_are_named() -> None:
    found = caveats(TOPIC, {})
    assert "partition 2 has no leader: the messages there wait" in found
    assert "partition 1 has fewer copies in sync than its replicas" in found
    assert "kafka-9093 does not answer: its figures are n/a" in found


def test_of_servers_elsewhere_nothing_can_be_said() -> None:
    services = tuple(p for p in FINE.processes if p.role is not Role.QUEUE)
    elsewhere = dataclasses.replace(FINE, managed=False, members=(), processes=services)
    assert caveats(elsewhere, {}) == []


def test_lines_that_a_service_could_not_write_are_said() -> None:
    for lost, said in ((1, "1 line of its log"), (1200, "1,200 lines of its log")):
        facade = dataclasses.replace(process("facade-5000"), counters={"log_lines_lost": lost})
        view = dataclasses.replace(FINE, processes=(*FINE.processes[:-1], facade))
        assert only(view) == f"facade-5000 could not write {said}: is the disk full?"
