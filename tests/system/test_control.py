"""The control socket, with a small operator behind it instead of a system."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from support.operators import KNOWN, SNAPSHOT, FakeOperator

from microq.config import Config
from microq.errors import NotRunningError, RemoteError
from microq.fleet import Event, Operator, Topic
from microq.supervisor import control, records


@asynccontextmanager
async def controlled(folder: Path) -> AsyncIterator[tuple[FakeOperator, control.ControlClient, asyncio.Event]]:
    config, operator, ended = Config("the test", folder), FakeOperator(), asyncio.Event()
    checked: Operator = operator
    with records.locked(config):
        async with control.serve(config, checked, ended), control.connect(config) as client:
            yield operator, client, ended


async def test_a_defect_arrives_with_its_role(tmp_path: Path) -> None:
    async with controlled(tmp_path) as (operator, client, _):
        await client.sabotage("facade", "no-redelivery")
        assert operator.asked[-1] == ("facade", ["no-redelivery"])


async def test_verbs_and_their_names_arrive(tmp_path: Path) -> None:
    async with controlled(tmp_path) as (operator, client, _):
        for verb in ("start", "stop", "pause", "resume"):
            assert await getattr(client, verb)(KNOWN) == KNOWN
        assert operator.asked == [(verb, KNOWN) for verb in ("start", "stop", "pause", "resume")]


async def test_an_error_keeps_its_code_and_exit_code(tmp_path: Path) -> None:
    async with controlled(tmp_path) as (_, client, _ended):
        with pytest.raises(RemoteError, match="it did not go") as caught:
            await client.kill(KNOWN)
        assert (caught.value.code, caught.value.exit_code) == ("deadline", 5)
        with pytest.raises(RemoteError, match=r"'nobody'; the names are messages-5001, messages-5002") as caught:
            await client.stop(["nobody"])
        assert (caught.value.code, caught.value.exit_code) == ("unknown-name", 2)


async def test_a_fault_of_the_supervisor_is_no_traceback_of_the_client(tmp_path: Path) -> None:
    async with controlled(tmp_path) as (_, client, _ended):
        with pytest.raises(NotRunningError, match="answered 500 to POST /restart"):
            await client.restart(KNOWN)


async def test_a_snapshot_arrives_whole(tmp_path: Path) -> None:
    async with controlled(tmp_path) as (_, client, _ended):
        assert await client.snapshot() == SNAPSHOT


async def test_events_stream(tmp_path: Path) -> None:
    sent = [
        Event(1.0, "messages-5001", "starting"),
        Event(2.0, "messages-5001", "exited", "by SIGKILL"),
        Event(3.0, "a-run", "step", "", Topic.SCENARIO, {"what": "killed", "since": 0.5}),
    ]
    async with controlled(tmp_path) as (operator, client, _):
        for event in (*sent, None):
            operator.told.put_nowait(event)
        assert [event async for event in client.events()] == sent


async def test_what_a_scenario_announces_arrives(tmp_path: Path) -> None:
    event = Event(1.0, "a-run", "fault", "", Topic.SCENARIO, {"target": "hazelcast-5701", "owner": True})
    async with controlled(tmp_path) as (operator, client, _):
        await client.announce(event)
        assert operator.told.get_nowait() == event


async def test_events_end_when_the_supervisor_goes(tmp_path: Path) -> None:
    config, operator, heard = Config("the test", tmp_path), FakeOperator(), asyncio.Event()
    operator.told.put_nowait(Event(1.0, "messages-5001", "stopped"))

    async def listen() -> None:
        async with control.connect(config) as client:
            async for _ in client.events():
                heard.set()

    with records.locked(config):
        async with asyncio.TaskGroup() as tasks, control.serve(config, operator, asyncio.Event()):
            tasks.create_task(listen())
            await heard.wait()


async def test_down_sets_the_end(tmp_path: Path) -> None:
    async with controlled(tmp_path) as (_, client, ended):
        assert not ended.is_set()
        await client.down()
        assert ended.is_set()


async def test_socket_is_private_and_ends_with_supervisor(tmp_path: Path) -> None:
    path = records.socket_path(Config("the test", tmp_path))
    async with controlled(tmp_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


async def test_a_socket_left_by_a_killed_supervisor_is_replaced(tmp_path: Path) -> None:
    path = records.socket_path(Config("the test", tmp_path))
    path.parent.mkdir()
    path.touch()
    async with controlled(tmp_path) as (_, client, _ended):
        assert await client.snapshot() == SNAPSHOT


async def test_a_deep_folder_has_a_socket_too(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-name-of-a-folder"] * 5)
    deep.mkdir(parents=True)
    path = records.socket_path(Config("the test", deep))
    async with controlled(deep) as (_, client, _ended):
        assert await client.snapshot() == SNAPSHOT
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.parent.stat().st_uid == os.getuid()
    path.parent.rmdir()


async def test_no_supervisor_is_said_with_the_command_that_starts_one(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match=r"no system runs in .*; `microq up` starts it$"):
        async with control.connect(Config("the test", tmp_path)):
            pass


async def test_a_supervisor_that_went_away_is_not_running(tmp_path: Path) -> None:
    config = Config("the test", tmp_path)
    with records.locked(config):
        async with control.connect(config) as client:
            with pytest.raises(NotRunningError, match="no system runs here"):
                await client.snapshot()


async def test_another_verb_is_no_way_in(tmp_path: Path) -> None:
    config = Config("the test", tmp_path)
    async with controlled(tmp_path):
        connector = aiohttp.UnixConnector(str(records.socket_path(config)))
        async with aiohttp.ClientSession(connector=connector) as session:
            for path in ("/snapshot", "/act", "/events"):
                async with session.post(f"http://microq{path}", json={"names": []}) as response:
                    assert response.status in (404, 405)
