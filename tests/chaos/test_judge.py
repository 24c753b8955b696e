"""The judge against histories of a few lines: what it must let pass, and what it must not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from histories import at, begin, copies, drained, fault, logged, sent, shown
from hypothesis import given
from hypothesis import strategies as st

from microq.chaos.history import Entry, History, Kind, read, record
from microq.chaos.judge import judge
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
    return judge([entry for part in parts for entry in (part if isinstance(part, list) else [part])])


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


def test_an_acknowledged_message_that_is_not_in_the_log_is_unlogged() -> None:
    found = verdict(begin(), A_B, TAIL, logged("b"), shown("a", "b"))
    assert (found.verdict, found.unlogged, found.logged) == (Ruling.FAIL, ("a",), 1)


@pytest.mark.parametrize("has", [("a",), ()])
def test_every_logging_service_must_show_all(has: tuple[str, ...]) -> None:
    found = verdict(begin(), A_B, TAIL, logged("a", "b"), logged(*has, instance="logging-2"), shown("a", "b"))
    assert found.verdict is Ruling.FAIL
    assert found.unlogged == tuple(sorted({"a", "b"} - set(has)))


def test_a_message_that_nobody_sent_is_unexpected() -> None:
    found = verdict(begin(), A_B, TAIL, logged("a", "b"), shown("a", "b", "planted"))
    assert (found.verdict, found.unexpected) == (Ruling.FAIL, ("planted",))


def test_a_message_that_was_rejected_must_be_nowhere() -> None:
    found = verdict(begin(), A_B, sent("c", Outcome.REJECTED), TAIL, logged("a", "b"), shown("a", "b", "c"))
    assert (found.verdict, found.unexpected, found.rejected) == (Ruling.FAIL, ("c",), 1)


@pytest.mark.parametrize("again", ["messages-1", "messages-2"])
def test_a_message_that_is_shown_twice_is_duplicated(again: str) -> None:
    found = verdict(begin(), A_B, TAIL, logged("a", "b"), shown("a", "b"), shown("b", instance=again))
    assert (found.verdict, found.duplicated, found.stored) == (Ruling.FAIL, ("b",), 2)


def test_what_a_consumer_shows_the_facade_must_show() -> None:
    def facade_showed(*messages: str, met: bool) -> Verdict:
        combined = at(4, "combined", logs=["a", "b"], messages=list(messages), met=met)
        return verdict(begin(), A_B, TAIL, logged("a", "b"), shown("a", "b"), combined)

    assert facade_showed("a", "b", met=True).verdict is Ruling.PASS
    assert facade_showed("a", met=False).verdict is Ruling.PASS
    hiding = facade_showed("a", met=True)
    assert (hiding.verdict, hiding.reasons) == (Ruling.FAIL, ("1 hidden by the facade",))


def test_the_ids_are_told_in_the_order_of_sending() -> None:
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
        ([A_B, fault(struck=False), drained(), ALL_THERE], "the fault was not seen to happen on hazelcast-1"),
        (
            [A_B, fault(), fault(struck=False, target="hazelcast-2"), drained(), ALL_THERE],
            "the fault was not seen to happen on hazelcast-2",
        ),
        ([A_B, TAIL, ALL_THERE, at(4, "absent", instance="messages-2")], "messages-2 could not be read"),
    ],
)
def test_what_cannot_be_known_is_no_pass(parts: list[list[Entry] | Entry], reason: str) -> None:
    found = verdict(begin(), *parts)
    assert (found.verdict, found.reasons) == (Ruling.UNKNOWN, (reason,))


def test_a_loss_in_a_run_that_proves_nothing_is_still_told() -> None:
    found = verdict(begin(), A_B, fault(struck=False), drained(), logged("a", "b"), shown("a"))
    assert found.verdict is Ruling.UNKNOWN
    assert found.lost == ("b",)
    assert "1 lost" in found.reasons


def test_an_uncertain_message_that_arrived_is_recovered() -> None:
    found = verdict(
        begin(), A_B, sent("c", Outcome.INDETERMINATE), sent("d", None), TAIL, logged("a", "b"), shown("a", "b", "c")
    )
    assert found.verdict is Ruling.PASS
    assert (found.indeterminate, found.recovered, found.stored) == (2, ("c",), 3)


def test_a_send_that_was_cut_short_is_indeterminate() -> None:
    found = verdict(begin(), A_B, sent("c", None), TAIL, ALL_THERE)
    assert (found.verdict, found.attempted, found.acknowledged, found.indeterminate) == (Ruling.PASS, 3, 2, 1)


def test_what_was_there_before_is_left_out() -> None:
    old = at(0.5, "earlier", ids=["x", "y"])
    found = verdict(begin(), old, A_B, TAIL, logged("a", "b", "x"), shown("a", "b", "x", "y"), shown("y"))
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


def test_the_first_acknowledgement_is_of_a_message_sent_after_the_fault() -> None:
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
    found = verdict(begin(), A_B, twice, TAIL, logged("a", "b"), shown("a", "b", "c"))
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
    twice = verdict(begin(), A_B, TAIL, ALL_THERE, shown("a", instance="messages-2"), doubt)
    assert (twice.verdict, twice.reasons) == (Ruling.FAIL, ("it took too long", "1 duplicated"))
    missing = verdict(begin(), A_B, TAIL, logged("a", "b"), shown("a"), doubt)
    assert missing.verdict is Ruling.UNKNOWN, "it may still come"


def listed(kind: Kind, *ids: str) -> Entry:
    return at(5, kind, ids=list(ids))


def test_what_redelivery_brings_back_fails_the_proof_of_the_queue() -> None:
    found = verdict(begin(form="quiet"), A_B, TAIL, ALL_THERE, listed("redelivered", "b", "somebody else's"))
    assert (found.verdict, found.redelivered, found.lost) == (Ruling.FAIL, ("b",), ())
    assert found.reasons == ("1 lost by the queue; redelivery brought them back",)


def test_under_traffic_redelivery_is_counted_apart() -> None:
    found = verdict(begin(form="live"), A_B, TAIL, ALL_THERE, listed("redelivered", "a", "b"))
    assert (found.verdict, found.redelivered, found.quiet) == (Ruling.PASS, ("a", "b"), False)
    assert found.cues == ("redelivery brought back 2 messages that the queue had lost",)
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
        ([BEGIN, "{"], 2, "no event"),
        ([BEGIN, "", line("end")], 2, "no event"),
        (["[]"], 1, "no event"),
        (["null"], 1, "no event"),
        (["[" * 100_000], 1, "no event"),
        (['{"kind": "end"}'], 1, "no event"),
        (['{"kind": "end", "wall": "now", "mono": 1}'], 1, "no event"),
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
        history.note("end")
    with pytest.raises(FileExistsError), record(path):
        pass
    assert [entry.kind for entry in read(path)] == ["end"]


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
        for message in messages:
            history.note("shown", instance=instance, id=message, at=1.0)
    history.note("end")


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
    assert len(found.lost) <= found.acknowledged >= len(found.unlogged)
    assert not set(found.lost) & {*first, *second}
    assert not set(found.unlogged) & set(in_log)
    if found.acknowledged:
        clean = not (found.lost or found.unlogged or found.unexpected or found.duplicated)
        assert found.verdict is (Ruling.PASS if clean else Ruling.FAIL)
    else:
        # Where nothing was acknowledged nothing is proved, but what should not be there is there.
        assert found.verdict is (Ruling.FAIL if found.unexpected or found.duplicated else Ruling.UNKNOWN)


@given(run=RUNS)
def test_time_changes_no_ruling(tmp_path_factory: pytest.TempPathFactory, run: Run) -> None:
    entries = recorded(tmp_path_factory.getbasetemp() / "some-history.jsonl", run)
    later = [replace(entry, wall=entry.wall + 60, mono=entry.mono * 2) for entry in entries]
    assert judge(later).verdict is judge(entries).verdict
