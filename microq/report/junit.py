"""Verdicts as JUnit's XML for CI systems: one test case for each run."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from microq.chaos.checker import CHECKS, judge
from microq.chaos.history import read
from microq.chaos.matrix import ERROR, Row
from microq.chaos.verdict import Ruling, Verdict, named
from microq.log import escaped
from microq.report.html import plain

ELEMENTS = {Ruling.FAIL.value: "failure", ERROR: "error", Ruling.UNKNOWN.value: "skipped"}
"""Verdict -> its element; a pass has none."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run: its name, its duration in seconds, its verdict with reasons, and the lists of ids in the verdict.

    `found` is the name of a list, such as `lost` -> its ids.
    """

    suite: str
    name: str
    verdict: str
    seconds: float = 0.0
    reasons: Sequence[str] = ()
    found: Mapping[str, Sequence[str]] = field(default_factory=dict)
    history: str = ""


def of_verdict(found: Verdict, history: str) -> Case:
    """Return the case of a single run."""
    name = found.scenario if found.seed is None else f"{found.scenario} seed {found.seed}"
    suite = f"{found.queue}.{'quiet' if found.quiet else 'live'}"
    return Case(suite, name, found.verdict.value, found.duration_s, found.reasons, _ids(found), history)


def of_row(row: Row, backend: str, form: str = "live") -> Case:
    """Return the case of a run of the matrix; the ids are only in its history."""
    some = row.history and any(getattr(row, check.name) for check in CHECKS)
    found = _ids(judge(read(Path(row.history)))) if some else {}
    name = f"{row.fault} run {row.run} seed {row.seed}"
    return Case(f"{backend}.{form}", name, row.verdict, row.duration_s or 0.0, row.reasons, found, row.history)


def _ids(found: Verdict) -> dict[str, Sequence[str]]:
    return {check.name: ids for check in CHECKS if (ids := getattr(found, check.name))}


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
        ids = (f"{named(name)}: {escaped(message)}" for name, found in case.found.items() for message in found)
        said.text = plain("\n".join([*case.reasons, *ids]))
    if case.history:
        ET.SubElement(element, "system-out").text = plain(f"History {case.history}")


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"
