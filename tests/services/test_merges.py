"""After members joined: it is looked until nothing is missing, and no answer is silent about what may be missing."""

from __future__ import annotations

import asyncio
from collections import deque

from hazelcast.errors import HazelcastError
from support.fakes import (
    PLAIN,
    Caller,
    FakeMap,
    FakeQueue,
    FakeStore,
    calling,
    facade,
    logging_app,
    messages_app,
    queue_opener,
    until,
)

from microq.message import Message
from microq.replicas import MERGING
from microq.services import logging, messages
from microq.services.app import HEALTH
from microq.services.merges import Mark, Merges
from microq.store import Store

QUICK = 0.01


def entry(message_id: str, by: str = "") -> str:
    return Message(message_id, f"text of {message_id}", 1.0, by).to_json()


class Joining(FakeStore):
    """A store that a test tells of joins, through `joined`."""

    joined: asyncio.Event

    def real(self, name: str) -> Store:
        found = super().real(name)
        self.joined = found.joined
        return found


async def followed(missing: list[int | None]) -> list[int]:
    """Let one member join, and return at which looks it was still in doubt, when there are no more."""
    joined, looks, doubts = asyncio.Event(), deque(missing), list[int]()
    merges = Merges(joined)
    merges.settle_seconds = QUICK

    async def look() -> int | None:
        if merges.in_doubt:
            doubts.append(len(missing) - len(looks))
        return looks.popleft()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        following = tasks.create_task(merges.follow(look))
        assert not merges.in_progress
        joined.set()
        assert (merges.in_progress, merges.in_doubt) == (True, True)
        await until(lambda: not looks)
        await until(lambda: not merges.in_progress)
        assert not merges.in_doubt
        following.cancel()
    return doubts


async def test_it_is_looked_until_two_looks_find_nothing_missing() -> None:
    assert await followed([0, 0]) == [0]
    assert await followed([3, 0, 0]) == [0, 1]
    assert await followed([None, 0, 2, 0, 0]) == [0, 1, 3]


async def test_a_join_during_the_looks_begins_them_anew() -> None:
    joined, looks = asyncio.Event(), 0
    merges = Merges(joined)
    merges.settle_seconds = QUICK

    async def look() -> int:
        nonlocal looks
        looks += 1
        if looks == 1:
            joined.set()
        return 0

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        following = tasks.create_task(merges.follow(look))
        joined.set()
        await until(lambda: looks > 0 and not merges.in_progress)
        following.cancel()
    assert looks == 3


async def test_slow_check_is_followed_by_one_that_misses_nothing() -> None:
    joined, found = asyncio.Event(), list[int]()
    merges = Merges(joined)
    merges.settle_seconds, merges.most_seconds = QUICK, 5 * QUICK

    async def look() -> int:
        await asyncio.sleep(10 * QUICK)
        found.append(1)
        return 1

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        following = tasks.create_task(merges.follow(look))
        joined.set()
        await until(lambda: len(found) > 0 and not merges.in_progress)
        following.cancel()
    assert found == [1, 1]


async def test_log_that_shrank_is_in_doubt_until_complete() -> None:
    store = Joining(log=FakeMap({name: entry(name) for name in "abc"}))
    log = store.real("logging-1").log
    mark = Mark(log, store.joined)
    mark.look_seconds = mark.merges.settle_seconds = QUICK
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(mark.follow()), tasks.create_task(mark.merges.follow(mark.missing))]
        await until(lambda: mark.size == 3)
        del store.log.entries["a"]  # it was taken back
        await until(lambda: mark.size == 2)
        lost = store.log.entries.pop("b")
        store.joined.set()
        await asyncio.sleep(10 * QUICK)
        assert (mark.in_doubt, mark.size) == (True, 2)
        store.log.errors.append(HazelcastError("not now"))
        store.log.entries["b"] = lost
        await until(lambda: not mark.in_doubt)
        store.joined.set()
        await until(lambda: not mark.merges.in_progress)
        for task in working:
            task.cancel()


async def test_logging_service_marks_answers_while_merging() -> None:
    store = Joining(log=FakeMap({"a": entry("a"), "b": entry("b")}))
    app = logging.make_app(PLAIN, "logging-1", store.opener())
    async with calling(app) as client, asyncio.timeout(20):
        assert await headers(client, "/log") is None
        assert (await client.get("/healthz"))[1]["merging"] is False
        store.joined.set()
        await asyncio.sleep(0)
        assert (await client.get("/healthz"))[1]["merging"] is False, "it has not seen yet that there is anything"
    app = logging.make_app(PLAIN, "logging-1", store.opener())
    async with calling(app) as client, asyncio.timeout(20):
        await until(lambda: app[logging.MARK].size == 2)
        store.joined.set()
        assert await headers(client, "/log") == "true"
        assert (await client.get("/healthz"))[1]["merging"] is True
        await until(lambda: not app[HEALTH].merging())
        assert await headers(client, "/log") is None


async def headers(client: Caller, path: str) -> str | None:
    async with client.session.get(client.address.url + path) as response:
        return response.headers.get(MERGING)


async def test_a_messages_service_and_the_facade_say_it_too() -> None:
    store = Joining(stored=FakeMap({"a": entry("a", "messages-1")}))
    app = messages.make_app(PLAIN, "messages-1", queue_opener(FakeQueue()), store.opener())
    async with calling(app) as consumer, asyncio.timeout(20):
        async with facade(FakeQueue(), [logging_app(FakeMap())], [consumer.address]) as client:
            body = (await client.get("/facade"))[1]
            assert (body["message"], body["merging"]) == (["text of a"], False)
            store.joined.set()
            body = (await client.get("/facade"))[1]
            assert (body["message"], body["merging"]) == (["text of a"], True)
        app[messages.CONSUMER].claims.spread_seconds = 0
        await until(lambda: not app[HEALTH].merging())
        assert await headers(consumer, "/messages") is None


async def test_empty_messages_service_is_not_in_doubt() -> None:
    app = messages_app(FakeQueue(), FakeMap())
    async with calling(app) as client:
        assert (await client.get("/healthz"))[1]["merging"] is False
        app[messages.CONSUMER].claims.merges._joined.set()
        assert (await client.get("/healthz"))[1]["merging"] is False
