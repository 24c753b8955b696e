"""Reading whole maps of real members: every entry once, also while the map grows and while a member dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.project import Project

from microq.backends.hazelcast import client as hz
from microq.backends.hazelcast.maps import PAGE, MessageMap
from microq.config import Config
from microq.errors import UsageError
from microq.message import Message
from microq.supervisor import control

COUNT = 20_000


@asynccontextmanager
async def opened(config: Config, *names: str) -> AsyncIterator[list[tuple[Any, MessageMap]]]:
    """Open maps, as the client sees them and as the services do; they are gone afterwards."""
    async with hz.connect(config, "the test") as cluster:
        proxies = [await cluster.map(name) for name in names]
        yield [(proxy, MessageMap(cluster, proxy, "logging-1")) for proxy in proxies]
        for proxy in proxies:
            await proxy.destroy()


async def fill(proxy: Any, begin: int, end: int, step: int = 1) -> None:
    for start in range(begin, end, 1000):
        numbers = range(start, min(start + 1000, end), step)
        await proxy.put_all({f"id-{n}": Message(f"id-{n}", "x" * 100, float(n)).to_json() for n in numbers})


async def counted(entries: MessageMap) -> Counter[str]:
    return Counter([message.id async for page in entries.scan() for message in page])


def once(begin: int, end: int) -> Counter[str]:
    return Counter(f"id-{n}" for n in range(begin, end))


@pytest.mark.parametrize("count", [0, 1, PAGE, PAGE + 1, COUNT])
async def test_every_entry_comes_once(system: Project, count: int) -> None:
    async with opened(system.config, "scanned") as [(proxy, entries)]:
        await fill(proxy, 0, count)
        assert await counted(entries) == once(0, count)


async def test_cluster_of_another_name_is_refused_at_once(system: Project) -> None:
    config = system.config.with_settings("hazelcast", hazelcast_cluster_name="other")
    # Not after the 600 s for which a cluster that starts would be waited for.
    with pytest.raises(UsageError, match=r'its name is not "other", as \[hazelcast\] hazelcast-cluster-name says'):
        async with hz.connect(config, "the test", seconds=600):
            pass


async def test_what_is_not_text_is_left_out_and_never_unpickled(system: Project) -> None:
    async with opened(system.config, "scanned") as [(proxy, entries)]:
        await fill(proxy, 0, 2 * PAGE)
        await proxy.put("a number", 7)
        await proxy.put("an object", {1, 2})
        await proxy.put(("a", "key"), "no message")
        assert await counted(entries) == once(0, 2 * PAGE)


async def test_what_was_there_comes_once_while_the_map_grows(system: Project) -> None:
    async with opened(system.config, "scanned") as [(proxy, entries)]:
        await fill(proxy, 0, COUNT)
        growing = asyncio.create_task(fill(proxy, COUNT, 8 * COUNT))
        found = await counted(entries)
        await growing
        assert set(found.values()) == {1}
        assert not once(0, COUNT) - found


async def test_ids_that_another_map_lacks_are_told_once(system: Project) -> None:
    async with opened(system.config, "scanned", "less") as [(more, entries), (less, others)]:
        await fill(more, 0, COUNT)
        await fill(less, 0, COUNT, step=2)
        await less.put("only there", "x")
        found = Counter([each async for page in entries.ids_not_in(others) for each in page])
        assert found == Counter(f"id-{n}" for n in range(1, COUNT, 2))


async def test_what_was_there_comes_once_although_a_member_dies(system: Project) -> None:
    victim = f"hazelcast-{system.config.hazelcast.hazelcast_clients[0].port}"
    async with opened(system.config, "scanned") as [(proxy, entries)], control.connect(system.config) as operator:
        await fill(proxy, 0, COUNT)
        found = Counter[str]()
        try:
            async for page in entries.scan():
                if not found:
                    await operator.kill([victim])
                found.update(message.id for message in page)
        finally:
            await operator.start([victim])
        assert found == once(0, COUNT)
