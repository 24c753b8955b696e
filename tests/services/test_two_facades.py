"""Two facades, or two workers of one, over one log: neither takes from under a message what the other relies on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from support.fakes import PLAIN, Caller, FakeClient, FakeMap, FakeQueue, FakeStore, facade, serving

from microq.backends.hazelcast import client as hz
from microq.backends.hazelcast.maps import Kept, LogMap
from microq.client import open_session
from microq.config import Config
from microq.errors import QueueFullError, StoreIndeterminateError
from microq.message import Message
from microq.services import logging
from microq.services.health import Health
from microq.services.redelivery import Watch
from microq.store import Store, StoreOpener

WORDS = {"msg": "hello", "uuid": "a"}


class Blocked(FakeQueue):
    """It refuses everything, but only once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def put(self, messages: Sequence[Message]) -> None:
        self.asked.set()
        await self.go.wait()
        raise QueueFullError(f"no room for {len(messages)}")


class Unrenewed(LogMap):
    """The log as it would be if an entry belonged to whoever wrote it first."""

    async def _renewed(self, message: Message, kept: Kept) -> Kept:
        del message
        return kept


def opener(log: FakeMap, kind: type[LogMap]) -> StoreOpener:
    @asynccontextmanager
    async def open_fake(_config: Config, name: str) -> AsyncIterator[Store]:
        yield replace(FakeStore().real(name), log=kind(hz.Cluster(FakeClient()), log, name))

    return open_fake


@dataclass
class Scene:
    """A facade whose queue refuses late, one whose queue takes everything, and the log of both."""

    refused: Caller
    accepted: Caller
    blocked: Blocked
    queue: FakeQueue
    log: FakeMap


@asynccontextmanager
async def scene(log: FakeMap | None = None, kind: type[LogMap] = LogMap) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        log, blocked, queue = log or FakeMap(), Blocked(), FakeQueue()
        place = await stack.enter_async_context(serving(logging.make_app(PLAIN, "logging-1", opener(log, kind))))
        first = await stack.enter_async_context(facade(blocked, [place]))
        second = await stack.enter_async_context(facade(queue, [place]))
        yield Scene(first, second, blocked, queue, log)


async def interleaved(it: Scene) -> tuple[int, int]:
    """Send one id by both: the first has written the log when the second begins, and is refused when it has ended."""
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(it.refused.post(WORDS))
        await it.blocked.asked.wait()
        second, _ = await it.accepted.post(WORDS)
        it.blocked.go.set()
    return first.result()[0], second


async def test_acknowledged_entry_outlives_refused_writer() -> None:
    async with scene() as it:
        assert await interleaved(it) == (504, 200)
        assert set(it.log.entries) == {"a"}
        assert len(it.queue.items) == 1


async def test_entry_of_first_writer_would_be_missing() -> None:
    async with scene(kind=Unrenewed) as it:
        assert await interleaved(it) == (503, 200)
        assert not it.log.entries
        assert len(it.queue.items) == 1


class Snatched(FakeMap):
    """An entry is taken back between the look at it and its renewal."""

    snatches = 1

    async def replace_if_same(self, key: str, old: Any, new: Any) -> bool:
        if self.snatches:
            self.snatches -= 1
            self.entries.pop(key)
        return await super().replace_if_same(key, old, new)


@pytest.mark.parametrize("kind", [FakeMap, Snatched])
async def test_an_entry_that_goes_at_that_very_moment_is_written_anew(kind: type[FakeMap]) -> None:
    old = Message("a", "hello", 1.0, "logging-9").to_json()
    async with scene(kind({"a": old})) as it:
        status, body = await it.accepted.post(WORDS)
        entry = Message.from_json(it.log.entries["a"])
        assert (status, body["logging-service"]) == (200, "logging-1")
        assert entry.text == "hello"
        assert entry.at > 1.0
        assert entry.by == ("logging-9" if kind is FakeMap else "logging-1")


async def test_unconfirmed_renewal_leaves_all_indeterminate() -> None:
    client = FakeClient()

    class Lost(FakeMap):
        async def get(self, key: str) -> Any:
            client.up = False
            return await super().get(key)

    log = Lost({"a": Message("a", "hello").to_json()})
    with pytest.raises(StoreIndeterminateError):
        await LogMap(hz.Cluster(client), log, "logging-1").add([Message("b", "new"), Message("a", "hello")])
    assert "b" in log.entries


async def test_another_text_renews_nothing() -> None:
    log = FakeMap({"a": (old := Message("a", "another", 1.0).to_json())})
    async with scene(log) as it:
        assert (await it.accepted.post(WORDS))[0] == 422
        assert log.entries == {"a": old}


async def test_redelivered_entry_outlives_refused_send() -> None:
    """The redelivering one watches it since a send of which nobody knew; another one has just written it."""
    async with scene() as it, open_session() as session:
        store = FakeStore(log=it.log)
        watch = Watch(PLAIN, session, it.queue, store.real("facade-2"), Health("facade-2"))
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(it.refused.post(WORDS))
            await it.blocked.asked.wait()
            watch.expect(Message("a", WORDS["msg"]))
            await watch._redeliver_one("a")
            it.blocked.go.set()
        assert sending.result()[0] == 504
        assert set(it.log.entries) == {"a"}
        assert len(it.queue.items) == 1
