"""A verdict on a terminal: what was found is shown, and nothing from a file can move or colour it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.histories import at, begin, drained, fault, logged, sent, shown, whole
from support.screens import text

from microq.chaos.checker import judge
from microq.chaos.history import Entry
from microq.chaos.matrix import COUNTED, ERROR, Row, summarize
from microq.chaos.verdict import ALWAYS, FOUND, Verdict
from microq.report.run import render
from microq.terminal import verdict as pictures

WIDE = 200

ODD = "\x1b[2J\x07\nPASS  forged\u202e\x9b"


def a_run(odd: str = "a") -> list[Entry]:
    return whole(
        begin(scenario="kill-member"),
        sent(odd),
        sent("b"),
        fault(target=f"hazelcast-{odd}"),
        drained(f"not yet {odd}"),
        at(3.5, "doubt", reason=odd),
        logged("b", instance=f"logging-{odd}", by=odd),
        shown("b", odd + "planted", instance=f"messages-{odd}"),
        at(4, "absent", instance=odd),
    )


def found(odd: str = "a") -> Verdict:
    return judge(a_run(odd))


def test_nothing_from_a_file_reaches_a_terminal_raw() -> None:
    said = text(pictures.verdict(found(ODD), f"history{ODD}.jsonl", f"report{ODD}.html"), WIDE)
    lines = said.splitlines()
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith("PASS")]
    assert r"\x1b[2J" in said


def test_nor_does_it_reach_a_line_of_the_matrix() -> None:
    said = text(pictures.row(Row("kill-member", 1, 7, ERROR, reasons=(ODD,)), 1, 1), WIDE)
    assert all(line.isprintable() for line in said.splitlines())


def test_nor_a_report() -> None:
    page = render(a_run(ODD), f"history{ODD}.jsonl")
    assert not set(page) & set("\x1b\x07\u202e\x9b")


def test_what_was_found_is_shown_and_what_was_not_is_left_out() -> None:
    plain = found()
    assert [name for name in plain.found() if name not in ALWAYS] == []
    every: dict[str, Any] = dict.fromkeys(FOUND, ("x",))
    full = replace(plain, **every)
    said = text(pictures.verdict(full, "history.jsonl"), WIDE)
    for name in FOUND:
        assert f"{name.replace('_', ' ')} " in said
    short = text(pictures.verdict(plain, "history.jsonl"), WIDE)
    assert "disordered" not in short
    assert "lost" in short


@pytest.mark.parametrize("name", [name for name in FOUND if name not in ALWAYS])
def test_the_matrix_has_a_column_for_what_was_found(name: str) -> None:
    assert name in COUNTED
    counts: dict[str, Any] = {name: 3}
    row = Row("kill-member", 1, 7, "fail", **counts)
    title = name.replace("_", " ").upper()
    assert title in text(pictures.summaries(summarize([row])), WIDE)
    assert title not in text(pictures.summaries(summarize([Row("kill-member", 1, 7, "fail")])), WIDE)


def test_narrow_terminal_keeps_figures_of_verdicts() -> None:
    rows = [Row("kill-two-members", 1, 7, "fail", acknowledged=5000, lost=1234)]
    shown = text(pictures.summaries(summarize(rows)), 40).splitlines()
    assert shown[0].split()[:5] == ["FAULT", "RUNS", "PASS", "FAIL", "UNKNOWN"]
    assert shown[1].split() == ["kill-two-members", "1", "0", "1", "0"]


def test_narrow_terminal_shows_whole_ids_of_a_verdict() -> None:
    ids = tuple(f"8f31c2d0-5a0c-4a7e-9a4e-0c3a5b1d9e7{n}" for n in range(3))
    shown = text(pictures.verdict(replace(found(), lost=ids), "history.jsonl"), 40)
    assert "…" not in shown
    assert all(len(line) <= 40 for line in shown.splitlines())
    joined = "".join(shown.split())
    assert all(each in joined for each in ids)
