"""The judge against histories of a few lines: what it must let pass, and what it must not."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.histories import at, begin, copies, drained, fault, logged, sent, shown, whole

from microq.chaos.checker import CHECKS, judge
from microq.chaos.history import Entry, History, Kind, read, record
from microq.chaos.verdict import Layer, Ruling, Verdict
from microq.errors import UsageError
from microq.message import Outcome

NAMES = {
    "scenario", "queue", "verdict", "attempted", "acknowledged", "rejected", "indeterminate", "stored", "logged",
    "lost", "unlogged", "unexpected", "duplicated", "recovered", "by_consumer", "by_logger", "copies_before",
    "copies_after", "faults", "longest_gap_s", "duration_s", "history",
}  # fmt: skip
"""What the task asks `--json` to print."""


def verdict(*parts: Entry | list[Entry]) -> Verdict:
    """Judge an older history, whose cue about what was not checked is left out."""
    found = judge(whole(*parts))
    return replace(found, cues=tuple(cue for cue in found.cues if not cue.startswith("not checked")))


A_B = [*sent("a"), *sent("b")]
TAIL = [*fault(), drained()]


def test_everything_arrived_once() -> None:
    found = verdict(begin(), A_B, TAIL, logged("a", "b"), shown("a"), shown("b", instance="messages-2"))
    assert (found.verdict, found.reasons, found.cues) == (Ruling.PASS, (), ())
    assert (found.attempted, found.acknowledged, found.stored, found.logged) == (2, 2, 2, 2)
    assert found.by_consumer == {"messages-1": 1, "messages-2": 1}
    assert found.by_logger == {"logging-1": 2}


def test_an_acknowledged_message_that_no_consumer_shows_is_lost() -> None:
    found = verdict(begin(), A_B, TAIL, logged("a", "b"), shown("b"))
    assert (found.verdict, found.lost, found.reasons) == (Ruling.FAIL, ("a",), ("1 lost",))


def test_acknowledged_message_missing_in_log_is_unlogged() -> None:
    found = verdict(begin(), A_B, TAIL, logged("b"), shown("a", "b"))
    assert (found.verdict, found.unlogged, found.logged) == (Ruling.FAIL, ("a",), 1)


@pytest.mark.parametrize("has", [("a",), ()])
def test_every_logging_service_must_show_all(has: tuple[str, ...]) -> None:
    found = verdict(begin(), A_B, TAIL, logged("a", "b"), logged(*has, instance="logging-2"), shown("a", "b"))
    assert found.verdict is Ruling.FAIL
    assert found.unlogged == tuple(sorted({"a", "b"} - set(has)))


def test_message_without_sender_is_unexpected() -> None:
    found = verdict(begin(), A_B, TAIL, logged("a", "b"), shown("a", "b", "planted"))
    assert (found.verdict, found.unexpected) == (Ruling.FAIL, ("planted",))


def test_a_message_that_was_rejected_must_be_nowhere() -> None:
    found = verdict(begin(), A_B, sent("c", Outcome.REJECTED), TAIL, logged("a", "b"), shown("a", "b", "c"))
    assert (found.verdict, found.unexpected, found.rejected) == (Ruling.FAIL, ("c",), 1)


def test_a_message_that_is_shown_twice_is_duplicated() -> None:
    found = verdict(begin(), A_B, TAIL, logged("a", "b"), shown("a", "b"), shown("b"))
    assert (found.verdict, found.duplicated, found.stored) == (Ruling.FAIL, ("b",), 2)


def test_message_may_move_between_two_reads() -> None:
    found = verdict(begin(), A_B, TAIL, logged("a", "b"), shown("a", "b"), shown("b", instance="messages-2"))
    assert (found.verdict, found.duplicated) == (Ruling.UNKNOWN, ("b",))
    assert found.reasons[0].startswith("the services were read only once")


def test_what_a_consumer_shows_the_facade_must_show() -> None:
    def facade_showed(*messages: str, met: bool) -> Verdict:
        combined = at(4, "combined", logs=["a", "b"], messages=list(messages), met=met)
        return verdict(begin(), A_B, TAIL, logged("a", "b"), shown("a", "b"), combined)

    assert facade_showed("a", "b", met=True).verdict is Ruling.PASS
    assert facade_showed("a", met=False).verdict is Ruling.PASS
    hiding = facade_showed("a", met=True)
    assert (hiding.verdict, hiding.reasons) == (Ruling.FAIL, ("1 hidden by the facade",))


def test_ids_are_in_the_order_of_sending() -> None:
    found = verdict(begin(), sent("z"), sent("m"), sent("a"), TAIL, logged(), shown("y", "x"))
    assert found.lost == ("z", "m", "a")
    assert found.unexpected == ("x", "y")
    assert found.reasons == ("3 lost", "3 unlogged", "2 unexpected")


ALL_THERE = [*logged("a", "b"), *shown("a", "b")]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([TAIL, logged(), shown()], "nothing was acknowledged"),
        ([sent("a", Outcome.REJECTED), TAIL, logged(), shown()], "nothing was acknowledged"),
        ([A_B, fault(), drained("it took too long"), ALL_THERE], "the drain was cut short (it took too long)"),
        ([A_B, fault(), ALL_THERE], "the drain was cut short (it did not begin)"),
        ([A_B, drained(), ALL_THERE], "no fault was injected"),
        ([A_B, fault(struck=False), drained(), ALL_THERE], "the effect of the fault was not observed on hazelcast-1"),
        (
            [A_B, fault(), fault(struck=False, target="hazelcast-2"), drained(), ALL_THERE],
            "the effect of the fault was not observed on hazelcast-2",
        ),
        ([A_B, TAIL, ALL_THERE, at(4, "absent", instance="messages-2")], "messages-2 could not be read"),
    ],
)
def test_what_cannot_be_known_is_no_pass(parts: list[list[Entry] | Entry], reason: str) -> None:
    found = verdict(begin(), *parts)
    assert (found.verdict, found.reasons) == (Ruling.UNKNOWN, (reason,))


def test_loss_in_an_unknown_run_is_reported() -> None:
    found = verdict(begin(), A_B, fault(struck=False), drained(), logged("a", "b"), shown("a"))
    assert found.verdict is Ruling.UNKNOWN
    assert found.lost == ("b",)
    assert "1 lost" in found.reasons


def test_indeterminate_message_that_arrived_is_recovered() -> None:
    found = verdict(
        begin(),
        A_B,
        sent("c", Outcome.INDETERMINATE),
        sent("d", None),
        TAIL,
        logged("a", "b", "c"),
        shown("a", "b", "c"),
    )
    assert found.verdict is Ruling.PASS
    assert (found.indeterminate, found.recovered, found.stored) == (2, ("c",), 3)


def test_a_send_that_was_cut_short_is_indeterminate() -> None:
    found = verdict(begin(), A_B, sent("c", None), TAIL, ALL_THERE)
    assert (found.verdict, found.attempted, found.acknowledged, found.indeterminate) == (Ruling.PASS, 3, 2, 1)


def test_what_was_there_before_is_left_out() -> None:
    old = at(0.5, "earlier", ids=["x", "y"])
    found = verdict(begin(), old, A_B, TAIL, logged("a", "b", "x", "y"), shown("a", "b", "x", "y"), shown("y"))
    assert (found.verdict, found.stored, found.logged) == (Ruling.PASS, 2, 2)
    assert found.by_consumer == {"messages-1": 2}


def test_copies_are_those_of_the_last_look() -> None:
    found = verdict(begin(), A_B, copies("before", m1=(1, 0)), copies("before", m1=(2, 0), m2=(0, 2)), TAIL, ALL_THERE)
    assert (found.copies_before, found.copies_after) == ({"m1": [2, 0], "m2": [0, 2]}, {})


@pytest.mark.parametrize(
    ("parts", "cue"),
    [
        ([begin(), A_B, fault(owner=False)], "was not the queue's primary owner"),
        ([begin(), A_B, fault(owner=False), fault(owner=False, target="m2")], "was not the queue's primary owner"),
        ([begin(), A_B, copies("before", m1=(0, 0), m2=(0, 0)), fault()], "the queue was empty at the kill"),
        ([begin(backup_count=0), A_B, fault()], "backup-count is 0"),
    ],
)
def test_a_cue_says_what_a_pass_does_not_prove(parts: list[list[Entry] | Entry], cue: str) -> None:
    found = verdict(*parts, drained(), ALL_THERE)
    assert found.verdict is Ruling.PASS
    assert len(found.cues) == 1
    assert cue in found.cues[0]


def test_one_owner_among_those_that_were_hit_is_enough() -> None:
    found = verdict(
        begin(), A_B, copies("before", m1=(2, 0)), fault(owner=False), fault(target="m2"), drained(), ALL_THERE
    )
    assert found.cues == ()
    assert [(hit.target, hit.owner, hit.seen) for hit in found.faults] == [
        ("hazelcast-1", False, True),
        ("m2", True, True),
    ]


def test_first_acknowledgement_is_of_send_after_the_fault() -> None:
    under_way = [at(1.9, "send", id="c"), *fault(2), at(2.1, "outcome", id="c", outcome="acknowledged")]
    late = [*sent("d", Outcome.REJECTED, 2.2), *sent("e", second=2.4, took=0.35)]
    everything = [*logged("a", "b", "c", "e"), *shown("a", "b", "c", "e")]
    found = verdict(begin(), A_B, under_way, late, drained(), everything)
    assert found.first_acknowledgement_s == 0.75
    assert verdict(begin(), A_B, TAIL, ALL_THERE).first_acknowledgement_s is None
    assert verdict(begin(), A_B, drained(), ALL_THERE).first_acknowledgement_s is None


def test_the_first_delivery_is_the_first_storing_after_the_fault() -> None:
    found = verdict(begin(), A_B, TAIL, logged("a", "b"), shown("a", second=1.7), shown("b", second=2.6))
    assert found.first_delivery_s == 0.6
    assert verdict(begin(), A_B, TAIL, logged("a", "b"), shown("a", "b", second=1)).first_delivery_s is None


def test_the_longest_gap_is_time_in_which_somebody_waited() -> None:
    quick = sent("a", second=1, took=0.1)  # idle from 1.1 to 5: nobody waited
    slow = [
        at(5, "send", id="b"),
        at(5.2, "send", id="c"),
        at(5.3, "outcome", id="b", outcome="rejected"),  # a rejection does not end the gap
        at(6.5, "outcome", id="c", outcome="acknowledged"),
    ]
    assert verdict(begin(), quick, slow).longest_gap_s == 1.5
    assert verdict(begin(), quick).longest_gap_s == 0.1
    assert verdict(begin()).longest_gap_s is None


def test_json_has_every_name_of_the_task() -> None:
    found = verdict(begin(), A_B, copies("before", m1=(2, 0)), TAIL, ALL_THERE).to_json("history.jsonl")
    assert set(found) >= NAMES
    plain = json.loads(json.dumps(found))
    assert plain["verdict"] == "pass"
    assert plain["history"] == "history.jsonl"
    assert plain["copies_before"] == {"m1": [2, 0]}
    assert plain["faults"] == [{"fault": "kill-member", "target": "hazelcast-1", "owner": True, "seen": True}]


# -- many sends under one id, many strikes, several layers ------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcomes", "counted"),
    [
        ([Outcome.REJECTED, Outcome.ACKNOWLEDGED], "acknowledged"),
        ([Outcome.INDETERMINATE, Outcome.ACKNOWLEDGED], "acknowledged"),
        ([Outcome.ACKNOWLEDGED, Outcome.INDETERMINATE], "acknowledged"),
        ([Outcome.ACKNOWLEDGED, None], "acknowledged"),
        ([Outcome.INDETERMINATE, Outcome.REJECTED], "indeterminate"),
        ([Outcome.REJECTED, Outcome.INDETERMINATE], "indeterminate"),
        ([Outcome.REJECTED, None], "indeterminate"),
        ([Outcome.REJECTED, Outcome.REJECTED], "rejected"),
    ],
)
def test_an_id_has_one_outcome_however_often_it_was_sent(outcomes: list[Outcome | None], counted: str) -> None:
    sends = [entry for outcome in outcomes for entry in sent("c", outcome)]
    found = verdict(begin(), A_B, sends, TAIL, ALL_THERE)
    assert found.attempted == 3
    counts = {"acknowledged": 2, "indeterminate": 0, "rejected": 0}
    counts[counted] += 1
    assert {name: getattr(found, name) for name in counts} == counts
    assert found.lost == (("c",) if counted == "acknowledged" else ())


def test_a_message_that_may_be_in_is_never_unexpected() -> None:
    twice = [*sent("c", Outcome.INDETERMINATE), *sent("c", Outcome.REJECTED)]
    found = verdict(begin(), A_B, twice, TAIL, logged("a", "b", "c"), shown("a", "b", "c"))
    assert (found.verdict, found.unexpected, found.recovered) == (Ruling.PASS, (), ("c",))


def test_each_strike_must_be_seen() -> None:
    found = verdict(begin(), A_B, fault(), fault(struck=False), drained(), ALL_THERE)
    assert (found.verdict, [hit.seen for hit in found.faults]) == (Ruling.UNKNOWN, [True, False])
    first_missed = verdict(begin(), A_B, fault(struck=False), fault(), drained(), ALL_THERE)
    assert (first_missed.verdict, [hit.seen for hit in first_missed.faults]) == (Ruling.UNKNOWN, [False, True])
    assert verdict(begin(), A_B, fault(), fault(), drained(), ALL_THERE).verdict is Ruling.PASS


def test_a_doubt_is_no_pass() -> None:
    found = verdict(begin(), A_B, TAIL, ALL_THERE, at(4, "doubt", reason="it took too long"))
    assert (found.verdict, found.reasons) == (Ruling.UNKNOWN, ("it took too long",))


def test_a_doubt_hides_nothing_that_should_not_be_there() -> None:
    doubt = at(4, "doubt", reason="it took too long")
    twice = verdict(begin(), A_B, TAIL, ALL_THERE, shown("a"), doubt)
    assert (twice.verdict, twice.reasons) == (Ruling.FAIL, ("it took too long", "1 duplicated"))
    missing = verdict(begin(), A_B, TAIL, logged("a", "b"), shown("a"), doubt)
    assert missing.verdict is Ruling.UNKNOWN, "it may still come"


def listed(kind: Kind, *ids: str) -> Entry:
    return at(5, kind, ids=list(ids))


def test_redelivery_fails_the_proof_of_the_queue() -> None:
    found = verdict(begin(form="quiet"), A_B, TAIL, ALL_THERE, listed("redelivered", "b", "somebody else's"))
    assert (found.verdict, found.redelivered, found.lost) == (Ruling.FAIL, ("b",), ())
    assert found.reasons == ("1 lost by the queue; redelivery brought them back",)


def test_under_traffic_redelivery_is_counted_apart() -> None:
    found = verdict(begin(form="live"), A_B, TAIL, ALL_THERE, listed("redelivered", "a", "b"))
    assert (found.verdict, found.redelivered, found.quiet) == (Ruling.PASS, ("a", "b"), False)
    assert found.cues == ("redelivery brought back 2 messages: they had left the queue, and were stored nowhere",)
    assert verdict(begin(form="live"), A_B, TAIL, ALL_THERE, listed("redelivered")).cues == ()


def test_a_dead_letter_of_an_acknowledged_message_is_a_loss() -> None:
    found = verdict(begin(), A_B, TAIL, logged("a", "b"), shown("a"), listed("dead", "b", "poison"))
    assert (found.verdict, found.lost, found.dead) == (Ruling.FAIL, ("b",), ("b", "poison"))
    assert found.layers == {"b": Layer.DEAD}


def took(*ids: str, lines: int = 1) -> Entry:
    return at(5, "took", instance="messages-1", ids=list(ids), lines=lines)


def state(state: str) -> Entry:
    return at(5, "state", id="b", state=state)


@pytest.mark.parametrize(
    ("evidence", "layer"),
    [
        ([], Layer.UNKNOWN),
        ([state("unknown")], Layer.UNKNOWN),
        ([state("pending")], Layer.PENDING),
        ([state("pending"), took(lines=0)], Layer.PENDING),
        ([state("pending"), took()], Layer.QUEUE),
        ([took()], Layer.QUEUE),
        ([took("b"), state("pending")], Layer.CONSUMER),
        ([state("stored")], Layer.CONSUMER),
        ([took("b"), state("dead")], Layer.DEAD),
    ],
)
def test_the_layer_that_had_a_lost_message_last(evidence: list[Entry], layer: Layer) -> None:
    found = verdict(begin(), A_B, TAIL, logged("a", "b"), shown("a"), evidence)
    assert (found.lost, found.layers) == (("b",), {"b": layer})


@pytest.mark.parametrize(
    ("logs", "layer"),
    [
        ([*logged("a"), *logged("a", "b", instance="logging-2")], Layer.LOG),
        (logged("a"), Layer.CONSUMER),
    ],
)
def test_the_layer_that_has_an_unlogged_message(logs: list[Entry], layer: Layer) -> None:
    found = verdict(begin(), A_B, TAIL, logs, shown("a", "b"))
    assert (found.unlogged, found.layers) == (("b",), {"b": layer})


# -- histories in files -----------------------------------------------------------------------------------------------


def line(kind: str, **facts: Any) -> str:
    return json.dumps({"kind": kind, "wall": 1.0, "mono": 1.0, **facts})


BEGIN = line("begin", scenario="kill-member", queue="hazelcast", backup_count=2)


@pytest.mark.parametrize(
    ("lines", "number", "says"),
    [
        ([BEGIN, "{"], 2, "not an event of a history: it is not JSON"),
        ([BEGIN, "", line("end")], 2, "not an event"),
        (["[]"], 1, "not an event of a history: it is not a JSON object but []"),
        (["null"], 1, "not an event"),
        (["[" * 100_000], 1, "not an event"),
        (["{}"], 1, "not an event of a history: 'kind' is missing"),
        (['{"kind": "end"}'], 1, "not an event of a history: 'wall' is missing"),
        (['{"kind": "end", "wall": 1}'], 1, "not an event of a history: 'mono' is missing"),
        (['{"kind": "end", "wall": "now", "mono": 1}'], 1, "not an event"),
        ([BEGIN, line("explosion")], 2, "'explosion'"),
        ([BEGIN, '{"kind": ["end"], "wall": 1, "mono": 1}'], 2, "no event is called"),
        ([BEGIN, line("send")], 2, "'id' of the event 'send' is missing"),
        ([BEGIN, line("end"), line("send", id=["a"])], 3, "cannot be ['a']"),
        ([BEGIN, line("outcome", id="a", outcome="fine")], 2, "cannot be 'fine'"),
        ([BEGIN, line("copies", when="before", members={"m1": [1]})], 2, "cannot be"),
        ([BEGIN, line("earlier", ids=[1])], 2, "cannot be"),
        ([BEGIN, line("doubt")], 2, "'reason'"),
        ([BEGIN, line("took", instance="m", ids=["a"])], 2, "'lines'"),
        ([BEGIN, line("redelivered", ids="a")], 2, "cannot be"),
        ([BEGIN, line("shown", instance="m", id="a", at=True)], 2, "'at'"),
        ([line("begin", scenario="kill-member", queue="hazelcast")], 1, "'backup_count'"),
        ([line("begin", scenario="s", queue="q", backup_count=1, format="2")], 1, "'format'"),
        ([line("begin", scenario="s", queue="q", backup_count=1, bounds={"speed": 1})], 1, "'bounds'"),
        ([line("begin", scenario="s", queue="q", backup_count=1, bounds={"p99": "1"})], 1, "'bounds'"),
        ([BEGIN, line("earlier", ids=[], shown={"m": "a"})], 2, "'shown'"),
        ([BEGIN, line("send", id="a", attempt=0)], 2, "'attempt'"),
        ([BEGIN, line("read", instance="m", role="messages", reading=1.5)], 2, "'reading'"),
        ([BEGIN, line("agreed", readings=[1], agreed=True)], 2, "'readings'"),
        ([BEGIN, line("claims", stored={"a": 1})], 2, "'stored'"),
        ([BEGIN, line("foreign")], 2, "'ids'"),
        ([BEGIN, line("dead", ids=[], known="no")], 2, "'known'"),
        ([BEGIN, line("shown", instance="m", id="a", at=math.nan)], 2, "'at'"),
        ([BEGIN, line("took", instance="m", ids=[], lines=10**400)], 2, "'lines'"),
    ],
)
def test_a_broken_history_is_refused_with_its_line(tmp_path: Path, lines: list[str], number: int, says: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read(path)
    assert f"{path}, line {number}: " in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def timed(*mono: float) -> list[str]:
    """A send at each of these times, behind the beginning at time 1."""
    return [BEGIN, *(json.dumps({"kind": "send", "wall": 1.0, "mono": at, "id": f"m{at}"}) for at in mono)]


OUTCOME = line("outcome", id="a", outcome="acknowledged")


@pytest.mark.parametrize(
    ("lines", "number", "says"),
    [
        ([line("send", id="a"), BEGIN], 1, "must begin with the event 'begin', not with 'send'"),
        ([BEGIN, BEGIN], 2, "'begin' occurs for the second time"),
        ([BEGIN, line("earlier", ids=[]), line("earlier", ids=[])], 3, "'earlier' occurs for the second time"),
        ([BEGIN, line("end"), line("end")], 3, "follows the end"),
        ([BEGIN, line("end"), line("send", id="a")], 3, "'send' follows the end"),
        (timed(1.0, 3.0, 2.0), 4, "its time 2 is before that of the line above, 3"),
        (timed(-1.0), 2, "'mono' is not a time in seconds but -1"),
        (timed(math.nan), 2, "'mono' is not a time in seconds but nan"),
        (timed(math.inf), 2, "'mono' is not a time in seconds but inf"),
        (timed(10**400), 2, "'mono' is not a time in seconds but 1000"),
        (['{"kind": "end", "wall": -1, "mono": 1}'], 1, "'wall' is not a time in seconds but -1"),
        (['{"kind": "end", "wall": true, "mono": 1}'], 1, "'wall' is not a time in seconds but True"),
        ([BEGIN, OUTCOME], 2, "an outcome of 'a', which has no unfinished send"),
        ([BEGIN, line("send", id="a"), OUTCOME, OUTCOME], 4, "which has no unfinished send"),
        (
            [BEGIN, line("send", id="a", attempt=1), line("outcome", id="a", outcome="rejected", attempt=2)],
            3,
            "no unfinished send",
        ),
        ([BEGIN, line("send", id="a", attempt=1), line("send", id="a", attempt=1)], 3, "begins for the second time"),
        (
            [BEGIN, *[line("read", instance="m\x1b[2J", role="messages", reading=2)] * 2],
            3,
            r"'m\x1b[2J' is read for the second time",
        ),
    ],
)
def test_events_that_cannot_follow_each_other_are_refused(
    tmp_path: Path, lines: list[str], number: int, says: str
) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read(path)
    assert f"{path}, line {number}: " in str(caught.value)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_half_a_line_at_the_end_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(f"{BEGIN}\n{line('send', id='a')}\n{OUTCOME[:-5]}", encoding="utf-8")
    assert [entry.kind for entry in read(path)] == ["begin", "send"]
    path.write_text(BEGIN[:-5], encoding="utf-8")
    with pytest.raises(UsageError, match="line 1: not an event"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_file_that_is_no_history_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"empty|line 1|cannot be read"):
        read(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "nowhere.jsonl")


def test_a_history_without_its_beginning_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(line("send", id="a") + "\n" + line("end") + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="'begin'"):
        judge(read(path))
    with pytest.raises(UsageError, match="'begin'"):
        judge([])


def test_events_made_in_memory_that_lack_a_fact_are_refused() -> None:
    with pytest.raises(UsageError, match="lacks a fact"):
        judge([begin(), at(1, "send")])
    with pytest.raises(UsageError, match="lacks a fact"):
        judge([begin(), at(1, "outcome", id="a", outcome="fine")])


def test_a_history_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with record(path) as history:
        history.note("begin", scenario="kill-member", queue="hazelcast", backup_count=1)
    with pytest.raises(FileExistsError), record(path):
        pass
    assert [entry.kind for entry in read(path)] == ["begin"]


class FullDisk(io.BytesIO):
    """A file on a disk that has room for so many bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data: Any) -> int:
        taken = bytes(data)[: self.room]
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(taken)
        return super().write(taken)


def note_two_sends(history: History) -> None:
    history.note("begin", scenario="kill-member", queue="hazelcast", backup_count=1)
    for message in ("a", "b"):
        history.note("send", id=message)
        history.note("outcome", id=message, outcome="acknowledged")


@pytest.mark.parametrize("room", range(0, 500, 7))
def test_history_on_full_disk_is_a_prefix_and_unknown(room: int) -> None:
    disk = FullDisk(room)
    history = History(disk)
    note_two_sends(history)
    history.end()
    whole_run = b"".join(
        json.dumps({"kind": e.kind, "wall": e.wall, "mono": e.mono, **e.facts}).encode() + b"\n"
        for e in history.entries
    )
    assert whole_run.startswith(disk.getvalue())
    found = judge(history.entries)
    full = "the history could not be written completely (No space left on device)"
    assert (full in found.reasons) is (len(disk.getvalue()) < len(whole_run))


def test_a_history_is_whole_when_the_disk_has_room_again() -> None:
    disk = FullDisk(100)
    history = History(disk)
    note_two_sends(history)
    disk.room = 1 << 20
    history.end()
    lines = [json.loads(line)["kind"] for line in disk.getvalue().splitlines()]
    assert lines == [entry.kind for entry in history.entries] == ["begin", *["send", "outcome"] * 2, "end"]


IDS = st.text(min_size=1, max_size=4) | st.sampled_from(["\u2028", "a\nb", "\x85", "\ud800", "\U0001f600"])
Run = tuple[dict[str, Outcome | None], list[str], list[str], list[str]]
RUNS = st.dictionaries(IDS, st.sampled_from([*Outcome, None]), max_size=8).flatmap(
    lambda sends: st.tuples(
        st.just(sends),
        *(st.lists(st.sampled_from([*sends, "planted"]) if sends else st.just("planted"), max_size=6) for _ in "123"),
    )
)


def note_run(history: History, run: Run) -> None:
    sends, in_log, first, second = run
    history.note("begin", scenario="kill-member", queue="hazelcast", backup_count=1)
    for message, outcome in sends.items():
        history.note("send", id=message)
        if outcome:
            history.note("outcome", id=message, outcome=outcome.value)
    history.note("copies", when="before", members={"m1": (len(sends), 0), "m2": (0, len(sends))}, owner="m1")
    history.note("fault", fault="kill-member", target="m1", pid=1, owner=True)
    history.note("struck", target="m1")
    history.note("drained", complete=True, reason="")
    history.note("read", instance="logging-1", role="logging")
    for message in in_log:
        history.note("logged", instance="logging-1", id=message, by="logging-1")
    for instance, messages in (("messages-1", first), ("messages-2", second)):
        history.note("read", instance=instance, role="messages")
        for message in messages:
            history.note("shown", instance=instance, id=message, at=time.time())
    history.end()


def recorded(path: Path, run: Run) -> Sequence[Entry]:
    path.unlink(missing_ok=True)
    with record(path) as history:
        note_run(history, run)
    return history.entries


@given(run=RUNS)
def test_the_counts_add_up_and_the_file_says_the_same(tmp_path_factory: pytest.TempPathFactory, run: Run) -> None:
    path = tmp_path_factory.getbasetemp() / "any-history.jsonl"
    entries = recorded(path, run)
    found = judge(entries)
    sends, in_log, first, second = run
    # Read back, the times are those that were written.
    assert judge(read(path)) == found
    assert found.attempted == len(sends) == found.acknowledged + found.rejected + found.indeterminate
    assert found.stored == len({*first, *second}) >= len(found.recovered) + found.acknowledged - len(found.lost)
    assert sum(found.by_consumer.values()) == len(first) + len(second)
    assert len(found.lost) <= found.acknowledged
    assert not set(found.lost) & {*first, *second}
    assert not set(found.unlogged) & set(in_log)
    broken = {check.name for check in CHECKS if getattr(found, check.name)}
    assert (found.verdict is Ruling.PASS) == (not found.reasons)
    assert found.verdict is not Ruling.PASS or (not broken and found.acknowledged)
    # Where little is proved, what should not be there is there all the same.
    assert found.verdict is Ruling.FAIL or not found.unexpected


def a_minute_later(entry: Entry) -> dict[str, Any]:
    return {name: fact + 60 if name == "at" else fact for name, fact in entry.facts.items()}


@given(run=RUNS)
def test_time_changes_no_ruling(tmp_path_factory: pytest.TempPathFactory, run: Run) -> None:
    entries = recorded(tmp_path_factory.getbasetemp() / "some-history.jsonl", run)
    later = [
        replace(entry, wall=entry.wall + 60, mono=entry.mono * 2, facts=a_minute_later(entry)) for entry in entries
    ]
    assert judge(later).verdict is judge(entries).verdict
