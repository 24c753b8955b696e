"""What a dead messages-service stored: others take it over after a while, and nobody shows what another one has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hazelcast.errors import HazelcastError
from support.fakes import (
    PLAIN,
    FakeClient,
    FakeMap,
    FakeQueue,
    FakeStore,
    calling,
    facade,
    ids_of,
    logging_app,
    queue_opener,
    until,
)

from microq.aio import running
from microq.backends.hazelcast.client import Page, Place
from microq.client import FacadeClient
from microq.clock import REAL
from microq.config import Address, Config, ServiceIps
from microq.errors import StoreError
from microq.message import Message
from microq.services import messages
from microq.services.health import Health
from microq.services.inbox import Inbox
from microq.services.takeover import Claims, Tenancy
from microq.store import Lease, Silence

SOON = 1
"""Seconds after which a messages-service of these tests is taken for dead."""

A, B = "messages-5001", "messages-5002"


def configured(after: int = SOON) -> Config:
    ips = ServiceIps(messages_service=(Address("127.0.0.1", 5001), Address("127.0.0.1", 5002)))
    return replace(PLAIN, queue=replace(PLAIN.queue, take_over_after=after), service_ips=ips)


class Instance:
    """One messages-service, as far as its lease goes. It is paused where nothing of it is run."""

    def __init__(self, name: str, store: FakeStore, room: int = 1_000_000, after: int = SOON) -> None:
        self.room = room
        self.health = Health(name)
        self.held = Inbox(name)
        real = store.real(name)
        self.claims = Claims(real, self.health, self.held, lambda: None)
        self.tenancy = Tenancy(
            configured(after), real, self.health, self.held, self.claims, lambda: self.room - len(self.held)
        )

    async def start(self) -> None:
        """Begin as a service does."""
        await self.tenancy.begin()
        await self.claims.refill()

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[None]:
        """Be awake for a while."""
        async with running(self.tenancy.keep(), self.tenancy.take_over()):
            yield

    @property
    def shown(self) -> set[str]:
        """The ids that a reader would be shown now; none where it would be refused."""
        return set(ids_of(self.held)) if self.tenancy.valid else set()


def stored(by: str, ids: Iterable[str]) -> dict[str, Any]:
    return {message_id: Message(message_id, "text", 1.0, by).to_json() for message_id in ids}


def lease(store: FakeStore, name: str) -> Lease:
    return Lease.from_json(store.leases.entries[name])


def by_of(store: FakeStore) -> dict[str, str]:
    return {key: Message.from_json(raw).by for key, raw in store.stored.entries.items()}


IDS_OF_A, IDS_OF_B = {f"a{n}" for n in range(300)}, {f"b{n}" for n in range(20)}
EVERYTHING = IDS_OF_A | IDS_OF_B


def full_store() -> FakeStore:
    return FakeStore(stored=FakeMap({**stored(A, IDS_OF_A), **stored(B, IDS_OF_B)}))


async def started(store: FakeStore) -> tuple[Instance, Instance]:
    a, b = Instance(A, store), Instance(B, store)
    await a.start()
    await b.start()
    return a, b


async def test_a_renewal_that_hangs_is_followed_by_one_that_does_not() -> None:
    """A killed member leaves such a call behind: it ends with the backup timeout, which is longer than the lease."""

    class HangsOnce(FakeMap):
        hung = False

        async def replace_if_same(self, key: str, old: str, new: str) -> bool:
            done = await super().replace_if_same(key, old, new)
            if not self.hung:
                self.hung = True
                await asyncio.Event().wait()
            return done

    store = replace(full_store(), leases=HangsOnce())
    a, b = await started(store)
    async with a.runs(), b.runs():
        await until(lambda: lease(store, A).beat > 5 and lease(store, B).beat > 5)
        assert (a.shown, b.shown) == (IDS_OF_A, IDS_OF_B)


async def test_what_a_dead_one_stored_is_shown_by_the_other() -> None:
    store = full_store()
    a, b = await started(store)
    assert (a.shown, b.shown) == (IDS_OF_A, IDS_OF_B)
    async with b.runs():
        await until(lambda: b.shown == EVERYTHING)
        await until(lambda: lease(store, A).over)
    assert set(by_of(store).values()) == {B}
    assert b.health.counters["messages_taken_over"] == len(IDS_OF_A)


async def test_nothing_is_taken_of_one_that_lives() -> None:
    store = full_store()
    a, b = await started(store)
    async with a.runs(), b.runs():
        await asyncio.sleep(2.5 * SOON)
        assert (a.shown, b.shown) == (IDS_OF_A, IDS_OF_B)
    assert lease(store, A).held == len(IDS_OF_A)


async def test_it_is_not_taken_before_its_owner_knows_that_it_may_be() -> None:
    store = full_store()
    a, b = await started(store)
    async with b.runs():
        while lease(store, A).by == A:  # noqa: ASYNC110 - the very moment is wanted
            await asyncio.sleep(0)
        assert not a.tenancy.valid


async def test_resumed_service_shows_nothing_before_check() -> None:
    store = full_store()
    a, b = await started(store)
    async with b.runs():
        await until(lambda: lease(store, A).done)
        assert a.shown == set()
        with pytest.raises(StoreError, match="does not know yet"):
            a.tenancy.check()
        assert len(a.held) == len(IDS_OF_A)
        async with a.runs():
            while not a.tenancy.valid:
                assert not a.shown & b.shown
                await asyncio.sleep(0)
            assert (a.shown, b.shown) == (set(), EVERYTHING)
    assert a.health.counters["messages_yielded"] == len(IDS_OF_A)


async def test_paused_service_without_takeover_keeps_messages() -> None:
    store = full_store()
    a, _ = await started(store)
    await asyncio.sleep(SOON)
    assert a.shown == set()
    async with a.runs():
        await until(lambda: a.tenancy.valid)
        assert a.shown == IDS_OF_A
    assert a.health.counters["messages_yielded"] == 0


class Slow(FakeMap):
    """A map that takes its time for every claim that is moved, so that others come in between."""

    async def replace_if_same(self, key: str, old: Any, new: Any) -> bool:
        await asyncio.sleep(0.05)
        return await super().replace_if_same(key, old, new)


@pytest.mark.parametrize("restarted", [True, False], ids=["restarted", "woken"])
async def test_one_that_comes_back_in_the_middle_of_it_keeps_the_rest(*, restarted: bool) -> None:
    store = FakeStore(stored=Slow({**stored(A, IDS_OF_A), **stored(B, IDS_OF_B)}))
    a, b = await started(store)
    async with b.runs():
        await until(lambda: len(b.held) > len(IDS_OF_B))
        back = Instance(A, store) if restarted else a
        if restarted:
            await back.start()
        async with back.runs():
            await until(lambda: back.tenancy.valid)
            assert back.shown | b.shown == EVERYTHING
            assert not back.shown & b.shown
            assert back.shown
            await asyncio.sleep(2 * SOON)  # nothing moves any more
            assert back.shown | b.shown == EVERYTHING
            assert not back.shown & b.shown


async def test_takeover_is_bounded_by_room_and_reports_the_rest() -> None:
    store = full_store()
    _, b = await started(store)
    b.room = 50
    async with b.runs():
        await until(lambda: A in store.leases.entries and lease(store, A).done)
        assert (len(b.shown), lease(store, A).held) == (50, len(EVERYTHING) - 50)
        b.room = 1_000_000
        await until(lambda: b.shown == EVERYTHING)


async def test_one_whose_configuration_is_gone_is_taken_over_as_well() -> None:
    store = FakeStore(stored=FakeMap(stored("messages-5009", IDS_OF_A)))
    old = Lease("messages-5009", "messages-5009", 7, len(IDS_OF_A), 1.0)
    store.leases.entries[old.id] = old.to_json()
    b = Instance(B, store)
    await b.start()
    async with b.runs():
        await until(lambda: b.shown == IDS_OF_A)


async def test_with_0_nothing_is_ever_taken_and_everything_is_shown() -> None:
    store = full_store()
    a, b = Instance(A, store, after=0), Instance(B, store, after=0)
    await a.start()
    await b.start()
    async with running(b.tenancy.keep()):
        await b.tenancy.take_over()
    assert (a.shown, b.shown) == (IDS_OF_A, IDS_OF_B)


async def test_a_taker_that_dies_in_the_middle_leaves_nothing_for_ever() -> None:
    store = FakeStore(stored=Slow({**stored(A, IDS_OF_A), **stored(B, IDS_OF_B)}))
    _, b = await started(store)
    async with b.runs():
        await until(lambda: len(b.held) > len(IDS_OF_B))
    again = Instance(B, store)
    await again.start()
    assert lease(store, A).done
    async with again.runs():
        await until(lambda: again.shown == EVERYTHING)


async def test_while_nobody_could_be_heard_nobody_was_silent() -> None:
    """A cluster that was away for long is lost, and seen again, by one at another moment than by the other."""
    store = full_store()
    elsewhere = replace(store, client=FakeClient())
    a, b = Instance(A, elsewhere), Instance(B, store)
    await a.start()
    await b.start()
    async with a.runs(), b.runs():
        await asyncio.sleep(SOON / 2)
        elsewhere.client.up = False
        await asyncio.sleep(SOON / 3)  # the other one looks once more
        store.client.up = False
        await asyncio.sleep(2 * SOON)
        store.client.up = True
        await until(lambda: b.tenancy.valid)
        await asyncio.sleep(SOON / 2)
        elsewhere.client.up = True
        await until(lambda: a.tenancy.valid)
        assert (a.shown, b.shown) == (IDS_OF_A, IDS_OF_B)


class Paused(FakeMap):
    """A map of which one page, the second that is read, comes only when it may."""

    def __init__(self, entries: dict[str, Any]) -> None:
        super().__init__(entries)
        self.pages = 0
        self.awake = asyncio.Event()

    async def page_of_values(self, partition: int, place: Place, most: int) -> Page:
        page = await super().page_of_values(partition, place, most)
        self.pages += 1
        if self.pages == 2:
            await self.awake.wait()
        return page


async def test_paused_taker_takes_nothing_if_owner_is_back() -> None:
    store = full_store()
    a, b = await started(store)
    store.stored = paused = Paused(store.stored.entries)
    b = Instance(B, store)
    await b.start()
    paused.pages = 0
    a.tenancy.late_seconds = 0.1
    async with b.runs():
        await until(lambda: paused.pages == 2)
        async with a.runs():
            await until(lambda: a.tenancy.valid)
            assert a.shown
            paused.awake.set()
            await asyncio.sleep(2 * SOON)
            assert not a.shown & b.shown
            assert a.shown | b.shown == EVERYTHING


async def test_unconfirmed_claim_is_held_by_instance_in_map() -> None:
    class Unsure(FakeMap):
        """It confirms no move of a claim, once for each."""

        def __init__(self, entries: dict[str, Any]) -> None:
            super().__init__(entries)
            self.moved = 0

        async def replace_if_same(self, key: str, old: Any, new: Any) -> bool:
            done = await super().replace_if_same(key, old, new)
            self.moved += 1
            if self.moved < len(IDS_OF_A) // 2:
                raise HazelcastError("no backup confirmed it")
            return done

    store = FakeStore(stored=Unsure({**stored(A, IDS_OF_A), **stored(B, IDS_OF_B)}))
    _, b = await started(store)
    b.tenancy.late_seconds = 0.1
    async with b.runs():
        await until(lambda: b.shown == EVERYTHING)
    assert set(by_of(store).values()) == {B}


def test_silence_is_counted_from_the_last_change() -> None:
    silence = Silence(REAL)
    one = Lease(A, A, 1, 0, 1.0)
    assert silence.note(A, None) == 0
    assert silence.note(A, one) == 0
    assert silence.note(A, one) > 0
    assert silence.note(A, replace(one, beat=2)) == 0
    assert silence.note(B, None) == 0


# -- over HTTP --------------------------------------------------------------------------------------------------------


async def test_service_without_lease_answers_503_until_back() -> None:
    store = FakeStore(stored=FakeMap(stored(A, ["kept", "moved"])))
    async with calling(messages.make_app(configured(), A, queue_opener(FakeQueue()), store.opener())) as client:
        assert sorted((await client.get("/messages?full=true"))[1], key=str)
        taken = Lease(A, B, lease(store, A).beat + 100, 2, 1.0)
        store.leases.entries[A] = taken.to_json()
        store.stored.entries.update(stored(B, ["moved"]))
        await until(lambda: lease(store, A).wanted)
        status, body = await client.get("/messages")
        assert (status, "others have taken over" in body["message"]) == (503, True)
        done = replace(lease(store, A), done=True)
        store.leases.entries[A] = done.to_json()
        await until(lambda: lease(store, A).by == A)
        status, body = await client.get("/messages?full=true")
        while status == 503:
            status, body = await client.get("/messages?full=true")
        assert [each["uuid"] for each in body] == ["kept"]


async def test_takeover_during_refill_is_not_shown() -> None:
    store = full_store()
    store.stored = paused = Paused(store.stored.entries)

    async def take_over() -> None:
        """Be one that took everything over while this process was paused."""
        await until(lambda: paused.pages == 2)
        paused.entries.update(stored(B, IDS_OF_A))
        store.leases.entries[A] = Lease(A, B, lease(store, A).beat + 100, 0, 1.0, done=True).to_json()
        await until(lambda: lease(store, A).by == A)
        await asyncio.sleep(SOON / 2)
        paused.awake.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(take_over())
        async with calling(messages.make_app(configured(), A, queue_opener(FakeQueue()), store.opener())) as client:
            status, shown = await client.get("/messages?full=true")
            while status == 503:
                status, shown = await client.get("/messages?full=true")
            assert shown == []


async def test_the_facade_says_how_much_nobody_shows() -> None:
    store = FakeStore()
    dead = Lease(A, A, 3, 484, 1.0)
    store.leases.entries[A] = dead.to_json()
    store.leases.entries[B] = Lease(B, B, 3, 0, 1.0).to_json()
    store.leases.entries["messages-5003"] = Lease("messages-5003", B, 9, 0, 1.0, done=True).to_json()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(facade(FakeQueue(), [logging_app(FakeMap())], store=store))
        reader = FacadeClient(client.session, client.address)
        assert (await reader.read()).hidden == {}
        async with asyncio.timeout(20):
            while not (hidden := (await reader.read()).hidden):
                pass
        assert hidden == {A: 484}
        _, queue = await client.get("/queue")
        assert (queue["hidden"], queue["take_over_after"]) == ({A: 484}, 30)
        store.leases.entries[A] = replace(dead, beat=4).to_json()
        async with asyncio.timeout(20):
            while (await reader.read()).hidden:
                pass
