"""A real cluster whose oldest member falls silent: the others drop it, and stay together."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from support.commands import ask, until
from support.project import Project, make_project

pytestmark = pytest.mark.usefixtures("engine")

LIMIT = 10
"""Seconds of silence after which a member is dropped; one may wait half as long for the processor of a busy machine."""

SENDERS = 8


@contextlib.contextmanager
def traffic(project: Project) -> Iterator[None]:
    """Send over several connections until the end of the body."""
    enough, facade = Event(), project.config.service_ips.facade_service

    def send() -> None:
        while not enough.wait(0.1):
            with contextlib.suppress(OSError):
                ask(facade, "POST", "/facade", b"text")

    with ThreadPoolExecutor(SENDERS) as threads:
        for _ in range(SENDERS):
            threads.submit(send)
        try:
            yield
        finally:
            enough.set()


def lists(log: Path) -> list[int]:
    """How many members each list has that this one wrote down, oldest first."""
    return [int(part.partition(",")[0]) for part in log.read_text(encoding="utf-8").split("Members {size:")[1:]]


def test_others_stay_joined_if_oldest_member_is_silent(tmp_path: Path) -> None:
    """Once they connected to it again their heartbeats to each other waited behind its handshake, which never comes."""
    project = make_project(tmp_path, extra=f"heartbeat-timeout = {LIMIT}\n")
    assert project.microq("up", "-d").returncode == 0
    try:
        folder = Path(json.loads(project.microq("status", "--json").stdout)["folder"])
        logs = sorted((folder / "logs").glob("hazelcast-*.log"))
        (oldest,) = (log for log in logs if 1 in lists(log))
        others = [log for log in logs if log != oldest]
        with traffic(project):
            assert project.microq("pause", oldest.stem).returncode == 0
            until(lambda: any(lists(log)[-1] < len(logs) for log in others), 60)
            time.sleep(1.5 * LIMIT)  # nothing is to happen: not even past the limit once more
        assert [lists(log)[-1] for log in others] == [2, 2]
        assert project.microq("resume", oldest.stem).returncode == 0
        until(lambda: all(lists(log)[-1] == len(logs) for log in logs), 60)
        assert all(1 not in lists(log) for log in others)
    finally:
        assert project.microq("down").returncode == 0
