"""What the assignment reads and starts: log files of any size, and services of any make."""

from __future__ import annotations

from pathlib import Path

from microq.config import load
from microq.workflows import assignment


def test_log_is_read_from_a_moment_on(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "messages-5001.log"
    file.parent.mkdir()
    file.write_text("got msg1\n", encoding="utf-8")
    logs = assignment._Logs(tmp_path)
    assert list(logs.of("messages-5001", ["msg1"]).lines) == ["msg1"]
    logs.skip()
    with file.open("a", encoding="utf-8") as more:
        more.write("got msg2\n")
    assert list(logs.of("messages-5001", ["msg1", "msg2"]).lines) == ["msg2"]


def test_log_that_is_missing_or_too_long_has_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "messages-5001.log"
    file.parent.mkdir()
    logs = assignment._Logs(tmp_path)
    assert logs.of("messages-5001", ["msg1"]).problem.startswith("cannot be read: No such file")
    with file.open("wb") as flooded:
        flooded.write(b"got msg1\n")
        flooded.seek(assignment.MOST_READ)
        flooded.write(b"\ngot msg2\n")
    found = logs.of("messages-5001", ["msg1", "msg2"])
    assert list(found.lines) == ["msg1"]
    assert "of which the first were read" in found.problem


def test_external_facade_gets_no_defect(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[services."facade-service"]\ncommand = "./facade {port}"\n', encoding="utf-8")
    plan = assignment.Plan()
    assert plan.trial_in(load(file, environ={})).defects == {}
    assert plan.trial_in(load(environ={})).defects == {"facade": "no-redelivery"}
