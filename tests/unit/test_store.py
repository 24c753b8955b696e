"""The maps: an id keeps its first message, and what a failed write means is said without guessing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fakes import FakeClient, FakeMap, message_map
from hazelcast.errors import HazelcastError

from microq import hz
from microq.errors import StoreAwayError, StoreUncertainError
from microq.maps import PAGE
from microq.message import Message

MESSAGES = [Message("a", "one"), Message("b", "two"), Message("c", "three")]


def test_each_message_is_written_once_under_this_name() -> None:
    proxy = FakeMap()
    first = asyncio.run(message_map(proxy, "x").add(MESSAGES[:2]))
    second = asyncio.run(message_map(proxy, "y").add(MESSAGES))
    assert [kept.new for kept in first] == [True, True]
    assert [(kept.message.id, kept.message.by, kept.new) for kept in second] == [
        ("a", "x", False),
        ("b", "x", False),
        ("c", "y", True),
    ]


def test_nothing_to_add_is_nothing_added() -> None:
    assert asyncio.run(message_map(FakeMap()).add([])) == []


def test_only_text_enters_the_cluster() -> None:
    proxy = FakeMap()
    asyncio.run(message_map(proxy).add(MESSAGES))
    assert {type(value) for value in (*proxy.entries, *proxy.entries.values())} == {str}


def test_with_the_cluster_away_nothing_was_written() -> None:
    proxy, client = FakeMap(), FakeClient()
    client.up = False
    with pytest.raises(StoreAwayError):
        asyncio.run(message_map(proxy, client=client).add(MESSAGES))
    assert not proxy.entries


def test_if_one_of_several_is_uncertain_all_are() -> None:
    proxy = FakeMap()
    proxy.errors.append(HazelcastError("no confirmation"))
    with pytest.raises(StoreUncertainError):
        asyncio.run(message_map(proxy).add(MESSAGES))
    assert len(proxy.entries) == 2


def test_an_error_of_ours_is_not_taken_for_the_clusters() -> None:
    proxy = FakeMap()
    proxy.errors.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        asyncio.run(message_map(proxy).add(MESSAGES))


def test_an_entry_is_got_and_removed_by_its_id() -> None:
    async def main() -> None:
        entries = message_map(FakeMap())
        await entries.add(MESSAGES[:1])
        found = await entries.get("a")
        assert found
        assert found.text == "one"
        assert await entries.size() == 1
        assert await entries.remove("a")
        assert not await entries.remove("a")
        assert await entries.get("a") is None

    asyncio.run(main())


def test_all_are_in_the_order_of_their_times_and_none_is_foreign() -> None:
    late, early = Message("a", "late", 2.0), Message("b", "early", 1.0)
    odd = {"c": "no message", "d": hz.Foreign(-120)}
    proxy = FakeMap({"a": late.to_json(), "b": early.to_json(), **odd})
    assert asyncio.run(message_map(proxy).all()) == [early, late]


def many(count: int) -> FakeMap:
    return FakeMap({f"id-{n}": Message(f"id-{n}", "x", float(n)).to_json() for n in range(count)})


@pytest.mark.parametrize("count", [0, 1, PAGE, PAGE + 1, 10 * PAGE])
def test_a_scan_has_every_record_once_in_pages(count: int) -> None:
    async def main() -> None:
        pages = [page async for page in message_map(many(count)).scan()]
        assert max(map(len, pages)) <= PAGE
        assert sorted(message.at for page in pages for message in page) == list(range(count))

    asyncio.run(main())


def test_what_is_foreign_is_left_out_of_a_scan_as_well() -> None:
    async def main() -> None:
        proxy = many(2 * PAGE)
        proxy.entries |= {"c": "no message", "d": hz.Foreign(-120)}
        assert len([message async for page in message_map(proxy).scan() for message in page]) == 2 * PAGE

    asyncio.run(main())


def test_a_scan_that_gets_no_further_raises() -> None:
    async def main() -> None:
        proxy, client = many(2 * PAGE), FakeClient()
        entries = message_map(proxy, client=client)
        scan = entries.scan()
        await anext(scan)
        proxy.errors.append(HazelcastError("the member left"))
        with pytest.raises(StoreUncertainError):
            await anext(scan)
        scan = entries.scan()
        await anext(scan)
        client.up = False
        with pytest.raises(StoreAwayError):
            await anext(scan)

    asyncio.run(main())


@pytest.mark.parametrize("count", [3, 10 * PAGE])
def test_ids_that_another_map_lacks_are_told_in_pages(count: int) -> None:
    async def main() -> None:
        mine, theirs = many(count), many(count)
        gone = {f"id-{n}" for n in range(0, count, 2)}
        for each in gone:
            del theirs.entries[each]
        theirs.entries["only theirs"] = "x"
        pages = [page async for page in message_map(mine).ids_not_in(message_map(theirs))]
        assert max(map(len, pages)) <= PAGE
        assert sorted(each for page in pages for each in page) == sorted(gone)

    asyncio.run(main())


def test_a_call_that_gets_no_answer_is_uncertain() -> None:
    async def main() -> None:
        cluster = hz.Cluster(FakeClient())
        with pytest.raises(hz.UncertainError, match=r"no answer in 0\.01 s"):
            await cluster.call(asyncio.sleep(60), seconds=0.01)

    asyncio.run(main())


@pytest.mark.parametrize("error", [HazelcastError("x"), OSError("x")])
def test_an_error_of_the_client_is_uncertain(error: Exception) -> None:
    async def failing() -> None:
        raise error

    async def main() -> None:
        with pytest.raises(hz.UncertainError):
            await hz.Cluster(FakeClient()).call(failing())

    asyncio.run(main())


def test_a_call_without_a_member_is_never_made(tmp_path: Path) -> None:
    async def touch() -> None:
        (tmp_path / "made").touch()

    async def main() -> None:
        client = FakeClient()
        client.up = False
        with pytest.raises(hz.AwayError):
            await hz.Cluster(client).call(touch())

    asyncio.run(main())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("depth", [1, 2])
def test_what_fails_on_many_keys_at_once_is_as_uncertain_as_on_one(depth: int) -> None:
    async def failing() -> None:
        error: Exception = HazelcastError("the member left\n\tat the.server")
        for _ in range(depth):
            error = ExceptionGroup("one a partition", [error, HazelcastError("another")])
        raise error

    async def broken() -> None:
        raise ExceptionGroup("one a partition", [HazelcastError("away"), ZeroDivisionError()])

    async def main() -> None:
        with pytest.raises(hz.UncertainError, match=r"^HazelcastError: the member left$"):
            await hz.Cluster(FakeClient()).call(failing())
        with pytest.raises(ExceptionGroup):
            await hz.Cluster(FakeClient()).call(broken())

    asyncio.run(main())
