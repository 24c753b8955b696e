"""The checker's properties: any valid history passes, and of one in which one thing is broken it names that thing."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.histories import at, begin, sent, shown, whole
from support.random_histories import BREAKERS, NotHereError, Run, broken, runs, steady

from microq.chaos.checker import CHECKS, judge
from microq.chaos.evidence import Evidence
from microq.chaos.history import Entry, read
from microq.chaos.verdict import Ruling, Verdict
from microq.errors import UsageError

BOUNDED = settings(max_examples=40, derandomize=True)

RARE = settings(BOUNDED, max_examples=15, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])


def found_by(verdict: Verdict) -> set[str]:
    return {check.name for check in CHECKS if getattr(verdict, check.name)}


@BOUNDED
@given(run=runs())
def test_a_valid_history_passes(run: Run) -> None:
    found = judge(run.entries())
    assert (found.verdict, found.reasons) == (Ruling.PASS, ())
    assert found_by(found) == set()
    assert found.attempted == len(run.messages) == found.acknowledged + found.rejected + found.indeterminate
    assert found.foreign == tuple(run.foreign)
    assert set(found.redelivered) == set(run.redelivered)


@pytest.mark.parametrize("name", BREAKERS)
@RARE
@given(run=runs(), seed=st.integers(0, 1000))
def test_the_checker_names_what_is_broken(name: str, run: Run, seed: int) -> None:
    breaker = BREAKERS[name]
    try:
        worse = broken(run, breaker, Random(seed))
    except NotHereError:
        assume(False)  # noqa: FBT003 - as hypothesis says it
    found = judge(worse.entries())
    assert found.verdict is breaker.ruling, found.reasons
    assert found_by(found) == breaker.lists, found.reasons
    assert breaker.reason in "; ".join(found.reasons)
    assert judge(run.entries()).verdict is Ruling.PASS


@BOUNDED
@given(run=runs())
def test_the_file_says_the_same(tmp_path_factory: pytest.TempPathFactory, run: Run) -> None:
    entries = run.entries()
    assert steady(entries)
    path = tmp_path_factory.getbasetemp() / "valid.jsonl"
    path.write_text("".join(map(line, entries)), encoding="utf-8")
    assert judge(read(path)) == judge(entries)


@BOUNDED
@given(run=runs())
def test_a_reading_may_be_told_by_what_differs(run: Run) -> None:
    told = [replace(run, differences=differences).entries() for differences in (False, True)]
    plain, short = map(judge, told)
    assert replace(plain, duration_s=0) == replace(short, duration_s=0)
    assert len(told[1]) <= len(told[0])


@RARE
@given(run=runs(), seed=st.integers(0, 1000))
def test_order_is_judged_within_a_partition_only(run: Run, seed: int) -> None:
    """The same two messages change places: in one partition it is an alarm, between two it is none."""
    run.partitions, run.begin = dict.fromkeys(run.shown(), 0), {**run.begin, "partitioned": True}
    assume(judge(run.entries()).verdict is Ruling.PASS)
    before = [list(ids) for ids in run.shows[-1].values()]
    try:
        worse = broken(run, BREAKERS["two_messages_of_one_sender_change_places"], Random(seed))
    except NotHereError:
        assume(False)  # noqa: FBT003 - as hypothesis says it
    assert judge(worse.entries()).disordered
    after = [list(ids) for ids in worse.shows[-1].values()]
    moved = {a for one, other in zip(before, after, strict=True) for a, b in zip(one, other, strict=True) if a != b}
    worse.partitions |= {i: number for number, i in enumerate(sorted(moved), 1)}
    assert judge(worse.entries()).disordered == ()
    # And without its partition nothing can be said of a message, which is told.
    worse.partitions = {}
    found = judge(worse.entries())
    assert found.disordered == ()
    assert any("the order of messages was not checked" in cue for cue in found.cues)


def test_of_what_is_shown_twice_the_last_one_goes() -> None:
    """As readings are written: it matters for what stands after it."""
    doubled = [
        *sent("a"),
        *sent("b"),
        *(at(4, "shown", instance="messages-1", id=i, at=1002.0 + n, reading=1) for n, i in enumerate("aba")),
        at(5, "read", instance="messages-1", role="messages", reading=2, like=1, gone=["a"]),
    ]
    last = Evidence(whole(begin(format=2), doubled)).last
    assert [(entry.facts["id"], entry.facts["at"]) for entry in last.shown()] == [("a", 1002.0), ("b", 1003.0)]


@pytest.mark.parametrize(
    ("like", "gone", "says"), [(7, [], "like number 7"), (1, ["nowhere"], "lacks 'nowhere'"), (0, ["m0"], "lacks 'm0'")]
)
def test_a_reading_that_is_like_none_is_refused(like: int, gone: list[str], says: str) -> None:
    odd = at(6, "read", instance="messages-1", role="messages", reading=2, like=like, gone=gone)
    entries = whole(begin(format=2), sent("a"), shown("a"), odd)
    with pytest.raises(UsageError, match=says):
        judge(entries)


@BOUNDED
@given(run=runs(), share=st.floats(0, 1))
def test_what_is_cut_short_proves_nothing(tmp_path_factory: pytest.TempPathFactory, run: Run, share: float) -> None:
    """Wherever it is cut, be it within a line: no verdict but unknown."""
    text = "".join(map(line, run.entries()))
    first = text.index("\n") + 1
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    path.write_text(text[: first + int(share * (len(text) - 2 - first))], encoding="utf-8")
    found = judge(read(path))
    assert (found.verdict, found.reasons) == (
        Ruling.UNKNOWN,
        ("the history ends before its end, so it proves nothing",),
    )


def line(entry: Entry) -> str:
    return json.dumps({"kind": entry.kind, "wall": entry.wall, "mono": entry.mono, **entry.facts}) + "\n"
