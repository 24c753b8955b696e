"""The picture of a message's journey."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.journeys import Run
from support.screens import text, words

from microq import trace
from microq.terminal.logs import journey


@pytest.mark.parametrize("width", [80, 160])
def test_a_journey_is_shown_step_by_step(tmp_path: Path, width: int) -> None:
    Run(tmp_path).carries("8f31c2", "msg42", 10.0)
    lines = text(journey(trace.find(tmp_path, "8f31c2")), width).splitlines()
    assert words(lines[0])[:2] == ["8f31c2", '"msg42"']
    assert [words(line)[0] for line in lines[1:]] == [
        "facade-5000",
        "logging-5004",
        "queue",
        "facade-5000",
        "messages-5001",
        "messages-5001",
    ]
    assert words(lines[2])[2:] == ["+0.003 s", "stored"]


def test_what_happened_around_it_and_that_it_waits_is_seen(tmp_path: Path) -> None:
    trail = trace.Trail(
        "a",
        '"t"',
        (
            trace.Step(1.0, "facade-5000", 'accepted "t"'),
            trace.Step(1.1, "queue", "in the queue"),
            trace.Step(2.0, "", "hazelcast-5701 killed"),
        ),
    )
    lines = text(journey(trail), 80).splitlines()
    assert words(lines[3])[0] == "—"
    assert words(lines[3])[2:] == ["+1.000 s", "hazelcast-5701 killed"]
    assert lines[4] == "No messages-service has received it."


def test_an_id_can_neither_colour_nor_move_the_terminal() -> None:
    trail = trace.Trail("[bold]\x1b[31m", '"t"', (trace.Step(1.0, "facade-5000", "\x1b[2J"),))
    shown = text(journey(trail), 80)
    assert "\x1b" not in shown
    assert "[bold]" in shown
