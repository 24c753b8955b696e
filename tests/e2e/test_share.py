"""Consumers that start together share what waits, on both queues."""

from __future__ import annotations

from typing import Any

import pytest
from support.commands import observed
from support.project import Project

SENT = 1000
"""More than one of them takes while the other one waits for the processor."""

STARTS = 3
"""Seen before: with Kafka one of two consumers had everything in a third of the starts."""


def held(view: Any) -> list[int]:
    return [process["held"] for process in view["processes"] if process["role"] == "messages"]


@pytest.mark.parametrize("project", [{"others": 1}], indirect=True, ids=["one server"])
@pytest.mark.parametrize("backend", ["hazelcast", "kafka"])
def test_both_consumers_get_a_share_at_every_start(project: Project, kafka_engine: None, backend: str) -> None:
    assert project.microq("up", "-d", "--no-messages", "--queue", backend, "--set", "brokers=1").returncode == 0
    before = [0, 0]
    for turn in range(1, STARTS + 1):
        assert project.microq("send", str(SENT)).returncode == 0
        assert project.microq("start", "messages").returncode == 0
        now = held(observed(project, lambda view, turn=turn: sum(held(view)) == turn * SENT))  # type: ignore[misc]
        got = [after - was for after, was in zip(now, before, strict=True)]
        assert min(got) > 0, (turn, got)
        before = now
        assert project.microq("stop", "messages").returncode == 0
    assert project.microq("down").returncode == 0
