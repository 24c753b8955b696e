"""`microq report` and what other commands write: where it goes, and one line for what cannot be."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support.commands import complaint
from support.histories import begin, drained, fault, logged, sent, shown, whole, write
from support.project import Project, make_project

from microq.cli.report import report_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a run that lost a message."""
    entries = whole(begin(), sent("a"), sent("b"), fault(), drained(), logged("a", "b"), shown("a"))
    write(tmp_path / "history.jsonl", entries)
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
        ("report .", "contains no history.jsonl"),
        ("report nosuch.jsonl", "cannot be read as a history (No such file or directory)"),
        ("report FOLDER --output .", ". is a folder; name a file in it"),
        ("report FOLDER --output nosuch/lab.html", "nosuch is not a folder"),
        ("verify FOLDER/history.jsonl --junit nosuch/a.xml", "nosuch is not a folder"),
        ("chaos kill-member --junit nosuch/a.xml", "nosuch is not a folder"),
        ("chaos all --junit nosuch/a.xml", "nosuch is not a folder"),
        ("chaos controls --junit .", "is a folder"),
        ("compare --junit nosuch/a.xml", "nosuch is not a folder"),
    ],
)
def test_unwritable_folder_is_one_line_before_the_start(folder: Path, here: Project, words: str, part: str) -> None:
    assert part in complaint(here.microq(*words.replace("FOLDER", str(folder)).split()), 2)
    assert not (here.folder / ".microq").exists()


def test_a_history_is_judged_for_a_ci_system(folder: Path, here: Project) -> None:
    done = here.microq("verify", str(folder / "history.jsonl"), "--junit", "junit.xml", "--json")
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (1, "fail")
    root = ET.parse(here.folder / "junit.xml").getroot()  # noqa: S314 - ours
    assert (root.get("tests"), root.get("failures")) == ("1", "1")


def test_a_history_that_was_cut_short_proves_nothing(folder: Path, here: Project) -> None:
    path = folder / "history.jsonl"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    done = here.microq("verify", str(path), "--json")
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (3, "unknown")
    assert json.loads(done.stdout)["reasons"] == ["the history ends before its end, so it proves nothing"]


def test_a_history_whose_lines_are_mixed_up_is_refused(folder: Path, here: Project) -> None:
    path = folder / "history.jsonl"
    path.write_text("".join(reversed(path.read_text(encoding="utf-8").splitlines(keepends=True))), encoding="utf-8")
    assert "line 1: a history must begin with" in complaint(here.microq("verify", str(path)), 2)


def test_a_report_that_cannot_be_written_is_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "report.html").mkdir()
    assert report_of(str(folder / "history.jsonl")) is None
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("The report could not be written: Is a directory: ")
    assert said.err.count("\n") == 1
