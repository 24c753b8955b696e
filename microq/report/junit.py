"""Verdicts as JUnit's XML, which CI systems read: one test case for each run."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from microq.chaos.history import read
from microq.chaos.judge import judge
from microq.chaos.matrix import ERROR, Row
from microq.chaos.verdict import Ruling, Verdict
from microq.report.markup import plain

ELEMENTS = {Ruling.FAIL.value: "failure", ERROR: "error", Ruling.UNKNOWN.value: "skipped"}
"""Verdict -> the element that says so; a pass has none."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run: what it is called, how long it took in seconds, its verdict with reasons, and the ids it lost."""

    suite: str
    name: str
    verdict: str
    seconds: float = 0.0
    reasons: Sequence[str] = ()
    lost: Sequence[str] = ()
    history: str = ""


def of_verdict(found: Verdict, history: str) -> Case:
    """Return the case of a single run."""
    name = found.scenario if found.seed is None else f"{found.scenario} seed {found.seed}"
    suite = f"{found.queue}.{'quiet' if found.quiet else 'live'}"
    return Case(suite, name, found.verdict.value, found.duration_s, found.reasons, found.lost, history)


def of_row(row: Row, backend: str, form: str = "live") -> Case:
    """Return the case of a run of many; the ids that it lost are in its history."""
    lost = judge(read(Path(row.history))).lost if row.lost and row.history else ()
    name = f"{row.fault} run {row.run} seed {row.seed}"
    return Case(f"{backend}.{form}", name, row.verdict, row.duration_s or 0.0, row.reasons, lost, row.history)


def write(path: Path, cases: Sequence[Case]) -> None:
    """Write the cases to a file; raises `OSError` if it cannot be written."""
    totals = {
        "tests": str(len(cases)),
        **{
            plural: str(sum(ELEMENTS.get(case.verdict) == element for case in cases))
            for element, plural in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped"))
        },
        "time": _seconds(sum(case.seconds for case in cases)),
    }
    suites = ET.Element("testsuites", totals)
    suite = ET.SubElement(suites, "testsuite", {"name": "microq", **totals})
    for case in cases:
        _add(suite, case)
    ET.indent(suites)
    ET.ElementTree(suites).write(path, encoding="utf-8", xml_declaration=True)


def _add(suite: ET.Element, case: Case) -> None:
    facts = {"classname": plain(case.suite), "name": plain(case.name), "time": _seconds(case.seconds)}
    element = ET.SubElement(suite, "testcase", facts)
    if kind := ELEMENTS.get(case.verdict):
        said = ET.SubElement(element, kind, {"message": plain("; ".join(case.reasons)), "type": case.verdict})
        said.text = plain("\n".join([*case.reasons, *(f"lost: {message}" for message in case.lost)]))
    if case.history:
        ET.SubElement(element, "system-out").text = plain(f"History {case.history}")


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"
