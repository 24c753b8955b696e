"""The report of a run: what it says of small histories, and that what a history brings along stays text."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from support.histories import at, begin, copies, drained, fault, logged, sent, shown, whole
from support.html import Reader

from microq.chaos.history import Entry
from microq.errors import UsageError
from microq.message import Outcome
from microq.report import charts
from microq.report.course import course
from microq.report.run import command, render

HOSTILE = "</script><img src=x onerror=alert(1)><!--"


def page(*parts: Entry | list[Entry], config: str = "") -> Reader:
    return Reader(render(whole(*parts), "runs/1/history.jsonl", config_toml=config))


A_B = [*sent("a"), *sent("b")]
STEPS = [at(2.1, "step", what="m1 killed", since=0.1), at(2.4, "step", what="backup promoted to owner", since=0.4)]
PASSED: Sequence[Entry | list[Entry]] = (
    begin(seed=7, messages=2, form="quiet", microq="0.1.0", python="3.11.7", system="Linux"),
    A_B,
    copies("before", m1=(2, 0), m2=(0, 2), m3=(0, 2)),
    fault(target="hazelcast-1"),
    STEPS,
    copies("after", m2=(2, 0), m3=(0, 2)),
    drained(),
    logged("a", "b"),
    shown("a", "b"),
)


def test_pass_is_reported_in_words() -> None:
    words = page(*PASSED).words
    for said in (
        "PASS No acknowledged message was lost: all 2 were received, each exactly once.",
        "m1 owned 2 messages; m2 and m3 backed up 2 messages each",
        "hazelcast-1, the queue's primary owner (process 1). Its effect was observed.",
        "m1 killed (+0.10 s); backup promoted to owner (+0.40 s)",
        "when hazelcast-1 was gone, the backup on m2 became the queue",
        "messages-1 received 2 of the 2 messages",
        "microq chaos kill-member --queue hazelcast --quiet --messages 2 --seed 7",
        "microq verify runs/1/history.jsonl",
        "None: every acknowledged message is with a messages-service and in the log.",
        "Linux",
    ):
        assert said in words


def test_a_loss_is_told_with_every_id_and_the_layer_that_had_it() -> None:
    lost = [f"gone-{number}" for number in range(40)]
    took = at(5, "took", instance="messages-1", ids=["gone-0"], lines=3)
    all_sent = [entry for message in ("a", *lost) for entry in sent(message)]
    found = page(begin(), all_sent, fault(), drained(), logged("a", *lost), shown("a"), took)
    assert "FAIL The check failed: 40 lost." in found.words
    assert "Of the missing messages 39 were last seen in the queue" in found.words
    assert "Of the missing messages 1 was last seen in a consumer" in found.words
    assert all(f"{message} lost" in found.words for message in lost)
    assert "gone-0 lost consumer" in found.words
    assert "gone-1 lost queue" in found.words
    assert {trace["name"] for trace in found.figures["timeline"]["data"]} >= {"lost", "the fault hits"}


def test_whatever_else_was_found_is_listed_with_its_meaning() -> None:
    waits = sent("c", Outcome.INDETERMINATE)
    found = page(begin(), A_B, waits, fault(), drained(), logged("a", "b", "c", "odd"), shown("a", "b"), shown("b"))
    assert "2 unexpected" not in found.words
    assert "odd unexpected shown or logged, but never sent, or refused" in found.words
    assert "b duplicated shown more than once" in found.words
    assert "c unsettled log" in found.words
    assert "1 message duplicated: shown more than once." in found.words
    assert "None." in page(begin(), A_B, fault(), drained(), logged("a", "b"), shown("a", "b")).words


def test_kafka_has_leaders() -> None:
    found = page(
        begin(queue="kafka", scenario="kill-leader"),
        A_B,
        copies("before", m1=(2, 0), m2=(0, 2)),
        fault(target="kafka-1"),
        copies("after", m2=(2, 0)),
        drained(),
        logged("a", "b"),
        shown("a", "b"),
    )
    assert "m1 led partitions with 2 messages; m2 had copies of 2 messages" in found.words
    assert "a follower that had the same messages became the leader" in found.words


def test_hit_on_backup_says_queue_was_not_in_danger() -> None:
    found = page(begin(), A_B, fault(owner=False), drained(), logged("a", "b"), shown("a", "b"))
    assert "held only backups, so the queue itself was not in danger" in found.words
    assert "--target owner kills it" in found.words


def test_a_run_without_a_fault_proves_nothing() -> None:
    found = page(begin(), A_B, drained(), logged("a", "b"), shown("a", "b"))
    assert "UNKNOWN This run proves nothing: no fault was injected." in found.words
    assert "seconds since the beginning" in found.data


def test_a_history_that_only_began_has_a_report() -> None:
    found = page(begin())
    assert "UNKNOWN" in found.words
    assert "No send had an outcome." in found.words


def test_what_a_history_brings_along_stays_text() -> None:
    entries = whole(
        begin(
            scenario=HOSTILE, queue=HOSTILE, folder=HOSTILE, microq=HOSTILE, fault=HOSTILE, defects={HOSTILE: HOSTILE}
        ),
        sent(HOSTILE),
        copies("before", **{HOSTILE: (1, 0)}),
        fault(target=HOSTILE),
        at(2.5, "step", what=HOSTILE, since=0.5),
        drained(HOSTILE),
        at(3, "doubt", reason=HOSTILE),
        logged(HOSTILE, instance=HOSTILE, by=HOSTILE),
        shown(f"{HOSTILE}2", instance=HOSTILE),
    )
    found = Reader(render(entries, HOSTILE, config_toml=HOSTILE))
    clean = page(*PASSED, config="a")
    assert found.tags.count("script") == clean.tags.count("script") == 3
    assert set(found.tags) <= {*clean.tags, "ul"}
    assert found.words.count("onerror=alert(1)") > 10
    assert "<img" not in json.dumps(found.figures)


@pytest.mark.parametrize("strange", ["\ud800", "\x00\x1b[2J", "\u202eabc", "--sent"])
def test_strange_ids_can_be_written(strange: str) -> None:
    entries = whole(begin(), sent(strange), fault(), drained(), logged(strange), shown())
    text = render(entries, "history.jsonl")
    assert not {"\x00", "\x1b", "\u202e"} & set(text)
    text.encode()


def test_page_is_self_contained_with_unique_ids() -> None:
    text = render(whole(*PASSED), "history.jsonl", config_toml="[queue]\n")
    assert not re.search(r"https?:|src=|@import|url\(", text)
    assert "default-src 'none'" in html.unescape(text)
    ids = Reader(text).ids
    assert len(ids) == len(set(ids))
    assert set(Reader(text).figures) <= set(ids)
    assert len(text) < 2_500_000


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(number: float) -> None:
    with pytest.raises(UsageError, match="a time that is not a number"):
        render(whole(begin(), A_B, at(number, "end")), "history.jsonl")


def test_many_messages_are_thinned_except_failed_ones() -> None:
    total = 10_000
    entries = [entry for number in range(total) for entry in sent(str(number), second=number / 1000, took=0.01)]
    stored = [str(number) for number in range(total) if number % 1000]
    way = course(whole(begin(), entries, fault(), drained(), logged(), shown(*stored)))
    drawn, every = charts.drawn(way.ways)
    assert every == 5
    assert len(drawn) <= 2 * charts.MOST_DRAWN
    assert {way.id for way in drawn} >= {str(number) for number in range(0, total, 1000)}
    few = course(whole(begin(), A_B, shown("a")))
    assert charts.drawn(few.ways) == (list(few.ways), 1)


def test_the_course_has_every_time_since_the_fault() -> None:
    again = [*sent("b", Outcome.INDETERMINATE, second=1.5, took=1), *sent("b", second=3, took=0.5)]
    over = at(4, "step", what="the fault is over", since=2)
    late = at(4.5, "step", what="later", since=2.5)
    way = course(whole(begin(), sent("a"), again[:1], fault(), again[1:], over, late, shown("a", "b", second=3.75)))
    a, b = way.ways
    assert (a.number, a.sent, a.stored, a.by) == (1, -1, 1.75, "messages-1")
    assert a.acknowledged == pytest.approx(-0.9)
    assert (b.attempts, b.acknowledged, b.smooth, a.smooth) == (2, 1.5, False, True)
    assert way.band == (0, 2)
    assert way.gap == (0, 1.5), "what was before the fault is no part of it"
    assert [(mark.at, mark.hit) for mark in way.marks] == [(0, True), (2, False), (2.5, False)]
    assert [(one.at, one.seconds) for one in way.attempts][1:] == [(0.5, 1), (1.5, 0.5)]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"fault": "KillMember(target='owner', members=2)"}, "--target owner --members 2"),
        ({"scenario": "bounce-owner", "fault": "BounceOwner(times=3)", "form": "live"}, "--times 3"),
        ({"fault": "KillMember(target='; rm -rf')"}, "--target '; rm -rf'"),
        ({"backup_count": 0}, "--set queue.backup-count=0"),
        (
            {"form": "live", "messages": 10, "connections": 4, "seed": 0},
            "--live --messages 10 --connections 4 --seed 0",
        ),
    ],
)
def test_the_command_makes_the_same_choices(facts: dict[str, Any], words: str) -> None:
    assert words in command(begin(**facts).facts)


@pytest.mark.parametrize("text", ["", "(", "KillMember", "f(x=g())", "f(**{})", "(" * 5000])
def test_a_fault_that_is_none_gives_no_options(text: str) -> None:
    assert command(begin(fault=text).facts) == "microq chaos kill-member --queue hazelcast"
