"""Verdicts as JUnit's XML: what a CI system reads must parse, and count as the exit codes do."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

from support.histories import begin, drained, fault, logged, sent, shown, whole
from support.histories import write as write_history

from microq.chaos.checker import judge
from microq.chaos.matrix import ERROR, Row
from microq.report.junit import Case, of_row, of_verdict, write

LOSS = whole(begin(seed=7), sent("a"), sent("b"), fault(), drained(), logged("a", "b"), shown("a"))


def written(folder: Path, *cases: Case) -> ET.Element:
    write(folder / "junit.xml", cases)
    return ET.parse(folder / "junit.xml").getroot()  # noqa: S314 - written a line above


def test_every_verdict_has_its_element(tmp_path: Path) -> None:
    verdicts = ("pass", "fail", "unknown", ERROR)
    root = written(tmp_path, *(Case("kafka.live", each, each, 1.5, reasons=("why", "so")) for each in verdicts))
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
        "time": "6.000",
    }
    cases = root.findall("testsuite/testcase")
    assert [[child.tag for child in case] for case in cases] == [[], ["failure"], ["skipped"], ["error"]]
    assert cases[1][0].get("message") == "why; so"


def test_a_failure_names_what_was_lost(tmp_path: Path) -> None:
    [case] = written(tmp_path, of_verdict(judge(LOSS), "h.jsonl")).findall("testsuite/testcase")
    assert (case.get("classname"), case.get("name")) == ("hazelcast.quiet", "kill-member seed 7")
    assert case.findtext("failure") == "1 lost\nlost: b"
    assert case.findtext("system-out") == "History h.jsonl"


def test_a_run_of_many_has_the_ids_of_its_history(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    write_history(history, LOSS)
    row = Row("kill-member", 3, 7, "fail", reasons=("1 lost",), lost=1, duration_s=2.0, history=str(history))
    [case] = written(tmp_path, of_row(row, "hazelcast")).findall("testsuite/testcase")
    assert (case.get("classname"), case.get("name")) == ("hazelcast.live", "kill-member run 3 seed 7")
    assert (case.get("time"), case.findtext("failure")) == ("2.000", "1 lost\nlost: b")


def test_what_xml_cannot_hold_is_escaped(tmp_path: Path) -> None:
    strange = json.loads('"\\ud800\\u0000\\u001b]]><b>&"')
    [case] = written(tmp_path, Case("a.b", strange, "fail", reasons=(strange,), found={"lost": (strange,)})).findall(
        ".//testcase"
    )
    assert case.get("name") == r"\ud800\x00\x1b]]><b>&"
