"""The recorder: it tells who watches, writes what changed, and leaves a system that starts in peace."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from support.fakes import until
from support.operators import SNAPSHOT, FakeOperator

from microq import timeline
from microq.aio import Broadcast
from microq.dashboard.recorder import WAITING, ServerSent, recording
from microq.fleet import Event, Topic
from microq.timeline import Frame


def frames(folder: Path) -> list[Frame]:
    return [each for each in timeline.read(folder) if isinstance(each, Frame)]


async def test_an_event_reaches_who_watches_and_brings_a_look(tmp_path: Path) -> None:
    operator = FakeOperator()
    async with recording(operator, tmp_path) as recorder:
        watching = recorder.watchers.listen()
        first = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0)
        operator.told.put_nowait(Event(1.0, "hazelcast-5701", "exited", "by SIGKILL"))
        told = [await first]
        while (told[0][0], told[-1][0]) != ("event", "frame"):
            told.append(await anext(watching))
        assert told[0][1]["detail"] == "by SIGKILL"
        frame = told[-1][1]["frame"]
        assert (frame["owner"], frame["safe"]) == ("hazelcast-5701", SNAPSHOT.safe)
        assert frame["last"]["hazelcast-5701"]["items"] == 7
        state = recorder.state()
        assert [event["kind"] for event in state["events"]] == ["exited"]
        assert state["points"][-1]["depth"] == 7
    assert [type(each) for each in timeline.read(tmp_path)].count(Event) == 1


async def test_who_comes_while_nobody_watched_waits_for_no_look(tmp_path: Path) -> None:
    operator = FakeOperator()
    async with recording(operator, tmp_path, least=0.0) as recorder:
        await until(lambda: operator.looks == 1)  # the next one is due in ten seconds
        async with asyncio.timeout(5):
            assert (await anext(recorder.watchers.listen()))[0] == "frame"
        assert operator.looks == 2


async def test_what_a_silent_server_said_last_is_kept(tmp_path: Path) -> None:
    operator = FakeOperator()
    async with recording(operator, tmp_path) as recorder:
        await recorder.refresh()
        operator.view = replace(SNAPSHOT, members=(), taken_at=9.0)
        await recorder.refresh()
        frame = recorder.state()["frame"]
        assert frame["members"] == ()
        assert frame["last"]["hazelcast-5701"]["items"] == 7


async def test_a_system_that_is_left_alone_fills_no_disk(tmp_path: Path) -> None:
    operator = FakeOperator()
    async with recording(operator, tmp_path) as recorder:
        for second in range(3):
            operator.view = replace(SNAPSHOT, taken_at=10.0 + second)
            await recorder.refresh()
        operator.view = replace(SNAPSHOT, taken_at=13.0, queue=None)
        await recorder.refresh()
    assert [frame.snapshot.queue is None for frame in frames(tmp_path)] == [False, True]


async def test_a_start_is_left_in_peace(tmp_path: Path) -> None:
    operator = FakeOperator()
    operator.told.put_nowait(Event(1.0, "hazelcast-5701", "starting"))
    async with recording(operator, tmp_path, least=0.0) as recorder:
        await until(lambda: bool(recorder.story.events))
        looks = operator.looks
        for _ in range(50):
            await asyncio.sleep(0)
        assert operator.looks == looks
        operator.told.put_nowait(Event(1.0, "hazelcast-5701", "ready"))
        await until(lambda: operator.looks > looks)


async def test_the_scenario_that_runs_is_told_to_who_comes_later(tmp_path: Path) -> None:
    operator = FakeOperator()
    async with recording(operator, tmp_path) as recorder:
        assert recorder.state()["scenario"] is None
        for name, kind in (("old", "verdict"), ("new", "begin"), ("new", "fault")):
            operator.told.put_nowait(Event(1.0, name, kind, topic=Topic.SCENARIO))
        await until(lambda: len(recorder.story.events) == 3)
        scenario = recorder.state()["scenario"]
        assert scenario["running"]
        assert (scenario["name"], [each["kind"] for each in scenario["events"]]) == ("new", ["begin", "fault"])
        operator.told.put_nowait(Event(2.0, "new", "verdict", topic=Topic.SCENARIO))
        await until(lambda: not recorder.story.running)
        assert not recorder.state()["scenario"]["running"]


async def test_who_is_too_slow_is_let_go_and_the_others_hear_on() -> None:
    watchers = Broadcast[ServerSent](WAITING)
    slow, quick = watchers.listen(), watchers.listen()
    waits = [asyncio.ensure_future(anext(each)) for each in (slow, quick)]
    await asyncio.sleep(0)
    watchers.send(("event", 0))
    await asyncio.gather(*waits)
    for number in range(1, WAITING + 5):
        watchers.send(("event", number))
        assert (await anext(quick))[1] == number
    assert [number async for _, number in slow] == list(range(1, WAITING + 1))
    watchers.end()
    assert [each async for each in quick] == []
    assert [each async for each in watchers.listen()] == []
