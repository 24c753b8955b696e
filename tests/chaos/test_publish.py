"""The publisher: what a scenario does is told in order, what becomes of single messages is not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.operators import FakeOperator

from microq.chaos.history import record
from microq.errors import NotRunningError
from microq.fleet import Event, Topic
from microq.workflows.trial import publishing


def told(operator: FakeOperator) -> list[Event]:
    found = []
    while not operator.told.empty():
        event = operator.told.get_nowait()
        assert event
        found.append(event)
    return found


async def test_events_of_the_system_are_published_in_order(tmp_path: Path) -> None:
    operator = FakeOperator()
    said: list[str] = []
    async with publishing(operator, "a-run") as publisher:
        with record(tmp_path / "history.jsonl", publisher.note) as history:
            history.note("send", id="m1")
            publisher.also(said.append)("  Killing it.")
            history.note("fault", fault="kill-member", target="hazelcast-5701", owner=True)
            history.note("outcome", id="m1", outcome="acknowledged")
        publisher.verdict({"verdict": "pass"})
    events = told(operator)
    assert [(event.kind, event.detail) for event in events] == [("says", "Killing it."), ("fault", ""), ("verdict", "")]
    assert {(event.name, event.topic) for event in events} == {("a-run", Topic.SCENARIO)}
    assert events[1].facts["target"] == "hazelcast-5701"
    assert said == ["  Killing it."]


async def test_failed_scenario_is_published_too() -> None:
    operator = FakeOperator()
    with pytest.raises(ZeroDivisionError):
        async with publishing(operator, "a-run"):
            raise ZeroDivisionError
    assert [event.kind for event in told(operator)] == ["failed"]


class Deaf(FakeOperator):
    """A system that is gone, or hangs."""

    def __init__(self, *, hangs: bool) -> None:
        super().__init__()
        self._hangs = hangs

    async def announce(self, _event: Event) -> None:
        if self._hangs:
            await asyncio.Event().wait()
        raise NotRunningError("it is gone")


@pytest.mark.parametrize("hangs", [False, True])
async def test_who_cannot_be_told_keeps_nobody(hangs: bool) -> None:  # noqa: FBT001 - a case
    async with publishing(Deaf(hangs=hangs), "a-run", seconds=0.05) as publisher:
        publisher.verdict({"verdict": "pass"})
        publisher.also(lambda _text: None)("one more")
