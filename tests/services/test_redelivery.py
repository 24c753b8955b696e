"""The watch: what left the queue and is stored nowhere comes again, once, and nothing else does."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import web
from conftest import free_ports
from fakes import PLAIN, FakeMap, FakeQueue, FakeStore, Stub, consumer, ids_of, serving, until
from hazelcast.errors import HazelcastError

from microq.client import open_session
from microq.config import Address, Config, Limits, ServiceIps
from microq.errors import QueueAwayError, QueueError, QueueFullError, QueueUncertainError
from microq.letters import DeadLetter, Redelivery
from microq.message import Message
from microq.queues.base import Refused
from microq.services.health import Health
from microq.services.held import MOST_ARRIVALS, Held
from microq.services.redelivery import Watch

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


class Telling:
    """A messages-service of which only `/arrivals` is there; a new one is what a restart makes of it."""

    def __init__(self) -> None:
        self._held = Held("messages-1")
        self.calls = 0
        self.busy = False
        """Whether something arrives between any two calls."""
        self.app = web.Application()
        self.app.router.add_get("/arrivals", self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        self.calls += 1
        if self.busy:
            self.store(f"more-{self.calls}")
        return web.json_response(self._held.arrivals(request.query["epoch"], int(request.query["after"])))

    def store(self, message_id: str) -> None:
        """Be a consumer that stored it."""
        self._held.add([Message(message_id, "")])


@dataclass
class Scene:
    """A watch, and what a facade and its consumers do around it."""

    watch: Watch
    queue: FakeQueue
    store: FakeStore

    async def accept(self, *ids: str) -> None:
        """Be the facade: the log, then the queue."""
        for message_id in ids:
            message = Message(message_id, f"text of {message_id}", time.time())
            self.store.log.entries[message_id] = message.to_json()
            self.watch.begin(message_id)
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
) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session())
        places = [c if isinstance(c, Address) else await stack.enter_async_context(serving(c)) for c in consumers]
        queue, store = queue or FakeQueue(), store or FakeStore()
        health = Health("facade-1", workers=2)
        watch = Watch(configured(seconds, most, places), session, queue, store.real("facade-1"), health)
        yield Scene(watch, queue, store)


# -- what comes again, and when ---------------------------------------------------------------------------------------


def test_what_left_the_queue_and_is_stored_nowhere_comes_again_with_its_text_and_is_counted() -> None:
    async def main() -> None:
        async with scene(AT_ONCE) as it:
            await it.accept("a")
            it.queue.items.clear()
            await it.watch.look()
            (again,) = it.queue.items
            assert isinstance(again, Message)
            assert (again.id, again.text, again.by) == ("a", "text of a", "")
            assert it.tries == {"a": 1}
            assert "a" in it.watch

    asyncio.run(main())


def test_it_does_not_come_before_its_time() -> None:
    async def main() -> None:
        async with scene(NEVER) as it:
            await it.accept("a")
            it.queue.items.clear()
            for _ in range(3):
                await it.watch.look()
            assert (it.waiting, it.tries, len(it.watch)) == ([], {}, 1)

    asyncio.run(main())


def test_it_comes_after_the_timeout_and_within_two_seconds_of_it() -> None:
    async def main() -> float:
        async with scene(1) as it, asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(it.watch.run())
            await it.accept("a")
            it.queue.items.clear()
            began = time.monotonic()
            await until(lambda: bool(it.queue.items))
            watching.cancel()
            return time.monotonic() - began

    assert 1.0 <= asyncio.run(main()) < 3.0


def test_what_waits_in_a_long_queue_does_not_come_again() -> None:
    async def main() -> None:
        async with scene(AT_ONCE) as it:
            await it.accept("a", "b", "c")
            await it.watch.look()
            assert it.waiting == ["a", "b", "c"]
            it.queue.items.popleft()
            await it.watch.look()
            assert it.waiting == ["b", "c", "a"]
            await it.watch.look()
            assert (it.waiting, it.tries) == (["b", "c", "a"], {"a": 1})

    asyncio.run(main())


def test_while_a_foreign_item_is_next_nothing_is_known_to_have_left() -> None:
    async def main() -> None:
        async with scene(AT_ONCE) as it:
            await it.accept("a")
            it.queue.items.clear()
            it.queue.items.append(Refused("odd"))
            await it.watch.look()
            assert it.waiting == []
            it.queue.items.clear()
            await it.watch.look()
            assert it.waiting == ["a"]

    asyncio.run(main())


def test_what_is_on_its_way_into_the_queue_is_left_alone() -> None:
    async def main() -> None:
        async with scene(AT_ONCE) as it:
            await it.accept("a")
            it.queue.items.clear()
            async with it.watch.turn("a"):
                await it.watch.look()
                assert it.waiting == []
            it.watch.begin("a")
            await it.accept("b")
            await it.watch.look()
            await it.watch.look()
            assert it.waiting.count("a") == 1

    asyncio.run(main())


def test_a_slow_send_does_not_hide_what_was_sent_behind_it() -> None:
    async def main() -> None:
        async with scene(AT_ONCE) as it:
            it.watch.begin("slow")
            await it.accept("a")
            it.queue.items.clear()
            await it.watch.look()
            assert (it.waiting, "slow" in it.watch) == (["a"], True)

    asyncio.run(main())


def test_what_is_redelivered_is_not_sent_at_the_same_time() -> None:
    class Asking(FakeQueue):
        """It notes whether somebody has the turn of what is put."""

        turn = asyncio.Lock()
        taken: bool | None = None

        async def put(self, messages: Sequence[Message]) -> None:
            self.taken = self.turn.locked()
            await super().put(messages)

    async def main() -> None:
        queue = Asking()
        async with scene(AT_ONCE, queue=queue) as it:
            await it.accept("a")
            queue.items.clear()
            queue.turn = it.watch.turn("a")
            await it.watch.look()
            assert it.waiting == ["a"]
            assert queue.taken

    asyncio.run(main())


def test_what_waits_in_the_queue_for_room_does_not_come_again() -> None:
    async def main() -> None:
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

    asyncio.run(main())


def test_what_arrives_late_is_shown_once() -> None:
    async def main() -> None:
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

    asyncio.run(main())


def test_what_was_stored_by_a_consumer_that_died_before_it_told_does_not_come_again() -> None:
    async def main() -> None:
        async with scene(AT_ONCE) as it:
            await it.accept("a")
            it.queue.items.clear()
            it.stored("a")
            await it.watch.look()
            assert (it.waiting, it.tries, len(it.watch)) == ([], {}, 0)

    asyncio.run(main())


def test_what_was_taken_back_from_the_log_is_forgotten() -> None:
    async def main() -> None:
        async with scene(AT_ONCE) as it:
            await it.accept("a")
            it.queue.items.clear()
            it.store.log.entries.clear()
            await it.watch.look()
            assert (it.waiting, len(it.watch)) == ([], 0)

    asyncio.run(main())


@pytest.mark.parametrize("refusal", [QueueFullError("full"), QueueAwayError("away")])
def test_a_redelivery_that_is_refused_is_tried_again_and_not_counted(refusal: QueueError) -> None:
    async def main() -> None:
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

    asyncio.run(main())


def test_a_redelivery_that_is_not_confirmed_is_counted_and_watched() -> None:
    async def main() -> None:
        queue = Picky()
        async with scene(AT_ONCE, queue=queue) as it:
            await it.accept("a")
            queue.items.clear()
            queue.refusals.append(QueueUncertainError("no backup confirmed it"))
            await it.watch.look()
            assert (it.waiting, it.tries, len(it.watch)) == ([], {"a": 1}, 1)
            await it.watch.look()
            assert (it.waiting, it.tries) == (["a"], {"a": 2})

    asyncio.run(main())


@pytest.mark.parametrize("broken", ["queue", "redelivered", "stored", "log"])
def test_a_cluster_that_fails_for_a_while_delays_only(broken: str) -> None:
    async def main() -> None:
        async with scene(AT_ONCE) as it:
            await it.accept("a")
            it.queue.items.clear()
            part: FakeQueue | FakeMap = it.queue if broken == "queue" else getattr(it.store, broken)
            part.errors.append(QueueAwayError("away") if broken == "queue" else HazelcastError("not now"))
            await it.watch.look()
            assert (it.waiting, len(it.watch)) == ([], 1)
            await it.watch.look()
            assert it.waiting == ["a"]

    asyncio.run(main())


def test_what_fails_all_its_deliveries_is_a_dead_letter_and_the_rest_flows_on() -> None:
    async def main() -> None:
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

    asyncio.run(main())


# -- a facade that starts anew ----------------------------------------------------------------------------------------


def test_a_new_facade_redelivers_what_its_predecessor_left_and_nothing_else() -> None:
    async def main() -> None:
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

    asyncio.run(main())


def test_of_several_workers_one_brings_back_what_an_earlier_facade_left() -> None:
    async def main() -> None:
        store = FakeStore()
        store.log.entries["a"] = Message("a", "a", 1.0).to_json()
        async with scene(AT_ONCE, store=store) as first, scene(AT_ONCE, store=store) as second:
            second.watch._health.become(1)
            assert await first.watch.recover()
            assert await second.watch.recover()
            assert (len(first.watch), len(second.watch)) == (1, 0)

    asyncio.run(main())


def test_what_two_workers_watch_is_redelivered_by_one() -> None:
    async def main() -> None:
        store, queue = FakeStore(), FakeQueue()
        async with scene(NEVER, queue=queue, store=store) as first, scene(NEVER, queue=queue, store=store) as second:
            await first.accept("a")
            second.watch.expect("a")
            queue.items.clear()
            await first.watch._redeliver_one("a")
            await second.watch._redeliver_one("a")
            assert (first.waiting, first.tries) == (["a"], {"a": 1})
            assert "a" in second.watch
            store.redelivered.entries["a"] = Redelivery("a", 1, time.time() - NEVER).to_json()
            await second.watch._redeliver_one("a")
            assert (first.waiting, first.tries) == (["a", "a"], {"a": 2})

    asyncio.run(main())


def test_a_new_facade_looks_again_when_the_cluster_does_not_answer() -> None:
    async def main() -> None:
        async with scene(AT_ONCE) as it:
            it.store.log.entries["a"] = Message("a", "a", 1.0).to_json()
            it.store.log.errors.append(HazelcastError("not now"))
            it.watch.pause = 0.01
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(it.watch.run())
                await until(lambda: it.waiting == ["a"])
                watching.cancel()

    asyncio.run(main())


def test_what_was_given_up_does_not_come_back_with_a_new_facade_even_if_its_letter_was_dropped() -> None:
    async def main() -> None:
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

    asyncio.run(main())


# -- what the consumers tell ------------------------------------------------------------------------------------------


def test_what_a_consumer_tells_is_forgotten_without_a_look_into_the_store() -> None:
    async def main() -> None:
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

    asyncio.run(main())


def test_an_arrival_that_is_heard_before_the_queue_confirmed_the_message_counts() -> None:
    async def main() -> None:
        telling = Telling()
        async with scene(NEVER, consumers=[telling.app]) as it:
            await it.watch.recover()
            it.watch.begin("a")
            telling.store("a")
            await it.watch.look()
            it.watch.put("a")
            assert len(it.watch) == 0

    asyncio.run(main())


def test_a_consumer_that_is_started_again_tells_all_it_stored_since() -> None:
    async def main() -> None:
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

    asyncio.run(main())


def test_a_consumer_that_never_rests_does_not_hold_the_watch() -> None:
    async def main() -> None:
        telling = Telling()
        telling.busy = True
        async with scene(AT_ONCE, consumers=[telling.app]) as it, asyncio.timeout(5):
            await it.watch.recover()
            await it.accept("a")
            it.queue.items.clear()
            await it.watch.look()
            assert it.waiting == ["a"]
            assert telling.calls == 2

    asyncio.run(main())


def test_more_than_one_answer_holds_is_heard_in_one_look() -> None:
    async def main() -> None:
        telling = Telling()
        async with scene(NEVER, consumers=[telling.app]) as it:
            await it.watch.recover()
            for number in range(2 * MOST_ARRIVALS + 1):
                it.watch.begin(str(number))
                telling.store(str(number))
            await it.watch.look()
            assert len(it.watch) == 0
            assert telling.calls == 1 + 3

    asyncio.run(main())


@pytest.mark.parametrize("odd", [Stub(hangs=True), Stub(200), Stub(500), Stub(400)], ids=["hangs", "200", "500", "400"])
def test_a_consumer_that_hangs_or_talks_nonsense_does_not_hold_the_watch(odd: Stub) -> None:
    async def main() -> None:
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

    asyncio.run(main())


@pytest.mark.parametrize("body", [[], None, "ids", {"ids": 1}, {"epoch": "e", "ids": [], "more": False, "next": "x"}])
def test_an_answer_that_is_no_list_of_arrivals_is_passed_over(body: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(body)

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/arrivals", answer)
        async with scene(NEVER, consumers=[app]) as it:
            await it.accept("a")
            await it.watch.look()
            assert len(it.watch) == 1

    asyncio.run(main())
    assert any("is no messages-service" in line for line in caplog.messages)
