"""The maps: an id keeps its first message, and what a failed write means is said without guessing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hazelcast.errors import HazelcastError
from support.fakes import FakeClient, FakeMap, message_map

from microq.backends.hazelcast import client as hz
from microq.backends.hazelcast.client import Page, Place
from microq.backends.hazelcast.maps import FIRST, PAGE, PAGE_BYTES
from microq.errors import StoreIndeterminateError, StoreUnavailableError
from microq.message import Message
from microq.store import Names, names

MESSAGES = [Message("a", "one"), Message("b", "two"), Message("c", "three")]


async def test_each_message_is_written_once_under_this_name() -> None:
    proxy = FakeMap()
    first = await message_map(proxy, "x").add(MESSAGES[:2])
    second = await message_map(proxy, "y").add(MESSAGES)
    assert [kept.new for kept in first] == [True, True]
    assert [(kept.message.id, kept.message.by, kept.new) for kept in second] == [
        ("a", "x", False),
        ("b", "x", False),
        ("c", "y", True),
    ]


async def test_nothing_to_add_is_nothing_added() -> None:
    assert await message_map(FakeMap()).add([]) == []


async def test_only_text_enters_the_cluster() -> None:
    proxy = FakeMap()
    await message_map(proxy).add(MESSAGES)
    assert {type(value) for value in (*proxy.entries, *proxy.entries.values())} == {str}


async def test_with_the_cluster_away_nothing_was_written() -> None:
    proxy, client = FakeMap(), FakeClient()
    client.up = False
    with pytest.raises(StoreUnavailableError):
        await message_map(proxy, client=client).add(MESSAGES)
    assert not proxy.entries


async def test_one_indeterminate_message_makes_all_indeterminate() -> None:
    proxy = FakeMap()
    proxy.errors.append(HazelcastError("no confirmation"))
    with pytest.raises(StoreIndeterminateError):
        await message_map(proxy).add(MESSAGES)
    assert len(proxy.entries) == 2


async def test_an_error_of_ours_is_not_taken_for_the_clusters() -> None:
    proxy = FakeMap()
    proxy.errors.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await message_map(proxy).add(MESSAGES)


async def test_an_entry_is_got_and_removed_by_its_id() -> None:
    entries = message_map(FakeMap())
    await entries.add(MESSAGES[:1])
    found = await entries.get("a")
    assert found
    assert found.text == "one"
    assert await entries.size() == 1
    assert await entries.remove("a")
    assert not await entries.remove("a")
    assert await entries.get("a") is None


async def test_all_are_in_the_order_of_their_times_and_none_is_foreign() -> None:
    late, early = Message("a", "late", 2.0), Message("b", "early", 1.0)
    odd = {"c": "no message", "d": hz.Foreign(-120)}
    proxy = FakeMap({"a": late.to_json(), "b": early.to_json(), **odd})
    assert await message_map(proxy).all() == [early, late]


def many(count: int) -> FakeMap:
    return FakeMap({f"id-{n}": Message(f"id-{n}", "x", float(n)).to_json() for n in range(count)})


@pytest.mark.parametrize("count", [0, 1, PAGE, PAGE + 1, 10 * PAGE])
async def test_a_scan_has_every_record_once_in_pages(count: int) -> None:
    pages = [page async for page in message_map(many(count)).scan()]
    assert max(map(len, pages)) <= PAGE
    assert sorted(message.at for page in pages for message in page) == list(range(count))


async def test_what_is_foreign_is_left_out_of_a_scan_as_well() -> None:
    proxy = many(2 * PAGE)
    proxy.entries |= {"c": "no message", "d": hz.Foreign(-120)}
    assert len([message async for page in message_map(proxy).scan() for message in page]) == 2 * PAGE


async def test_a_scan_that_gets_no_further_raises() -> None:
    proxy, client = many(2 * PAGE), FakeClient()
    entries = message_map(proxy, client=client)
    scan = entries.scan()
    await anext(scan)
    proxy.errors.append(HazelcastError("the member left"))
    with pytest.raises(StoreIndeterminateError):
        await anext(scan)
    scan = entries.scan()
    await anext(scan)
    client.up = False
    with pytest.raises(StoreUnavailableError):
        await anext(scan)


@pytest.mark.parametrize("count", [3, 10 * PAGE])
async def test_ids_that_another_map_lacks_are_told_in_pages(count: int) -> None:
    mine, theirs = many(count), many(count)
    gone = {f"id-{n}" for n in range(0, count, 2)}
    for each in gone:
        del theirs.entries[each]
    theirs.entries["only theirs"] = "x"
    pages = [page async for page in message_map(mine).ids_not_in(message_map(theirs))]
    assert max(map(len, pages)) <= PAGE
    assert sorted(each for page in pages for each in page) == sorted(gone)


async def test_call_without_answer_is_indeterminate() -> None:
    cluster = hz.Cluster(FakeClient(), 0.01)
    with pytest.raises(hz.IndeterminateError, match=r"no answer in 0\.01 s"):
        await cluster.call(asyncio.sleep(60))


@pytest.mark.parametrize("error", [HazelcastError("x"), OSError("x")])
async def test_error_of_the_client_is_indeterminate(error: Exception) -> None:
    async def failing() -> None:
        raise error

    with pytest.raises(hz.IndeterminateError):
        await hz.Cluster(FakeClient()).call(failing())


async def test_a_call_without_a_member_is_never_made(tmp_path: Path) -> None:
    async def touch() -> None:
        (tmp_path / "made").touch()

    client = FakeClient()
    client.up = False
    with pytest.raises(hz.UnavailableError):
        await hz.Cluster(client).call(touch())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("depth", [1, 2])
async def test_failure_on_many_keys_is_indeterminate_too(depth: int) -> None:
    async def failing() -> None:
        error: Exception = HazelcastError("the member left\n\tat the.server")
        for _ in range(depth):
            error = ExceptionGroup("one a partition", [error, HazelcastError("another")])
        raise error

    async def broken() -> None:
        raise ExceptionGroup("one a partition", [HazelcastError("away"), ZeroDivisionError()])

    with pytest.raises(hz.IndeterminateError, match=r"^HazelcastError: the member left$"):
        await hz.Cluster(FakeClient()).call(failing())
    with pytest.raises(ExceptionGroup):
        await hz.Cluster(FakeClient()).call(broken())


def test_the_maps_of_two_queues_have_no_name_in_common() -> None:
    queues = ("messages-queue", "messages", "messages-", "other", "messages-queue.log")
    assert names("messages-queue").log == "messages-map"
    assert len({name for queue in queues for name in names(queue)}) == len(Names._fields) * len(queues)


class Weighing(FakeMap):
    """It notes how many entries were read at once, and how many bytes were being put at the same time."""

    def __init__(self, entries: dict[str, str] | None = None) -> None:
        super().__init__(entries)
        self.pages: list[int] = []
        self.in_flight = self.most = 0

    async def put_if_absent(self, key: str, value: str) -> str | None:
        self.in_flight += len(value)
        self.most = max(self.most, self.in_flight)
        await asyncio.sleep(0)
        found: str | None = await super().put_if_absent(key, value)
        self.in_flight -= len(value)
        return found

    async def page_of_values(self, partition: int, place: Place, most: int) -> Page:
        page = await super().page_of_values(partition, place, most)
        self.pages.append(len(page.items))
        return page


@pytest.mark.parametrize(("size", "most"), [(1_000_000, FIRST), (10, PAGE)])
async def test_pages_have_so_many_entries_as_their_size_allows(size: int, most: int) -> None:
    count = 4 * most
    proxy = Weighing({str(n): Message(str(n), "x" * size).to_json() for n in range(count)})
    found = message_map(proxy)

    async def read() -> int:
        return sum([len(page) async for page in found.scan()])

    assert await read() == count
    assert max(proxy.pages) <= most
    proxy.pages.clear()
    assert await read() == count
    assert max(proxy.pages) * size <= PAGE_BYTES


async def test_large_messages_are_written_a_few_at_a_time() -> None:
    proxy = Weighing()
    kept = await message_map(proxy).add([Message(str(n), "x" * 1_000_000) for n in range(10)])
    assert [each.message.id for each in kept] == [str(n) for n in range(10)]
    assert all(each.new for each in kept)
    assert 1_000_000 < proxy.most <= PAGE_BYTES
