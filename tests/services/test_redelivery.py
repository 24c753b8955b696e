"""The watch: what left the queue and is stored nowhere comes again, once, and nothing else does."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import web
from hazelcast.errors import HazelcastError
from support.fakes import PLAIN, FakeMap, FakeQueue, FakeStore, Stub, consumer, ids_of, serving, until
from support.project import free_ports

from microq.aio import running
from microq.backends.base import Refused
from microq.client import open_session
from microq.clock import REAL, Clock
from microq.config import Address, Config, Limits, ServiceIps
from microq.errors import QueueError, QueueFullError, QueueIndeterminateError, QueueUnavailableError
from microq.message import DeadLetter, Message, Redelivery
from microq.services.dead_letters import DeadLetters
from microq.services.health import Health
from microq.services.inbox import MOST_ARRIVALS, Inbox
from microq.services.redelivery import KEPT_SECONDS, LARGEST_ROUND, MISSING_SECONDS, Texts, Watch

AT_ONCE, NEVER = 0, 3600
"""Visibility timeouts that no test waits for."""


class Picky(FakeQueue):
    """Each error in `refusals` fails one put."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: deque[QueueError] = deque()

    async def put(self, messages: Sequence[Message]) -> None:
        if self.refusals:
            raise self.refusals.popleft()
        await super().put(messages)


class Hands:
    """The hands of a clock, which a test moves."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_800_000_000.0, 1000.0
        self.clock = Clock(lambda: self.wall, lambda: self.monotonic)

    def move(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


class Telling:
    """A messages-service of which only `/arrivals` is there; a new one is what a restart makes of it."""

    def __init__(self) -> None:
        self._held = Inbox("messages-1")
        self.calls = 0
        self.taken: list[str] = []
        """What it is at work on."""
        self.busy = False
        """Whether something arrives between any two calls."""
        self.app = web.Application()
        self.app.router.add_get("/arrivals", self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        self.calls += 1
        if self.busy:
            self.store(f"more-{self.calls}")
        arrived = self._held.arrivals(request.query["epoch"], int(request.query["after"]))
        return web.json_response({**arrived, "taken": self.taken})

    def store(self, message_id: str) -> None:
        """Be a consumer that stored it."""
        self._held.add([Message(message_id, "")])


class ReadLog(FakeMap):
    """A log of messages; `on_read` is called while entries of it are on their way to the reader."""

    def __init__(self) -> None:
        super().__init__()
        self.on_read: Callable[[], None] = lambda: None

    async def get_all(self, keys: Sequence[str]) -> dict[str, Any]:
        found = await super().get_all(keys)
        self.on_read()
        return found


@dataclass
class Scene:
    """A watch, and what a facade and its consumers do around it."""

    watch: Watch
    queue: FakeQueue
    store: FakeStore
    joined: asyncio.Event
    """Set where a member would join."""

    async def accept(self, *ids: str) -> None:
        """Be the facade: the log, then the queue."""
        for message_id in ids:
            message = self.watch.stamped(Message(message_id, f"text of {message_id}"))
            self.store.log.entries[message_id] = message.to_json()
            self.watch.begin(message)
            await self.queue.put([message])
            self.watch.put(message_id)

    def stored(self, message_id: str) -> None:
        """Be a consumer that stored it, and died before it told."""
        self.store.stored.entries[message_id] = Message(message_id, "", 1.0, "messages-1").to_json()

    @property
    def waiting(self) -> list[str]:
        return [item.id for item in self.queue.items if isinstance(item, Message)]

    @property
    def tries(self) -> dict[str, int]:
        found = map(Redelivery.from_json, self.store.redelivered.entries.values())
        return {record.id: record.tries for record in found}

    @property
    def dead(self) -> list[DeadLetter]:
        return [DeadLetter.from_json(raw) for raw in self.store.dead.entries.values()]


def configured(timeout: int, most: int = 5, consumers: Sequence[Address] = ()) -> Config:
    queue = replace(PLAIN.queue, visibility_timeout=timeout, max_deliveries=most)
    return replace(PLAIN, queue=queue, service_ips=ServiceIps(messages_service=tuple(consumers)))


@asynccontextmanager
async def scene(
    seconds: int,
    most: int = 5,
    consumers: Sequence[web.Application | Address] = (),
    queue: FakeQueue | None = None,
    store: FakeStore | None = None,
    clock: Clock = REAL,
) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session())
        places = [c if isinstance(c, Address) else await stack.enter_async_context(serving(c)) for c in consumers]
        queue, store = queue or FakeQueue(), store or FakeStore()
        health = Health("facade-1", workers=2, clock=clock)
        real = store.real("facade-1")
        watch = Watch(configured(seconds, most, places), session, queue, real, health)
        yield Scene(watch, queue, store, real.joined)


# -- what comes again, and when ---------------------------------------------------------------------------------------


async def test_unstored_message_is_redelivered() -> None:
    async with scene(AT_ONCE) as it:
        await it.accept("a")
        it.queue.items.clear()
        await it.watch.look()
        (again,) = it.queue.items
        assert isinstance(again, Message)
        assert (again.id, again.text, again.by) == ("a", "text of a", "")
        assert it.tries == {"a": 1}
        assert "a" in it.watch


async def test_it_does_not_come_before_its_time() -> None:
    async with scene(NEVER) as it:
        await it.accept("a")
        it.queue.items.clear()
        for _ in range(3):
            await it.watch.look()
        assert (it.waiting, it.tries, len(it.watch)) == ([], {}, 1)


async def test_it_comes_after_the_timeout_and_within_two_seconds_of_it() -> None:
    async with scene(1) as it, asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(it.watch.run())
        await it.accept("a")
        it.queue.items.clear()
        began = time.monotonic()
        await until(lambda: bool(it.queue.items))
        watching.cancel()
        assert 1.0 <= (time.monotonic() - began) < 3.0


async def test_what_waits_in_a_long_queue_does_not_come_again() -> None:
    async with scene(AT_ONCE) as it:
        await it.accept("a", "b", "c")
        await it.watch.look()
        assert it.waiting == ["a", "b", "c"]
        it.queue.items.popleft()
        await it.watch.look()
        assert it.waiting == ["b", "c", "a"]
        await it.watch.look()
        assert (it.waiting, it.tries) == (["b", "c", "a"], {"a": 1})


async def test_foreign_head_of_queue_hides_what_has_left() -> None:
    async with scene(AT_ONCE) as it:
        await it.accept("a")
        it.queue.items.clear()
        it.queue.items.append(Refused("odd"))
        await it.watch.look()
        assert it.waiting == []
        it.queue.items.clear()
        await it.watch.look()
        assert it.waiting == ["a"]


async def test_what_is_on_its_way_into_the_queue_is_left_alone() -> None:
    async with scene(AT_ONCE) as it:
        await it.accept("a")
        it.queue.items.clear()
        async with it.watch.turn("a"):
            await it.watch.look()
            assert it.waiting == []
        it.watch.begin(Message("a", "text of a"))
        await it.accept("b")
        await it.watch.look()
        await it.watch.look()
        assert it.waiting.count("a") == 1


async def test_a_slow_send_does_not_hide_what_was_sent_behind_it() -> None:
    async with scene(AT_ONCE) as it:
        it.watch.begin(Message("slow", "slow"))
        await it.accept("a")
        it.queue.items.clear()
        await it.watch.look()
        assert (it.waiting, "slow" in it.watch) == (["a"], True)


async def test_what_is_redelivered_is_not_sent_at_the_same_time() -> None:
    class Asking(FakeQueue):
        """It notes whether somebody has the turn of what is put."""

        turn = asyncio.Lock()
        taken: bool | None = None

        async def put(self, messages: Sequence[Message]) -> None:
            self.taken = self.turn.locked()
            await super().put(messages)

    queue = Asking()
    async with scene(AT_ONCE, queue=queue) as it:
        await it.accept("a")
        queue.items.clear()
        queue.turn = it.watch.turn("a")
        await it.watch.look()
        assert it.waiting == ["a"]
        assert queue.taken


async def test_what_waits_in_the_queue_for_room_does_not_come_again() -> None:
    async with scene(AT_ONCE) as it, asyncio.timeout(10):
        await it.accept("a", "b", "c")
        full = consumer(it.queue, it.store.stored, limits=Limits(max_held=1)).consumer
        running = asyncio.create_task(full.run())
        await until(lambda: full.room == 0 and it.queue.leaves == 1)
        for _ in range(3):
            await it.watch.look()
        assert it.waiting == ["b", "c"]
        assert (it.tries, it.dead, it.queue.repeated) == ({}, [], 0)
        full.stop()
        await running
        roomy = consumer(it.queue, it.store.stored, "messages-2").consumer
        await roomy.handle(await it.queue.receive(10, 0.1))
        await it.watch.look()
        assert ids_of(roomy.held) == ["b", "c"]
        assert (it.tries, len(it.watch)) == ({}, 0)


async def test_what_arrives_late_is_shown_once() -> None:
    async with scene(AT_ONCE) as it:
        await it.accept("a")
        held = list(it.queue.items)
        it.queue.items.clear()
        await it.watch.look()
        slow, quick = (consumer(it.queue, it.store.stored, name).consumer for name in ("messages-1", "messages-2"))
        again = list(it.queue.items)
        await quick.keep(again)
        await slow.keep(held)
        assert [ids_of(one.held) for one in (quick, slow)] == [["a"], []]
        assert slow.held.arrivals("another", 0)["ids"] == []


async def test_unreported_store_is_not_redelivered() -> None:
    async with scene(AT_ONCE) as it:
        await it.accept("a")
        it.queue.items.clear()
        it.stored("a")
        await it.watch.look()
        assert (it.waiting, it.tries, len(it.watch)) == ([], {}, 0)


async def test_message_lost_in_merge_is_relogged() -> None:
    """The log may lack it because the halves of a cluster are merging: a missing entry settles nothing."""
    async with scene(AT_ONCE) as it:
        await it.accept("a")
        it.watch.expect(Message("b", "text of b"))  # answered with 504
        it.queue.items.clear()
        it.store.log.entries.clear()
        await it.watch.look()
        assert sorted(it.waiting) == ["a", "b"]
        assert {m.id: m.text for m in map(Message.from_json, it.store.log.entries.values())} == {
            "a": "text of a",
            "b": "text of b",
        }
        assert len(it.watch) == 2
        assert it.watch._health.counters["messages_relogged"] == 2


async def test_missing_message_search_is_limited() -> None:
    hands, store = Hands(), FakeStore()
    async with scene(AT_ONCE, store=store, clock=hands.clock) as it:
        store.log.entries.update({i: Message(i, f"text of {i}", 1.0).to_json() for i in ("late", "lost")})
        await it.watch.recover()
        late = store.log.entries.pop("late")
        store.log.entries.clear()
        for _ in range(3):
            hands.move(MISSING_SECONDS / 4)
            await it.watch.look()
            assert (it.waiting, len(it.watch)) == ([], 2)
        store.log.entries["late"] = late  # the merge brings it
        hands.move(MISSING_SECONDS / 4)
        await it.watch.look()
        assert it.waiting == ["late"]
        it.queue.items.clear()
        hands.move(MISSING_SECONDS)
        await it.watch.look()
        assert (len(it.watch), "lost" in it.watch) == (1, False)


async def test_log_entries_without_watch_are_watched_after_a_join() -> None:
    """It was taken for being nowhere, or another half of the cluster brought it."""
    store = FakeStore()
    async with scene(AT_ONCE, store=store) as it, asyncio.TaskGroup() as tasks, asyncio.timeout(10):
        it.watch.pause = it.watch.merges.settle_seconds = 0.01
        watching = tasks.create_task(it.watch.run())
        await asyncio.sleep(0.05)
        store.log.entries["b"] = Message("b", "text of b", 1.0).to_json()
        await asyncio.sleep(0.05)
        assert "b" not in it.watch
        it.joined.set()
        await until(lambda: "b" in it.waiting)
        watching.cancel()


async def test_late_log_entry_is_unexplained_until_watched() -> None:
    store = FakeStore()
    async with scene(AT_ONCE, most=1, store=store) as it:
        await it.accept("a", "dead")
        assert await it.watch.unexplained() == 0
        it.stored("a")
        it.queue.items.clear()
        await it.watch.look()
        assert [letter.id for letter in it.dead] == ["dead"]
        assert await it.watch.unexplained() == 0
        store.log.entries["late"] = Message("late", "text", 1.0).to_json()
        assert await it.watch.unexplained() == 1
        await it.watch.recover()
        assert ("late" in it.watch, await it.watch.unexplained()) == (True, 0)


async def test_a_letter_that_was_replayed_explains_nothing_any_more() -> None:
    store = FakeStore()
    async with scene(AT_ONCE, most=1, store=store) as it:
        await it.accept("a")
        it.queue.items.clear()
        await it.watch.look()
        await DeadLetters(it.queue, store.real("facade-1"), it.watch).replay(it.dead[0])
        it.stored("a")
        it.queue.items.clear()
        await it.watch.look()
        assert await it.watch.unexplained() == 0


def test_texts_are_kept_up_to_a_bound_the_newest_of_them() -> None:
    size = "x".__sizeof__()
    texts = Texts(2 * size)
    for message_id in ("a", "b", "b", "c"):
        texts.keep(message_id, message_id)
    assert [texts.get(i) for i in "abc"] == [None, "b", "c"]
    texts.forget("c")
    texts.forget("c")
    texts.keep("d", "d")
    assert [texts.get(i) for i in "bcd"] == ["b", None, "d"]


# -- clocks -----------------------------------------------------------------------------------------------------------


async def test_clock_set_back_and_new_facade_redeliver_nothing() -> None:
    hands, store, queue = Hands(), FakeStore(), FakeQueue()
    async with scene(AT_ONCE, queue=queue, store=store, clock=hands.clock) as before:
        await before.accept("a", "b")
    hands.wall -= 7200
    async with scene(AT_ONCE, queue=queue, store=store, clock=hands.clock) as it:
        assert await it.watch.recover()
        for _ in range(6):
            hands.move(1)
            await it.watch.look()
        assert (it.waiting, it.tries, it.dead) == (["a", "b"], {}, [])
        await it.accept("c")
        queue.items.popleft()
        queue.items.popleft()
        hands.move(1)
        await it.watch.look()
        assert it.waiting == ["c", "a", "b"], "the order of what this facade accepted is known"


async def test_a_clock_set_back_holds_no_redelivery_up() -> None:
    hands = Hands()
    async with scene(5, clock=hands.clock) as it:
        await it.accept("a")
        for tries in (1, 2):
            it.queue.items.clear()
            await it.watch.look()
            hands.wall -= 7200
            hands.monotonic += 5
            await it.watch.look()
            assert (it.waiting, it.tries) == (["a"], {"a": tries})
            hands.monotonic += 5


async def test_old_redeliveries_of_stored_are_removed() -> None:
    hands = Hands()
    async with scene(AT_ONCE, most=3, clock=hands.clock) as it:
        await it.accept("stored", "away", "dead")
        for _ in range(2):
            it.queue.items.clear()
            await it.watch.look()
        it.stored("stored")
        it.store.redelivered.entries["dead"] = Redelivery("dead", 3, 1.0).to_json()
        await it.watch.sweep()
        assert set(it.tries) == {"stored", "away", "dead"}
        hands.move(KEPT_SECONDS + 1)
        await it.watch.sweep()
        assert set(it.tries) == {"away", "dead"}
        assert it.watch._health.counters["messages_redelivered"] == 6


@pytest.mark.parametrize("refusal", [QueueFullError("full"), QueueUnavailableError("away")])
async def test_refused_redelivery_is_repeated_and_not_counted(refusal: QueueError) -> None:
    queue = Picky()
    async with scene(AT_ONCE, queue=queue) as it:
        await it.accept("a")
        queue.items.clear()
        for before in (0, 1):
            queue.refusals.append(refusal)
            await it.watch.look()
            assert (it.waiting, it.tries.get("a", 0)) == ([], before)
            await it.watch.look()
            assert (it.waiting, it.tries) == (["a"], {"a": before + 1})
            queue.items.clear()


async def test_indeterminate_redelivery_is_counted_and_watched() -> None:
    queue = Picky()
    async with scene(AT_ONCE, queue=queue) as it:
        await it.accept("a")
        queue.items.clear()
        queue.refusals.append(QueueIndeterminateError("no backup confirmed it"))
        await it.watch.look()
        assert (it.waiting, it.tries, len(it.watch)) == ([], {"a": 1}, 1)
        await it.watch.look()
        assert (it.waiting, it.tries) == (["a"], {"a": 2})


@pytest.mark.parametrize("broken", ["queue", "redelivered", "stored", "log"])
async def test_a_cluster_that_fails_for_a_while_delays_only(broken: str) -> None:
    async with scene(AT_ONCE) as it:
        await it.accept("a")
        it.queue.items.clear()
        part: FakeQueue | FakeMap = it.queue if broken == "queue" else getattr(it.store, broken)
        part.errors.append(QueueUnavailableError("away") if broken == "queue" else HazelcastError("not now"))
        await it.watch.look()
        assert (it.waiting, len(it.watch)) == ([], 1)
        await it.watch.look()
        assert it.waiting == ["a"]


async def test_failed_message_becomes_dead_letter() -> None:
    async with scene(AT_ONCE, most=3) as it:
        await it.accept("bad", "good")
        for deliveries in (1, 2, 3):
            assert "bad" in it.waiting, deliveries
            assert not it.dead
            it.queue.items.clear()
            it.stored("good")
            await it.watch.look()
        (letter,) = it.dead
        assert (letter.id, letter.text, letter.replayable) == ("bad", "text of bad", True)
        assert letter.reason == "not stored after 3 deliveries"
        assert (it.waiting, len(it.watch)) == ([], 0)


# -- a facade that starts anew ----------------------------------------------------------------------------------------


async def test_new_facade_redelivers_only_what_is_not_stored() -> None:
    store, queue = FakeStore(), FakeQueue()
    async with scene(AT_ONCE, queue=queue, store=store) as before:
        await before.accept("stored", "held", "waits")
        before.stored("stored")
        queue.items.popleft()
        queue.items.popleft()
    async with scene(AT_ONCE, queue=queue, store=store) as it:
        assert await it.watch.recover()
        assert len(it.watch) == 2
        await it.watch.look()
        assert (it.waiting, it.tries) == (["waits"], {})
        queue.items.clear()
        it.stored("waits")
        await it.watch.look()
        assert (it.waiting, it.tries) == (["held"], {"held": 1})


async def test_one_of_several_workers_recovers_for_all() -> None:
    store = FakeStore()
    store.log.entries["a"] = Message("a", "a", 1.0).to_json()
    async with scene(AT_ONCE, store=store) as first, scene(AT_ONCE, store=store) as second:
        second.watch._health.become(1)
        assert await first.watch.recover()
        assert await second.watch.recover()
        assert (len(first.watch), len(second.watch)) == (1, 0)


async def test_what_two_workers_watch_is_redelivered_by_one() -> None:
    store, queue = FakeStore(), FakeQueue()
    async with scene(NEVER, queue=queue, store=store) as first, scene(NEVER, queue=queue, store=store) as second:
        await first.accept("a")
        second.watch._health.epoch = first.watch._health.epoch
        second.watch.expect(Message("a", "text of a"))
        queue.items.clear()
        await first.watch._redeliver_one("a")
        await second.watch._redeliver_one("a")
        assert (first.waiting, first.tries) == (["a"], {"a": 1})
        assert "a" in second.watch
        long_ago = time.monotonic() - NEVER
        epoch = first.watch._health.epoch
        store.redelivered.entries["a"] = Redelivery("a", 1, 1.0, long_ago, epoch).to_json()
        await second.watch._redeliver_one("a")
        assert (first.waiting, first.tries) == (["a", "a"], {"a": 2})


async def test_new_facade_tries_again_if_cluster_does_not_answer() -> None:
    async with scene(AT_ONCE) as it:
        it.store.log.entries["a"] = Message("a", "a", 1.0).to_json()
        it.store.log.errors.append(HazelcastError("not now"))
        it.watch.pause = 0.01
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(it.watch.run())
            await until(lambda: it.waiting == ["a"])
            watching.cancel()


async def test_given_up_message_stays_given_up() -> None:
    store = FakeStore()
    async with scene(AT_ONCE, most=1, store=store) as before:
        await before.accept("a", "b")
        before.queue.items.clear()
        await before.watch.look()
        assert len(before.dead) == 2
        store.dead.entries.clear()
    async with scene(AT_ONCE, most=1, store=store) as it:
        await it.accept("c")
        assert await it.watch.recover()
        assert len(it.watch) == 1


# -- what the consumers tell ------------------------------------------------------------------------------------------


async def test_reported_arrivals_settle_without_the_store() -> None:
    telling = Telling()
    async with scene(AT_ONCE, consumers=[telling.app]) as it:
        await it.watch.recover()
        await it.accept("a", "b")
        it.queue.items.clear()
        telling.store("a")
        it.store.stored.errors.append(HazelcastError("not to be asked for a"))
        await it.watch.look()
        assert "a" not in it.watch
        assert "b" in it.watch


async def test_arrival_before_confirmation_of_put_counts() -> None:
    telling = Telling()
    async with scene(NEVER, consumers=[telling.app]) as it:
        await it.watch.recover()
        it.watch.begin(Message("a", "text of a"))
        telling.store("a")
        await it.watch.look()
        it.watch.put("a")
        assert len(it.watch) == 0


async def test_unreported_messages_of_stopped_consumer_settle() -> None:
    (port,) = free_ports(1)
    async with scene(NEVER, consumers=[Address("127.0.0.1", port)]) as it:
        ids = [f"m{number}" for number in range(LARGEST_ROUND + 10)]
        await it.accept(*ids, "lost")
        it.queue.items.clear()
        for message_id in ids:
            it.stored(message_id)
        await it.watch.look()
        await it.watch.look()
        assert len(it.watch) == 1
        assert "lost" in it.watch


async def test_messages_of_a_restarted_consumer_are_not_pending() -> None:
    (port,) = free_ports(1)
    async with scene(NEVER, consumers=[Address("127.0.0.1", port)]) as it:
        for ids in ("", "a"):
            runner = web.AppRunner(Telling().app)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            await it.accept(*ids)
            for message_id in ids:
                it.stored(message_id)
            it.queue.items.clear()
            await it.watch.look()
            await runner.cleanup()
        assert len(it.watch) == 0


async def test_store_is_not_read_once_all_consumers_report() -> None:
    telling = Telling()
    (port,) = free_ports(1)
    async with scene(NEVER, consumers=[Address("127.0.0.1", port)]) as it:
        it.watch.pause = 0.01
        await it.accept("a")
        it.queue.items.clear()
        async with running(it.watch.run()):
            await until(lambda: it.store.stored.lookups > 0)
            runner = web.AppRunner(telling.app)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            await until(lambda: telling.calls > 1)
            asked = it.store.stored.lookups
            calls = telling.calls
            await until(lambda: telling.calls > calls + 20)
            assert it.store.stored.lookups <= asked + 1
        await runner.cleanup()


async def test_restarted_consumer_reports_all_it_stored_since() -> None:
    first, second = Telling(), Telling()
    (port,) = free_ports(1)
    async with scene(NEVER, consumers=[Address("127.0.0.1", port)]) as it:
        await it.accept("a", "b", "c")
        for telling, ids in ((first, "a"), (second, "bc")):
            for message_id in ids:
                telling.store(message_id)
            runner = web.AppRunner(telling.app)
            await runner.setup()
            await it.watch.look()  # while it is away
            await web.TCPSite(runner, "127.0.0.1", port).start()
            await it.watch.look()
            await runner.cleanup()
            assert all(message_id not in it.watch for message_id in ids)
        assert len(it.watch) == 0


async def test_a_consumer_that_never_rests_does_not_hold_the_watch() -> None:
    telling = Telling()
    telling.busy = True
    async with scene(AT_ONCE, consumers=[telling.app]) as it, asyncio.timeout(5):
        await it.watch.recover()
        await it.accept("a")
        it.queue.items.clear()
        await it.watch.look()
        assert it.waiting == ["a"]
        assert telling.calls == 2


async def test_message_being_stored_is_not_redelivered() -> None:
    telling, hands = Telling(), Hands()
    async with scene(5, consumers=[telling.app], clock=hands.clock) as it:
        await it.accept("a", "b")
        it.queue.items.clear()
        telling.taken = ["a"]
        for _ in range(4):
            await it.watch.look()
            hands.move(3)
        assert it.waiting == ["b"]
        telling.taken = []
        for _ in range(3):
            await it.watch.look()
            hands.move(3)
        assert it.waiting == ["b", "a"]


async def test_more_than_one_answer_holds_is_heard_in_one_look() -> None:
    telling = Telling()
    async with scene(NEVER, consumers=[telling.app]) as it:
        await it.watch.recover()
        for number in range(2 * MOST_ARRIVALS + 1):
            it.watch.begin(Message(str(number), "text"))
            telling.store(str(number))
        await it.watch.look()
        assert len(it.watch) == 0
        assert telling.calls == 1 + 3


@pytest.mark.parametrize("odd", [Stub(hangs=True), Stub(200), Stub(500), Stub(400)], ids=["hangs", "200", "500", "400"])
async def test_hanging_or_odd_consumer_does_not_delay_the_watch(odd: Stub) -> None:
    telling = Telling()
    async with scene(AT_ONCE, consumers=[odd.app, telling.app]) as it:
        await it.watch.recover()
        await it.accept("a", "b")
        telling.store("b")
        it.queue.items.clear()
        async with asyncio.timeout(10):
            await it.watch.look()
        assert it.waiting == ["a"]
        assert odd.calls == 2


async def test_dead_letter_is_removed_when_message_is_stored_late() -> None:
    async with scene(AT_ONCE, most=1) as it:
        await it.accept("a", "b")
        it.queue.items.clear()
        await it.watch.look()
        assert {letter.id for letter in it.dead} == {"a", "b"}
        it.stored("a")
        await it.watch.withdraw()
        assert ([letter.id for letter in it.dead], it.tries) == (["b"], {"b": 1})
        assert await it.watch.unexplained() == 0


async def test_message_stored_during_a_comparison_is_not_watched() -> None:
    log = ReadLog()
    async with scene(NEVER, store=FakeStore(log=log)) as it:
        for message_id in ("a", "b"):
            log.entries[message_id] = Message(message_id, "of another facade").to_json()
        log.on_read = lambda: it.watch.settle("a")
        assert await it.watch.recover()
        assert [message_id in it.watch for message_id in ("a", "b")] == [False, True]


async def test_what_others_stored_is_heard_while_one_hangs() -> None:
    telling, hung = Telling(), Stub(hangs=True)
    async with scene(NEVER, consumers=[hung.app, telling.app]) as it:
        await it.watch.recover()
        it.watch.pause = 0.01
        async with running(it.watch.run()):
            for number in range(20):
                it.stored(str(number))  # before it is in the log: a comparison that comes now finds nothing
                await it.accept(str(number))
                telling.store(str(number))
                await until(lambda: len(it.watch) == 0)
            # Where each round waits for the one that hangs, it is asked once for each message.
            assert hung.calls < 10


@pytest.mark.parametrize("body", [[], None, "ids", {"ids": 1}, {"epoch": "e", "ids": [], "more": False, "next": "x"}])
async def test_an_answer_that_is_no_list_of_arrivals_is_passed_over(
    body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(body)

    app = web.Application()
    app.router.add_get("/arrivals", answer)
    async with scene(NEVER, consumers=[app]) as it:
        await it.accept("a")
        await it.watch.look()
        assert len(it.watch) == 1
    assert any("is not a messages-service" in line for line in caplog.messages)
