"""The assignment on a terminal and as a page: what held, what did not, and nothing that controls a terminal."""

from __future__ import annotations

from support.html import Reader
from support.screens import text

from microq.chaos.assignment import Assignment, Excerpt, Number, Step
from microq.chaos.verdict import Ruling
from microq.report.assignment import render
from microq.terminal import assignment as pictures
from microq.workflows.grade import Grade

ODD = "\x1b[2J\x07</script><img src=x>"
LINES = Excerpt("messages-5001: 12 messages", tuple((f"line {number} {ODD}",) for number in range(12)), left_out=7)
TABLE = Excerpt("The consumers", (("messages-5001", "stopped"),), ("process", "state"))
STEPS = (
    Step(Number.SEND, Ruling.PASS, "10 acknowledgements", "10 acknowledgements", (TABLE,), seconds=1.5),
    Step(Number.RECEIVED, Ruling.FAIL, "each once", f"more than one has {ODD}", (LINES,), (f"note {ODD}",)),
    Step(Number.READ, Ruling.UNKNOWN, "both sets", "no message was acknowledged"),
)
FOUND = Assignment(f"Ada {ODD}", "hazelcast", 1_700_000_000.0, STEPS)


def test_step_that_holds_shows_what_came() -> None:
    said = text(pictures.step(STEPS[0]), 100)
    assert said.startswith("✓ 2 Send ten messages   (1.5 s)\n    10 acknowledgements\n")
    assert "process" in said
    assert "expected" not in said


def test_step_that_does_not_hold_shows_what_was_expected() -> None:
    said = text(pictures.step(STEPS[1]), 100)
    assert said.startswith("✗ 4 What each messages-service got\n    expected: each once\n    came:     more than one")
    assert said.rstrip().endswith("… 9 more")
    assert all(line.isprintable() for line in said.splitlines())


def test_result_counts_the_steps_that_hold() -> None:
    said = text(pictures.result(FOUND, "/x/assignment.html"), 100)
    assert said.splitlines() == ["FAIL  1 of 3 steps hold", "Report /x/assignment.html"]


def test_report_has_every_step_and_a_place_for_a_name() -> None:
    page = Reader(render(FOUND, config_toml=ODD))
    assert {"name", "step-2", "step-4", "step-5"} <= set(page.ids)
    assert page.tags.count("img") == 0
    for said in ("1 of 3 steps hold", "✘ does not hold", "? unknown", "… 7 more lines", "no message was acknowledged"):
        assert said in page.words
    nameless = Reader(render(Assignment("", "kafka", 0.0, STEPS)))
    assert "Name: microq" in nameless.words


def test_grades_are_one_table_with_the_reasons() -> None:
    fine = Grade("ada", "/p/ada", "pass", 9, 9, "", 40.2, "hazelcast", "/r/1-ada.html")
    hung = Grade(f"bob{ODD}", "/p/bob", "error", why=f"it was not finished after 8 s {ODD}", seconds=8.0)
    said = text(pictures.grades([fine, hung]), 200)
    lines = [line.split() for line in said.splitlines()]
    assert lines[1][:6] == ["ada", "PASS", "9/9", "40", "hazelcast", "–"]
    assert "ada has no programs of its own: microq's services were judged." in said
    assert "bob\\x1b[2J" in said
    assert "ERROR" in lines[2]
    assert said.splitlines()[-1].strip() == "Report /r/1-ada.html"
    assert all(line.isprintable() for line in said.splitlines())
