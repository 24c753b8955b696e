"""How much the members' memory still takes, from what they said and what came since."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from support.fakes import (
    PLAIN,
    FakeMap,
    FakeQueue,
    FakeStore,
    calling,
    consumer,
    facade,
    logging_app,
    messages_app,
    until,
)

from microq.aio import running
from microq.backends.base import Refused
from microq.backends.hazelcast.monitor import AGENT_SUFFIX, Heap, Source, sources_in
from microq.capacity import Capacity, entry_bytes
from microq.client import open_session
from microq.config import Config
from microq.message import Message
from microq.services.app import HEALTH
from microq.services.room import LARGEST_BYTES, Guard, Member, NoRoomError, Room, Statement

MEBI = 1 << 20
SOURCE = Source("hazelcast-5701", "", "", "")
SMALL = Config("the test", Path()).with_settings("hazelcast", heap="32m")


def message(name: str, size: int = 500_000) -> Message:
    return Message(name, "x" * size)


def heap(used: int, live: int | None, collections: int, life: int = 1) -> Heap:
    return Heap(used, live, 1000, collections, life)


def test_what_came_since_is_added_to_what_a_member_said() -> None:
    assert Statement(used=400, done=100, reserve=50).limit(750) == 750 - 400 - 50 + 100


def test_garbage_counts_until_a_collection_tells_what_is_live() -> None:
    member = Member(SOURCE)
    member.hear(heap(600, None, 0), Statement(0, 0, 0), Statement(0, 0, 0))
    assert member.limit(750) == 150
    member.hear(heap(700, 300, 1), Statement(0, 80, 10), Statement(0, 90, 20))
    # Since the look before the collection: what was done after that may be in what is live or not.
    assert member.limit(750) == 750 - 300 - 10 + 80
    # With more garbage it is the collection that counts, with less what is in use.
    member.hear(heap(900, 300, 1), Statement(0, 90, 20), Statement(0, 100, 20))
    assert member.limit(750) == 520
    member.hear(heap(100, 300, 1), Statement(0, 100, 20), Statement(0, 100, 20))
    assert member.limit(750) == 730


def test_a_member_that_was_started_again_is_another_one() -> None:
    member = Member(SOURCE)
    member.hear(heap(600, 100, 1), Statement(0, 0, 0), Statement(0, 0, 0))
    assert (member.collection, member.limit(750)) == (None, 150)  # nobody knows when the collection was
    member.hear(heap(600, 100, 2), Statement(0, 0, 0), Statement(0, 0, 0))
    assert member.limit(750) == 650
    member.hear(heap(700, 20, 3, life=2), Statement(0, 0, 0), Statement(0, 0, 0))
    assert (member.collection, member.limit(750)) == (None, 50)


def test_waiting_bytes_are_bounded_until_stored() -> None:
    room = Room(SMALL)
    fit = SMALL.capacity.queue // (3 * entry_bytes(message("a")))
    costs = [room.enter(message(f"id-{n}")) for n in range(fit)]
    with pytest.raises(NoRoomError, match="3 MiB of the members' memory"):
        room.enter(message("one-too-many"))
    assert room.refusing
    assert room.enter(message("id-0")) == 0  # it is in
    room.settle("id-0", costs[0], written=True, waits=True)
    with pytest.raises(NoRoomError):
        room.enter(message("one-too-many"))
    room.leave("id-0")
    assert room.enter(message("one-too-many")) == 3 * entry_bytes(message("one-too-many"))
    assert not room.refusing
    room.settle("one-too-many", costs[0], written=False, waits=False)
    room.enter(message("another"))


def test_messages_of_earlier_facade_take_room_until_stored() -> None:
    room = Room(SMALL)
    fit = SMALL.capacity.queue // (3 * entry_bytes(message("a")))
    for number in range(fit + 1):  # the last one does not fit, and nothing can be done about it
        room.owe(message(f"id-{number}"))
    assert room.enter(message("id-0")) == 0  # it is in
    with pytest.raises(NoRoomError, match="3 MiB of the members' memory"):
        room.enter(message("new"))
    room.leave("id-0")
    assert room.enter(message("new")) == 3 * entry_bytes(message("new"))


@pytest.mark.parametrize("backend", ["hazelcast", "kafka"])
async def test_starting_facade_takes_room_of_unstored_messages(backend: str) -> None:
    config = replace(SMALL, queue=replace(SMALL.queue, backend=backend))
    store = FakeStore()
    fit = config.capacity.queue // (config.capacity.parts * entry_bytes(message("a")))
    store.log.entries.update({f"id-{n}": message(f"id-{n}").to_json() for n in range(fit)})
    async with facade(FakeQueue(), [logging_app(store.log)], config=config, store=store) as it:
        async with asyncio.timeout(10):
            while ((await it.get("/queue"))[1]["pending"] or 0) < fit:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.02)
        status, answer = await it.post({"msg": "x" * 500_000})
        assert (status, "no room" in answer["message"]) == (503, True)


def test_more_backups_than_members_that_stay_lower_the_bound() -> None:
    assert Capacity(256 * MEBI, members=3, backups=2, parts=3).bound == 0.75
    # Each of five holds three fifths, and of the three that may be left each has to hold all.
    assert Capacity(256 * MEBI, members=5, backups=2, parts=3).bound == pytest.approx(0.45)


def test_the_agents_of_a_run_are_found_in_its_folder(tmp_path: Path) -> None:
    assert sources_in(tmp_path) == []
    file = tmp_path / f"hazelcast-5701{AGENT_SUFFIX}"
    file.write_text("host=127.0.0.1\nport=7\nagentContext=/jolokia\nuser=me\npassword=a=b\n", encoding="utf-8")
    (tmp_path / f"hazelcast-5702{AGENT_SUFFIX}").write_text("being written", encoding="utf-8")
    assert sources_in(tmp_path) == [Source("hazelcast-5701", "http://127.0.0.1:7/jolokia/", "me", "a=b")]


def test_a_queue_elsewhere_takes_no_memory_of_the_members() -> None:
    kafka = replace(SMALL, queue=replace(SMALL.queue, backend="kafka"))
    assert Room(kafka).enter(message("a")) == 2 * entry_bytes(message("a"))


class Agent:
    """The agent of a member, over HTTP: how much is in use, of which a collection frees the garbage."""

    def __init__(self) -> None:
        self.live, self.garbage, self.silent, self.collections = 0, 0, False, 0

    async def answer(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if self.silent:
            return web.Response(status=500)
        if asked[0]["type"] == "exec":
            self.garbage, self.collections = 0, self.collections + 1
            return web.json_response([{"value": None}])
        used = {"used": self.live + self.garbage, "max": 1000 * MEBI}
        values = (
            {"Usage": used, "CollectionUsage": used},
            {"CollectionCount": 0},
            {"HeapMemoryUsage": used},
            {"StartTime": 1},
        )
        return web.json_response([{"value": value} for value in values])


@asynccontextmanager
async def guarded(folder: Path) -> AsyncIterator[tuple[Agent, Guard, aiohttp.ClientSession]]:
    agent, app = Agent(), web.Application()
    app.router.add_post("/jolokia/", agent.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    rows = f"host=127.0.0.1\nport={runner.addresses[0][1]}\nagentContext=/jolokia\nuser=me\npassword=a\n"
    (folder / f"hazelcast-5701{AGENT_SUFFIX}").write_text(rows, encoding="utf-8")
    try:
        async with open_session() as session:
            yield agent, Guard(replace(SMALL, source=str(folder / "config.toml"))), session
    finally:
        await runner.cleanup()


async def test_guard_grants_part_of_room_and_none_of_full_member(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (agent, guard, session):
        await guard.look(session)
        assert (guard.left, guard.full) == (850 * MEBI // 4, False)  # half of it, for two consumers
        agent.live = 851 * MEBI
        await guard.look(session)
        assert (guard.left <= 0, guard.full) == (True, True)
        agent.live = 849 * MEBI  # not yet more than a little
        await guard.look(session)
        assert guard.full
        agent.live = 600 * MEBI
        await guard.look(session)
        assert (guard.left, guard.full) == (250 * MEBI // 4, False)


async def test_a_guard_that_grants_nothing_looks_again(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (agent, guard, session):
        agent.live = 850 * MEBI - 3  # which is not full, and no byte for each
        await guard.look(session)
        assert (guard.left, guard.full) == (0, False)
        agent.live = 0
        async with running(guard.watch(session)), asyncio.timeout(20):
            await until(lambda: guard.left > 0)


async def test_a_guard_does_not_take_garbage_for_messages(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (agent, guard, session):
        agent.live, agent.garbage = 400 * MEBI, 500 * MEBI
        await guard.look(session)
        assert (guard.left, guard.full, agent.collections) == (450 * MEBI // 4, False, 1)


async def test_silent_member_is_granted_less_each_time(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (agent, guard, session):
        await guard.look(session)
        before, agent.silent = guard.left, True
        await guard.look(session)
        assert guard.left == before // 2


async def test_consumer_stops_before_members_are_full_and_resumes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "microq"):
        queue = FakeQueue([message(f"id-{n}", 100) for n in range(30)])
        async with guarded(tmp_path) as (agent, _, _):
            agent.live = 900 * MEBI
            config = replace(PLAIN, source=str(tmp_path / "config.toml"))
            app = messages_app(queue, FakeMap(), config=config)
            async with calling(app) as client, asyncio.timeout(20):
                await until(lambda: queue.leaves == 1)
                assert ((await client.get("/healthz"))[1]["full"], len(queue.items)) == (True, 30)
                agent.live = 100 * MEBI
                await until(lambda: app[HEALTH].held() == 30)
                assert (await client.get("/healthz"))[1]["full"] is False
    assert any("members' memory, [hazelcast] heap, has no room" in line for line in caplog.messages)


async def test_large_messages_are_received_few_at_a_time() -> None:
    class Counting(FakeQueue):
        def __init__(self, items: list[Message | Refused]) -> None:
            super().__init__(items)
            self.sizes: list[int] = []

        async def receive(self, most: int, seconds: float) -> list[Message | Refused]:
            found = await super().receive(most, seconds)
            self.sizes.append(len(found))
            return found

    large, small = (
        Counting([message(f"id-{n}") for n in range(40)]),
        Counting([message(f"id-{n}", 1) for n in range(40)]),
    )
    for queue in (large, small):
        found = consumer(queue, FakeMap()).consumer
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            tasks.create_task(found.run())
            await until(lambda: not queue.items)  # noqa: B023 - awaited here
            found.stop()
    assert max(large.sizes) == LARGEST_BYTES // entry_bytes(message("id-10")) == 8
    assert max(small.sizes) > 8
