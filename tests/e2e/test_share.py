"""Consumers that start together share what waits, on both queues."""

from __future__ import annotations

import json

import pytest
from support.commands import until
from support.project import Project

SENT = 100

STARTS = 3
"""Seen before: with Kafka one of two consumers had everything in a third of the starts."""


def held(project: Project) -> list[int]:
    view = json.loads(project.microq("status", "--json").stdout)
    return [process["held"] or 0 for process in view["processes"] if process["role"] == "messages"]


@pytest.mark.parametrize("backend", ["hazelcast", "kafka"])
def test_both_consumers_get_a_share_at_every_start(project: Project, kafka_engine: None, backend: str) -> None:
    assert project.microq("up", "-d", "--no-messages", "--queue", backend).returncode == 0
    before = [0, 0]
    for turn in range(1, STARTS + 1):
        assert project.microq("send", str(SENT)).returncode == 0
        assert project.microq("start", "messages").returncode == 0
        until(lambda turn=turn: sum(held(project)) == turn * SENT)  # type: ignore[misc]  # bound at once
        now = held(project)
        got = [after - was for after, was in zip(now, before, strict=True)]
        assert min(got) > 0, (turn, got)
        before = now
        assert project.microq("stop", "messages").returncode == 0
    assert project.microq("down").returncode == 0
