"""A disk that is full while a system runs: nothing ends, nothing is lost, and it is said."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.commands import asked, command, until
from support.project import Project, make_project

from microq.errors import ExitCode
from microq.message import Outcome
from microq.supervisor import records

SIZE = 160 << 20
"""Bytes of the disk: what a start wants to be free, what brokers write at theirs, and some more."""


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """Have a small disk in a folder; where none may be mounted, skip at home and fail in CI."""
    words = ["/bin/mount", "-t", "tmpfs", "-o", f"size={SIZE}", "microq", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        assert not os.environ.get("CI"), "no disk may be mounted here"
        pytest.skip("no disk may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", "-l", str(folder)], check=True)


@contextmanager
def running(disk: Path, *words: str) -> Iterator[Project]:
    """Have a system on the disk."""
    found = make_project(disk, messages=1, others=1)
    assert (started := found.microq("up", "-d", *words)).returncode == 0, started.stderr
    yield found
    assert (ended := found.microq("down")).returncode == 0, ended.stderr
    assert not found.alive()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Iterator[Project]:
    """A system on a disk that each test fills, and makes room on again."""
    with mounted(tmp_path_factory.mktemp("disk")) as disk, running(disk) as found:
        yield found


def filled(project: Project) -> Path:
    """Fill the disk of a project, and return the file that does so."""
    fill = project.folder / "fill"
    subprocess.run(["/bin/dd", "if=/dev/zero", f"of={fill}", "bs=4k"], capture_output=True, check=False)
    return fill


def outcomes(project: Project, count: int) -> dict[str, int]:
    """Send messages; return how many had which outcome."""
    found = json.loads(project.microq("send", str(count), "--json").stdout)
    return {outcome.value: int(found[outcome.value]) for outcome in Outcome}


def sent(project: Project, count: int) -> int:
    return outcomes(project, count)["acknowledged"]


def states(project: Project, role: str) -> list[str]:
    return [process["state"] for process in asked(project, "status")["processes"] if process["role"] == role]


def test_a_full_disk_ends_nothing_and_loses_nothing(project: Project) -> None:
    fill = filled(project)
    # What is acknowledged now has no line in a log, and no moment in the timeline.
    acknowledged = sent(project, 200)
    assert acknowledged == 200
    pid = records.supervisor_pid(project.config)
    until(lambda: "could not write" in (status := project.microq("status").stdout) and "is the disk full?" in status)
    assert project.microq("stop", "messages").returncode == 0
    fill.unlink()
    assert project.microq("start", "messages").returncode == 0
    acknowledged += sent(project, 10)
    assert records.supervisor_pid(project.config) == pid
    read = json.loads(project.microq("read", "-n", "1", "--json").stdout)
    assert len(read["logs"]) == acknowledged
    logs = ("logs", "facade", "-n", "99999")
    until(lambda: "lines are missing here: they could not be written" in project.microq(*logs).stdout)


@pytest.mark.usefixtures("kafka_engine")
def test_brokers_end_on_a_full_disk_and_lose_nothing_acked(tmp_path: Path) -> None:
    with mounted(tmp_path) as disk, running(disk, "--queue", "kafka") as project:
        assert project.microq("stop", "messages").returncode == 0
        assert sent(project, 40) == 40
        pid = records.supervisor_pid(project.config)
        fill = filled(project)
        # A broker that cannot write ends; until then it may still confirm something.
        acknowledged = 40
        while (found := outcomes(project, 20))["rejected"] < 20:
            assert sum(found.values()) == 20
            acknowledged += found["acknowledged"]
        # Without a majority nothing is written any more, so the last one may stay.
        until(lambda: states(project, "queue").count("exited") >= 2, 60)
        unable = project.microq("start", "kafka")
        assert (unable.returncode, unable.stderr.count("\n")) == (ExitCode.MACHINE, 1), unable.stderr
        assert "cannot be started: No space left on device" in unable.stderr
        fill.unlink()
        assert project.microq("start", "all").returncode == 0
        assert records.supervisor_pid(project.config) == pid
        until(lambda: project.microq("read", "--check").returncode == 0, 120)
        shown = json.loads(project.microq("read", "-n", "1", "--json").stdout)["messages"]
        assert len(shown) >= acknowledged


def test_check_on_full_disk_is_unknown_and_restores_system(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = ("chaos", "pause-logging", "-m", "200", "--seed", "1", "--json")
    with command(project, *words, folder=tmp_path_factory.mktemp("said")) as check:
        check.says("Sending", 60)
        fill = filled(project)
        assert check.ended(120) == ExitCode.UNKNOWN, check.err
        found = json.loads(check.out)
        assert "the history could not be written completely (No space left on device)" in found["reasons"]
        assert (found["lost"], found["unlogged"], found["unexpected"], found["duplicated"]) == ([], [], [], [])
        assert "The report could not be written" in check.err
    fill.unlink()
    view = asked(project, "status")
    assert {process["state"] for process in view["processes"]} == {"ready"}
