"""`microq report` and what other commands write: where it goes, and one line for what cannot be."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from commands import complaint
from conftest import Project, make_project
from histories import at, begin, drained, fault, logged, sent, shown, whole

from microq.chaos.history import record
from microq.cli.report import report_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a run that lost a message."""
    with record(tmp_path / "history.jsonl") as file:
        for entry in whole(
            begin(), sent("a"), sent("b"), fault(), drained(), logged("a", "b"), shown("a"), at(5, "end")
        ):
            file.note(entry.kind, **entry.facts)
    return tmp_path


@pytest.fixture
def here(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which nothing is started."""
    return make_project(tmp_path_factory.mktemp("here"))


def test_a_report_lies_beside_its_history(folder: Path, here: Project) -> None:
    (folder / "config.toml").write_text("[queue]\nmark = 7\n", encoding="utf-8")
    for named in (folder, folder / "history.jsonl"):
        done = here.microq("report", str(named))
        assert (done.returncode, done.stdout) == (0, f"{folder}/report.html\n")
    assert "mark = 7" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_history_of_another_name_has_a_report_of_its_own(folder: Path, here: Project) -> None:
    (folder / "history.jsonl").rename(folder / "kill-quiet.jsonl")
    done = here.microq("report", str(folder / "kill-quiet.jsonl"), "--json")
    assert json.loads(done.stdout) == {"report": f"{folder}/kill-quiet-report.html"}
    assert (folder / "kill-quiet-report.html").exists()


def test_a_report_goes_where_it_is_wanted(folder: Path, here: Project) -> None:
    assert here.microq("report", str(folder), "--output", "lab.html").stdout == "lab.html\n"
    assert (here.folder / "lab.html").exists()
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("report .", "holds no history.jsonl"),
        ("report nosuch.jsonl", "cannot be read as a history"),
        ("report FOLDER --output .", ". is a folder; name a file in it"),
        ("report FOLDER --output nosuch/lab.html", "nosuch is no folder"),
        ("verify FOLDER/history.jsonl --junit nosuch/a.xml", "nosuch is no folder"),
        ("chaos kill-member --junit nosuch/a.xml", "nosuch is no folder"),
        ("chaos all --junit nosuch/a.xml", "nosuch is no folder"),
        ("chaos controls --junit .", "is a folder"),
        ("compare --junit nosuch/a.xml", "nosuch is no folder"),
    ],
)
def test_what_cannot_be_written_gets_one_line_before_anything_starts(
    folder: Path, here: Project, words: str, part: str
) -> None:
    assert part in complaint(here.microq(*words.replace("FOLDER", str(folder)).split()), 2)
    assert not (here.folder / ".microq").exists()


def test_a_history_is_judged_for_a_ci_system(folder: Path, here: Project) -> None:
    done = here.microq("verify", str(folder / "history.jsonl"), "--junit", "junit.xml", "--json")
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (1, "fail")
    root = ET.parse(here.folder / "junit.xml").getroot()  # noqa: S314 - ours
    assert (root.get("tests"), root.get("failures")) == ("1", "1")


def test_a_report_that_cannot_be_written_is_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "report.html").mkdir()
    assert report_of(str(folder / "history.jsonl")) is None
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("The report could not be written: ")
    assert said.err.count("\n") == 1
