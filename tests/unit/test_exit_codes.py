"""The exit codes: one table, which the help and the README tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from microq.cli.help import topics
from microq.errors import DeadlineError, ExitCode, MachineError, NotRunningError, UsageError


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], ExitCode.UNKNOWN),
        (["pass"], ExitCode.FINE),
        (["pass", "unknown"], ExitCode.UNKNOWN),
        (["pass", "error"], ExitCode.UNKNOWN),
        (["unknown", "fail", "pass"], ExitCode.FAILED),
    ],
)
def test_the_exit_code_of_runs_is_that_of_the_worst(verdicts: list[str], expected: ExitCode) -> None:
    assert ExitCode.of_verdicts(verdicts) is expected


def test_the_help_shows_every_exit_code_with_its_meaning() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", topics()["exit-codes"], flags=re.MULTILINE)
    assert rows == [(str(int(code)), code.meaning) for code in ExitCode]


def test_the_readme_tells_of_every_exit_code_and_of_no_other() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    clause = text.partition("Exit codes:")[2].partition("\n\n")[0]
    assert {int(code) for code in re.findall(r"\*\*(\d+)\*\*", clause)} == set(ExitCode)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (UsageError, ExitCode.USAGE),
        (NotRunningError, ExitCode.UNKNOWN),
        (MachineError, ExitCode.MACHINE),
        (DeadlineError, ExitCode.DEADLINE),
    ],
)
def test_a_kind_of_error_has_its_exit_code(kind: type[UsageError], expected: ExitCode) -> None:
    assert kind("text").exit_code is expected
