"""The steps of the assignment: each holds if what was seen is what the task asks for, and rings if not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.histories import at, begin, copies, drained, fault, logged, sent, shown, whole
from support.snapshots import SYSTEM, TOPIC, process

from microq.chaos import assignment
from microq.chaos.assignment import MESSAGES, Answer, Assignment, Logged, Number, Sets, Step
from microq.chaos.checker import judge
from microq.chaos.evidence import Evidence
from microq.chaos.history import Entry
from microq.chaos.verdict import Ruling
from microq.fleet import ProcessState, Snapshot
from microq.message import text_hash

PASS, FAIL, UNKNOWN = Ruling.PASS, Ruling.FAIL, Ruling.UNKNOWN
TEXTS = ("msg1", "msg2", "msg10")


def running(view: Snapshot = SYSTEM, *without: str) -> Snapshot:
    wanted = ["logging-5003", "logging-5004", "logging-5005", "messages-5001", "messages-5002", "facade-5000"]
    services = [process(name) for name in wanted if name not in without]
    servers = [each for each in view.processes if each.name.partition("-")[0] in {"hazelcast", "kafka"}]
    return replace(view, processes=(*servers, *services))


def log(name: str, *texts: str, problem: str = "") -> Logged:
    return assignment.mentions(name, "\n".join(f'INFO received "{text}"' for text in texts), TEXTS, problem)


# -- the first messages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "ruling", "said"),
    [
        (running(), PASS, "3 logging-services, 2 messages-services, 1 facade, 2 members ready"),
        (running(TOPIC), PASS, "3 brokers ready"),
        (running(SYSTEM, "messages-5002"), FAIL, "1 messages-service, 1 facade"),
        (running(SYSTEM, "facade-5000"), FAIL, "0 facades"),
        (running(replace(TOPIC, processes=TOPIC.processes[:-1])), FAIL, "2 brokers ready"),
    ],
)
def test_start_holds_only_with_every_process(view: Snapshot, ruling: Ruling, said: str) -> None:
    step = assignment.start(view)
    assert (step.ruling, said in step.came) == (ruling, True), step.came


def test_send_holds_only_if_every_message_is_acknowledged() -> None:
    fine = [Answer(text, "acknowledged") for text in TEXTS]
    assert assignment.send(fine).ruling is PASS
    step = assignment.send([*fine, Answer("msg3", "rejected", "503 full")])
    assert (step.ruling, step.expected) == (FAIL, "4 acknowledgements")
    assert step.came == "3 acknowledgements; msg3 rejected: 503 full"


def test_text_is_found_as_a_whole_word() -> None:
    found = assignment.mentions("a", 'got "msg10"\nmsg100 xmsg1\nput msg1, then msg2', TEXTS)
    assert found.lines == {
        "msg10": ['got "msg10"'],
        "msg1": ["put msg1, then msg2"],
        "msg2": ["put msg1, then msg2"],
    }


@pytest.mark.parametrize(
    ("logs", "ruling", "said"),
    [
        ([log("a", "msg1", "msg10"), log("b", "msg2")], PASS, "a got msg1, msg10; b got msg2"),
        ([log("a", *TEXTS), log("b")], PASS, "b got nothing"),
        ([log("a", "msg1"), log("b", "msg2")], FAIL, "no log of a messages-service has msg10"),
        ([log("a", *TEXTS), log("b", "msg2")], FAIL, "more than one has msg2"),
        ([log("a", "msg1"), log("b", "msg2", problem="is too long")], UNKNOWN, "the log of b is too long"),
        ([log("a", *TEXTS), log("b", problem="is too long")], PASS, "b got nothing"),
    ],
)
def test_each_message_is_in_one_log_of_a_consumer(logs: Sequence[Logged], ruling: Ruling, said: str) -> None:
    step = assignment.received(logs, TEXTS)
    assert (step.ruling, said in step.came) == (ruling, True), step.came


def test_message_may_be_logged_by_two_logging_services() -> None:
    step = assignment.logged([log("a", *TEXTS), log("b", "msg2")], TEXTS)
    assert (step.ruling, step.notes) == (PASS, ("more than one has msg2",))
    assert assignment.logged([log("a", "msg1")], TEXTS).ruling is FAIL


@pytest.mark.parametrize("judged", [assignment.logged, assignment.received])
def test_without_an_accepted_message_nothing_is_known(judged: object) -> None:
    assert callable(judged)
    assert judged([log("a")], ()).ruling is UNKNOWN


A, B = ("msg1", "msg10"), ("msg2",)


@pytest.mark.parametrize(
    ("gets", "ruling", "said"),
    [
        ([Sets(TEXTS, A), Sets(TEXTS, B)], PASS, "2 GETs with 2 different sets of messages"),
        ([Sets(TEXTS, A), Sets(TEXTS, A)], FAIL, "no GET shows msg2 of a messages-service"),
        ([Sets(TEXTS, A), Sets(A, B)], PASS, "2 GETs"),
        ([Sets(TEXTS, A), Sets(TEXTS, (*B, *B))], FAIL, "GET 2 shows msg2 more than once"),
        ([Sets(A, A), Sets(A, B)], FAIL, "no GET shows msg2 of the log"),
        ([Sets(TEXTS, A), Sets(TEXTS, TEXTS)], FAIL, "GET 2 shows msg1, msg2, msg10, which no messages-service has"),
    ],
)
def test_gets_show_the_log_and_each_consumer(gets: Sequence[Sets], ruling: Ruling, said: str) -> None:
    step = assignment.read(gets, TEXTS, [log("a", *A), log("b", *B)])
    assert (step.ruling, said in step.came) == (ruling, True), step.came


def test_get_with_a_part_of_the_log_is_noted() -> None:
    step = assignment.read([Sets(TEXTS, A), Sets(A, B)], TEXTS, [log("a", *A), log("b", *B)])
    assert step.notes == ("GET 2 has only a part of the log: the logging-services do not share one",)


# -- the check ---------------------------------------------------------------------------------------------------------

IDS = [f"id{number}" for number in range(1, MESSAGES + 1)]
BEFORE = copies("before", m1=(0, MESSAGES), m2=(MESSAGES, 0))


def a_check(
    *,
    before: Entry = BEFORE,
    hits: Sequence[Entry] = tuple(fault(target="hazelcast-5701", owner=False)),
    shows: Sequence[str] = IDS,
    loses: int = 0,
) -> list[Step]:
    """Judge a check whose consumers show these ids, and whose log says the same."""
    sends = [replace(one, facts={**one.facts, **_hash(one)}) for message in IDS[loses:] for one in sent(message)]
    history = whole(
        begin(form="quiet", messages=MESSAGES, consumers=["messages-1"], loggers=["logging-1"]),
        sends,
        before,
        [*hits, at(2.2, "step", what="left the member list", since=0.2)],
        drained(),
        logged(*IDS),
        shown(*shows),
    )
    log_of_it = assignment.mentions("messages-1", "got msg7", {"msg7"})
    return assignment.check(Evidence(history), judge(history), "lowest", "hazelcast-5701", [log_of_it])


def _hash(one: Entry) -> dict[str, str]:
    return {"hash": text_hash(one.facts["id"].replace("id", "msg"))} if one.kind == "send" else {}


def test_check_holds_if_all_come_from_the_copies() -> None:
    fill, kill, drain = a_check()
    assert [step.ruling for step in (fill, kill, drain)] == [PASS] * 3
    assert fill.came == "100 acknowledgements; 100 in the queue with 100 copies on other members"
    assert "hazelcast-5701 (pid 1) was killed with SIGKILL; it held only backups" in kill.came
    assert ("+0.20 s", "left the member list") in kill.evidence[0].rows
    assert drain.came == "messages-1 received 100; 0 lost, 0 duplicated"
    assert drain.evidence[0].rows == (("got msg7",),)


def test_lost_message_is_named_by_its_text() -> None:
    drain = a_check(shows=[*IDS[:41], *IDS[42:]])[2]
    assert drain.ruling is FAIL
    assert "99; 1 lost" in drain.came
    assert "lost: msg42 (acknowledged, and shown by no messages-service)" in drain.came


@pytest.mark.parametrize(
    ("before", "ruling", "said"),
    [
        (copies("before", m1=(MESSAGES, 0), m2=(0, 0)), FAIL, "not every message has a second copy"),
        (copies("before"), UNKNOWN, "no server reports its items"),
        (copies("before", m1=(0, 0), m2=(0, 0)), UNKNOWN, "the servers report no message"),
    ],
)
def test_queue_without_copies_is_found(before: Entry, ruling: Ruling, said: str) -> None:
    fill = a_check(before=before)[0]
    assert (fill.ruling, said in fill.came) == (ruling, True), fill.came


def test_fewer_messages_than_asked_for_are_found() -> None:
    fill = a_check(loses=2)[0]
    assert (fill.ruling, "2 messages were not acknowledged" in fill.came) == (FAIL, True), fill.came


@pytest.mark.parametrize(
    ("hits", "ruling", "said"),
    [
        (fault(target="hazelcast-5702", owner=False), FAIL, "it is not the member with the lowest address"),
        (fault(target="hazelcast-5701", struck=False), UNKNOWN, "its end was not observed"),
        ([], FAIL, "nothing was killed"),
    ],
)
def test_kill_that_is_not_that_of_the_task_is_found(hits: Sequence[Entry], ruling: Ruling, said: str) -> None:
    kill = a_check(hits=hits)[1]
    assert (kill.ruling, said in kill.came) == (ruling, True), kill.came


def test_leader_of_a_topic_must_be_hit() -> None:
    history = whole(begin(queue="kafka"), sent("a"), fault(target="kafka-9091", owner=False), drained(), shown("a"))
    kill = assignment.check(Evidence(history), judge(history), "leader", "kafka-9091", [])[1]
    assert (kill.ruling, kill.expected) == (FAIL, "a leader of the queue's partitions ends, and the others go on")


@pytest.mark.parametrize(("state", "ruling"), [(ProcessState.STOPPED, PASS), (ProcessState.READY, FAIL)])
def test_consumers_must_be_off(state: ProcessState, ruling: Ruling) -> None:
    view = replace(SYSTEM, processes=(process("messages-5001", state),))
    assert assignment.off(view).ruling is ruling


# -- all steps ---------------------------------------------------------------------------------------------------------


def test_what_could_not_be_seen_is_unknown() -> None:
    assert assignment.failed(Number.READ, "[wire] read-logs: nothing", unseen=True).ruling is UNKNOWN


def test_steps_after_an_end_are_unknown_and_say_why() -> None:
    ended = assignment.failed(Number.START, "messages-5001 ended with status 1:\n  no module x\n`microq logs` has all")
    assert ended.came == "messages-5001 ended with status 1: no module x"
    assert ended.evidence[0].rows == (("no module x",), ("`microq logs` has all",))
    steps = assignment.untried(ended)
    assert [step.number for step in steps] == list(Number)[1:]
    assert {step.ruling for step in steps} == {UNKNOWN}
    assert {step.came for step in steps} == {"not tried, because step 1 does not hold"}


def test_verdict_is_that_of_the_worst_step() -> None:
    def verdict(*rulings: Ruling) -> Ruling:
        steps = tuple(Step(Number.SEND, ruling, "", "") for ruling in rulings)
        return Assignment("", "hazelcast", 0.0, steps).verdict

    assert verdict(PASS, PASS) is PASS
    assert verdict(PASS, UNKNOWN) is UNKNOWN
    assert verdict(UNKNOWN, FAIL, PASS) is FAIL
