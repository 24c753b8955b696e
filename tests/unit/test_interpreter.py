"""What our Pythons import, and the streams that they have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import homework
from support.project import SECONDS, environment

from microq import interpreter

HOME = Path(interpreter.__file__).parents[1]

PYTHONPATHS = ["", os.pathsep, ".", f"{os.pathsep}/nowhere", "homework", "{here}"]


@pytest.mark.parametrize(
    ("words", "given"),
    [(["send", "3"], ""), (["up", "--set", "no"], ""), (["status"], ""), *((["help"], each) for each in PYTHONPATHS)],
)
def test_microq_imports_nothing_of_the_folder_it_is_called_in(words: list[str], given: str, tmp_path: Path) -> None:
    folder = tmp_path / "homework" if given == "homework" else tmp_path
    folder.mkdir(exist_ok=True)
    marks = homework(folder)
    done = subprocess.run(
        [sys.executable, "-m", "microq", *words],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": given.format(here=tmp_path)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert not list(marks.iterdir()), done.stderr
    assert done.returncode in (0, 2, 3)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("module", "given"),
    [
        ("microq.services", ""),
        ("microq.workflows.host", ""),
        *(("microq.services.forkserver", each) for each in PYTHONPATHS),
    ],
)
def test_a_child_imports_nothing_of_the_folder_it_is_started_in(
    module: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "homework" if given == "homework" else tmp_path
    folder.mkdir(exist_ok=True)
    marks = homework(folder)
    monkeypatch.chdir(tmp_path)
    around = interpreter.environment({**environment(), "PYTHONPATH": given.format(here=tmp_path)})
    done = subprocess.run(
        [*interpreter.PYTHON_M, module],
        env=around,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert not list(marks.iterdir()), done.stderr


def test_what_a_user_adds_to_the_path_on_purpose_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = os.pathsep.join(["", "/opt/libraries", "relative", str(tmp_path), str(HOME)])
    around = interpreter.environment({"PYTHONPATH": given, "PYTHONIOENCODING": "ascii", "A": "b"})
    assert around["PYTHONPATH"].split(os.pathsep) == ["/opt/libraries", str(HOME)]
    assert (around["A"], around["PYTHONUTF8"], "PYTHONIOENCODING" in around) == ("b", "1", False)


def test_a_folder_that_is_gone_is_no_error(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    line = f'mkdir "{gone}" && cd "{gone}" && rmdir "{gone}" && exec "$0" -m microq --version'
    done = subprocess.run(
        ["/bin/sh", "-c", line, sys.executable], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def ran(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of a shell in which `microq` is ours; a pipe's status is that of its first command."""
    words = ["/bin/bash", "-c", f'microq() {{ "$0" -m microq "$@"; }}; set -o pipefail; {line}', sys.executable]
    return subprocess.run(
        words, cwd=folder, env={**environment(), **variables}, capture_output=True, timeout=SECONDS, check=False
    )


@pytest.mark.parametrize(
    ("line", "encoding"),
    [("microq doctor", "ascii"), *(("microq chaos list", each) for each in ("ascii", "latin-1", "cp1251"))],
)
def test_no_encoding_is_an_error(line: str, encoding: str, tmp_path: Path) -> None:
    done = ran(line, tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    (done.stdout + done.stderr).decode(encoding)


def test_json_keeps_its_letters_in_an_encoding_that_lacks_them(tmp_path: Path) -> None:
    folder = tmp_path / "Зошит 🐝"
    folder.mkdir()
    for encoding in ("ascii", "cp1251"):
        done = ran("microq status --json", folder, PYTHONIOENCODING=encoding)
        assert done.returncode == 3
        told = json.loads(done.stderr.decode(encoding))
        assert str(folder) in told["message"]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "code"), [("chaos list", 0), ("ls --json", 0), ("help nonsense", 2)])
def test_a_stream_that_is_closed_is_no_error(words: str, code: int, closed: str, tmp_path: Path) -> None:
    done = ran(f"microq {words} {closed}", tmp_path)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["help", "chaos list", "ls --json", "--help"])
def test_a_reader_that_has_enough_is_no_error(words: str, tmp_path: Path) -> None:
    # The reader is gone before the first letter.
    done = ran(f"{{ sleep 0.5; microq {words}; }} | true", tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(("words", "code"), [("help", 4), ("chaos list", 4), ("ls --json", 4)])
def test_an_output_that_is_full_is_said_in_one_line(words: str, code: int, tmp_path: Path) -> None:
    done = ran(f"microq {words} > /dev/full", tmp_path)
    assert done.returncode == code
    assert done.stderr.count(b"\n") == 1
    assert b"No space left" in done.stderr


def test_notes_without_reader_change_nothing(tmp_path: Path) -> None:
    for where in ("2>/dev/full", "2> >(true)"):
        done = ran(f"microq status {where}", tmp_path)
        assert (done.returncode, done.stderr) == (3, b"")
