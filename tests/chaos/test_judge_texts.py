"""Histories of external services, which are counted by text: what they prove, and what stays unknown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.histories import at, begin, copies, drained, fault, logged, sent, whole, write

from microq.chaos.checker import judge
from microq.chaos.history import Entry, read
from microq.chaos.verdict import Layer, Ruling
from microq.message import Outcome
from microq.report.run import render


def texts(**facts: Any) -> Entry:
    named = {"consumers": ["messages-1"], "loggers": ["logging-1"], "format": 2, "by_text": True, "messages": 2}
    return begin(**{**named, **facts})


def shown(*listed: str, instance: str = "messages-1", reading: int = 1) -> list[Entry]:
    """A reading without times: external services do not tell them."""
    return [
        at(4, "read", instance=instance, role="messages", reading=reading),
        *(at(4, "shown", instance=instance, id=text, hash=text, reading=reading) for text in listed),
    ]


def readings(*listed: str, logs: Sequence[str] = ("a", "b")) -> list[Entry]:
    """Two readings that agree."""
    found: list[Entry] = []
    for number in (1, 2):
        log = [Entry(e.kind, e.wall, e.mono, {**e.facts, "reading": number}) for e in logged(*logs, by="")]
        found += [*log, *shown(*listed, reading=number)]
    return found


def combined(logs: Sequence[str] = ("a", "b"), messages: Sequence[str] = ("a", "b"), **facts: Any) -> Entry:
    return at(4.5, "combined", logs=list(logs), messages=list(messages), met=True, reading=2, **facts)


def history(*parts: Entry | list[Entry], head: Entry | None = None) -> list[Entry]:
    before = [*sent("a"), *sent("b"), copies("before", m1=(2, 0), m2=(0, 2)), *fault(), drained()]
    return whole(head or texts(), sorted(before, key=lambda each: each.mono), *parts)


def test_texts_that_arrived_once_are_a_pass() -> None:
    verdict = judge(history(readings("a", "b"), combined()))
    assert (verdict.verdict, verdict.reasons) == (Ruling.PASS, ())
    assert verdict.by_logger == {}
    assert any("counted by their texts" in cue for cue in verdict.cues)


def test_same_history_by_ids_lacks_facts() -> None:
    verdict = judge(history(readings("a", "b"), combined(), head=texts(by_text=False)))
    assert verdict.verdict is Ruling.UNKNOWN
    assert any("what was redelivered" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("took", "items", "layer"),
    [
        ({"ids": ["b"], "lines": 2}, 2, Layer.CONSUMER),
        ({"ids": [], "lines": 1}, 2, Layer.QUEUE),
        ({"ids": [], "lines": 1}, 1, Layer.LOG),
        ({"ids": [], "lines": 0}, 2, Layer.LOG),
    ],
)
def test_lost_text_has_the_last_layer_that_is_known(took: dict[str, Any], items: int, layer: Layer) -> None:
    before = [*sent("a"), *sent("b"), copies("before", m1=(items, 0)), *fault(), drained()]
    found = at(4.6, "took", instance="messages-1", **took)
    verdict = judge(whole(texts(), before, readings("a"), combined(messages=["a"]), found))
    assert verdict.verdict is Ruling.FAIL
    assert verdict.lost == ("b",)
    assert verdict.layers == {"b": layer}


def test_indeterminate_text_need_not_be_delivered() -> None:
    before = [
        *sent("a"),
        *sent("b"),
        *sent("c", Outcome.INDETERMINATE),
        copies("before", m1=(2, 0)),
        *fault(),
        drained(),
    ]
    logs = ["a", "b", "c"]
    verdict = judge(whole(texts(), before, readings("a", "b", logs=logs), combined(logs=logs)))
    assert (verdict.verdict, verdict.reasons) == (Ruling.PASS, ())
    assert any("external services need not deliver them" in cue for cue in verdict.cues)


def test_text_shown_twice_by_one_is_a_failure() -> None:
    verdict = judge(history(readings("a", "b", "b"), combined()))
    assert verdict.verdict is Ruling.FAIL
    assert verdict.duplicated == ("b",)


def test_log_need_not_be_whole_if_it_is_not_shared() -> None:
    parts = [*readings("a", "b", logs=["a"])]
    for number in (1, 2):
        parts.append(at(4, "read", instance="logging-2", role="logging", reading=number))
        parts.append(at(4, "logged", instance="logging-2", id="b", by="", reading=number))
    head = texts(loggers=["logging-1", "logging-2"], shared_log=False)
    assert judge(history(parts, combined(), head=head)).verdict is Ruling.PASS
    shared = judge(history(parts, combined(), head=texts(loggers=["logging-1", "logging-2"])))
    assert (shared.verdict, shared.unlogged) == (Ruling.FAIL, ("a", "b"))


def test_set_that_the_facade_does_not_show_is_not_judged() -> None:
    doubt = at(4.6, "doubt", reason="what the facade shows cannot be seen")
    verdict = judge(history(readings("a", "b"), combined(logs=[], messages=[], unseen=["logs", "messages"]), doubt))
    assert verdict.verdict is Ruling.UNKNOWN
    assert not verdict.hidden
    assert judge(history(readings("a", "b"), combined(messages=["a"]))).hidden == ("b",)


@pytest.mark.parametrize(("items", "words"), [(1, "acknowledged and not put"), (4, "put more than once")])
def test_queue_that_held_another_number_is_said(items: int, words: str) -> None:
    before = [*sent("a"), *sent("b"), copies("before", m1=(items, 0)), *fault(), drained()]
    verdict = judge(whole(texts(), before, readings("a", "b"), combined()))
    (cue,) = [cue for cue in verdict.cues if words in cue]
    assert f"held {items} items, and 2 messages were acknowledged" in cue
    assert not [cue for cue in judge(history(readings("a", "b"), combined())).cues if "held 2 items" in cue]


def test_history_of_texts_is_read_and_reported(tmp_path: Path) -> None:
    entries = history(readings("a", "b"), combined())
    write(tmp_path / "history.jsonl", entries)
    again = read(tmp_path / "history.jsonl")
    assert judge(again).verdict is Ruling.PASS
    assert "messages-1" in render(again, "history.jsonl")
