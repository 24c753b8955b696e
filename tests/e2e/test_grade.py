"""Many projects, one after another: whatever one does, the others are judged as if they were alone."""

from __future__ import annotations

import json
import shutil
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from support import foreign
from support.commands import complaint
from support.html import Reader
from support.project import Project, make_project

from microq.supervisor import records

LONG = 600
"""Seconds that several real systems, one after another, may take on a busy machine."""

WILD = """
import pathlib, sys
for place in (pathlib.Path(sys.argv[1]), pathlib.Path("../right")):
    if place.is_dir():
        (place / "config.toml").write_text("broken")
while True:
    print("x" * 10_000)
"""
"""It writes into its neighbour, floods its output, and never gets ready."""

HANG = """
import time
time.sleep(10_000)
"""


ROLES = ["facade", "logging", "messages"]


def a_project(folder: Path, role: str, source: str, word: str = "") -> Path:
    """Make a project in which one service is a program with this source."""
    folder.mkdir()
    program = f"[services.\"{role}-service\"]\ncommand = '{sys.executable} -S own.py {word}'\n"
    make_project(folder, others=2, extra=program)
    (folder / "own.py").write_text(source, encoding="utf-8")
    return folder


def a_right_project(folder: Path) -> Path:
    """Make a project whose services are right programs of another make."""
    folder.mkdir()
    shutil.copy(foreign.HERE / "service.py", folder)
    foreign.set_mode(folder)
    # Each logging-service of these programs keeps what it was sent itself.
    make_project(folder, others=3, extra="".join(map(foreign.program, ROLES)) + "[wire]\nshared-log = false\n")
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Project:
    """The folder of the person who grades, and of the copies."""
    (tmp_path / "here").mkdir()
    (tmp_path / "copies").mkdir()
    return Project(tmp_path / "here", {"TMPDIR": str(tmp_path / "copies")})


def grades(here: Project, code: int, *words: str) -> dict[str, Any]:
    """Grade, and return project -> its grade; nothing may be left running, and no copy on the disk."""
    done = here.microq("grade", *words, "--json", seconds=LONG)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    copies = here.folder.parent / "copies"
    assert list(copies.glob("microq-*")) == []
    assert [marks for _, marks in records.marked() if marks["MICROQ_PROJECT"].startswith(str(copies))] == []
    return {one["project"]: one for one in json.loads(done.stdout)["projects"]}


@pytest.mark.timeout(LONG)
def test_wild_project_does_not_disturb_its_neighbour(here: Project, tmp_path: Path, engine: None) -> None:
    right = a_right_project(tmp_path / "right")
    wild = a_project(tmp_path / "wild", "messages", WILD, str(right))
    given = (right / "config.toml").read_text(encoding="utf-8")
    found = grades(here, 1, str(wild), str(right), "--file", "64", "--junit", "grades.xml")
    assert {name: one["verdict"] for name, one in found.items()} == {"wild": "fail", "right": "pass"}

    assert (found["right"]["held"], found["right"]["steps"], found["right"]["why"]) == (9, 9, "")
    assert Path(found["right"]["report"]).parent.parent == here.folder / ".microq" / "runs"
    assert "Name: right" in Reader(Path(found["right"]["report"]).read_text(encoding="utf-8")).words
    assert {path.name for path in right.iterdir()} == {"config.toml", "service.py", "mode"}

    assert (right / "config.toml").read_text(encoding="utf-8") == "broken" != given
    assert found["wild"]["changed"] == [str(right / "config.toml")]
    assert "config.toml changed, outside its copy; step 1, Start everything: messages-" in found["wild"]["why"]
    assert "before it was ready" in found["wild"]["why"]
    assert found["right"]["changed"] == []
    assert [sorted(found[name]["programs"]) for name in ("wild", "right")] == [["messages"], ROLES]

    cases = ET.parse(here.folder / "grades.xml").getroot().findall(".//testcase")  # noqa: S314 - written a line above
    assert [(case.get("name"), [child.tag for child in case]) for case in cases] == [
        ("wild", ["failure"]),
        ("right", []),
    ]


def test_project_that_hangs_is_ended(here: Project, tmp_path: Path, engine: None) -> None:
    hang = a_project(tmp_path / "hang", "facade", HANG)
    found = grades(here, 3, str(hang), "--seconds", "8")
    assert (found["hang"]["verdict"], found["hang"]["why"]) == ("error", "it was not finished after 8 s")


def test_project_with_too_much_memory_is_ended(here: Project, tmp_path: Path, engine: None) -> None:
    large = a_project(tmp_path / "large", "facade", HANG)
    found = grades(here, 3, str(large), "--memory", "64")
    assert found["large"]["verdict"] == "error"
    assert "MiB of memory, more than 64 MiB" in found["large"]["why"]


def test_project_that_cannot_be_judged_has_the_reason(here: Project, tmp_path: Path) -> None:
    wrong = a_project(tmp_path / "wrong", "facade", HANG, "{nonsense}")
    found = grades(here, 3, str(wrong), str(wrong))
    assert list(found) == ["wrong"]
    assert found["wrong"]["verdict"] == "error"
    assert "{nonsense}" in found["wrong"]["why"]
    shown = here.microq("grade", str(wrong))
    assert shown.returncode == 3
    assert "wrong    ERROR" in shown.stdout


@pytest.mark.parametrize(("name", "part"), [("nosuch", "is not a folder"), ("here", "has no config.toml")])
def test_folder_that_is_no_project_gets_one_line(here: Project, tmp_path: Path, name: str, part: str) -> None:
    assert part in complaint(here.microq("grade", str(tmp_path / name)), 2)
