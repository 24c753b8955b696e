"""The messages-service: what has left the queue is kept, once in the whole system, whatever the map does meanwhile."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hazelcast.errors import HazelcastError
from support.fakes import PLAIN, Caller, FakeMap, FakeQueue, calling, consumer, ids_of, messages_app, until

from microq.backends.base import Refused
from microq.config import Limits
from microq.errors import QueueError, QueueIndeterminateError, QueueUnavailableError
from microq.message import DeadLetter, Message
from microq.services.app import HEALTH
from microq.services.health import Health
from microq.services.messages import GATHER_SECONDS, LARGEST_BATCH, Consumer

DEADLINE = 10.0


def messages(count: int, first: int = 0) -> list[Message]:
    return [Message(f"id-{n}", f"msg{n}", 1.0) for n in range(first, first + count)]


async def run_until_empty(queue: FakeQueue, *consumers: Consumer) -> None:
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        for one in consumers:
            tasks.create_task(one.run())
        await until(lambda: not queue.items and not queue.errors)
        for one in consumers:
            one.stop()


async def consume(queue: FakeQueue, stored: FakeMap, name: str = "messages-1") -> tuple[Consumer, Health]:
    found = consumer(queue, stored, name)
    await run_until_empty(queue, found.consumer)
    return found.consumer, found.health


def counted(health: Health) -> dict[str, int]:
    return {name: count for name, count in health.counters.items() if count}


async def test_received_messages_are_held_in_order_and_stored() -> None:
    stored = FakeMap()
    found, health = await consume(FakeQueue(messages(1000)), stored)
    assert [m.text for page in found.held.pages() for m in page.values()] == [f"msg{n}" for n in range(1000)]
    assert {Message.from_json(raw).by for raw in stored.entries.values()} == {"messages-1"}
    assert counted(health) == {"messages_received": 1000}


async def test_a_second_delivery_of_the_same_id_is_ignored_and_counted() -> None:
    found, health = await consume(FakeQueue([*messages(3), *messages(3)]), FakeMap())
    assert ids_of(found.held) == ["id-0", "id-1", "id-2"]
    assert counted(health) == {"messages_received": 3, "duplicates_ignored": 3}


async def test_what_another_instance_stored_is_not_held_here() -> None:
    stored = FakeMap()
    await consume(FakeQueue(messages(2)), stored, "messages-1")
    second, health = await consume(FakeQueue(messages(3)), stored, "messages-2")
    assert ids_of(second.held) == ["id-2"]
    assert health.counters["duplicates_ignored"] == 2


async def test_two_consumers_hold_each_message_once() -> None:
    queue, stored = FakeQueue([*messages(300), *messages(300)]), FakeMap()
    first, second = consumer(queue, stored, "messages-1").consumer, consumer(queue, stored, "messages-2").consumer
    await run_until_empty(queue, first, second)
    assert sorted([*ids_of(first.held), *ids_of(second.held)]) == sorted(f"id-{n}" for n in range(300))
    assert first.held
    assert second.held


async def test_a_refused_item_is_counted_and_the_rest_flows_on(caplog: pytest.LogCaptureFixture) -> None:
    items: list[Message | Refused] = [Refused("an item of type -120, not text"), *messages(2), Refused("odd")]
    queue, dead = FakeQueue([*items, *messages(1, first=2)]), FakeMap()
    found = consumer(queue, FakeMap(), dead=dead)
    await run_until_empty(queue, found.consumer)
    assert ids_of(found.consumer.held) == ["id-0", "id-1", "id-2"]
    assert found.health.counters["items_refused"] == 2
    letters = [DeadLetter.from_json(raw) for raw in dead.entries.values()]
    assert [letter.reason for letter in letters] == ["an item of type -120, not text", "odd"]
    assert [line for line in caplog.messages if line.startswith("an item of the queue is a dead letter now")]


async def test_failing_map_loses_nothing() -> None:
    stored = FakeMap()
    stored.errors.extend(HazelcastError("not now") for _ in range(3))
    found, health = await consume(FakeQueue(messages(5)), stored)
    assert set(ids_of(found.held)) == {f"id-{n}" for n in range(5)}
    assert counted(health) == {"messages_received": 5}


async def test_a_write_whose_confirmation_was_lost_is_no_duplicate() -> None:
    stored = FakeMap()
    stored.late_errors.extend(HazelcastError("no confirmation") for _ in range(3))
    found, health = await consume(FakeQueue(messages(5)), stored)
    assert set(ids_of(found.held)) == {f"id-{n}" for n in range(5)}
    assert counted(health) == {"messages_received": 5}


async def test_unavailable_map_gets_everything_when_it_is_back() -> None:
    queue, stored = FakeQueue(messages(50)), FakeMap()
    away = consumer(queue, stored)
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        away.client.up = False
        tasks.create_task(away.consumer.run())
        await asyncio.sleep(0.1)
        assert not stored.entries
        away.client.up = True
        await until(lambda: len(stored.entries) == 50)
        away.consumer.stop()
    assert len(away.consumer.held) == 50


async def test_a_stop_waits_for_what_has_left_the_queue() -> None:
    queue, stored = FakeQueue(messages(1)), FakeMap()
    stored.errors.append(HazelcastError("not now"))
    found = consumer(queue, stored).consumer
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        tasks.create_task(found.run())
        await until(lambda: not queue.items)
        found.stop()
    assert set(stored.entries) == set(ids_of(found.held)) == {"id-0"}


@pytest.mark.parametrize("error", [QueueUnavailableError("away"), QueueIndeterminateError("the answer was lost")])
async def test_a_queue_that_fails_is_asked_again(error: Exception) -> None:
    queue = FakeQueue(messages(3))
    queue.errors.append(error)
    assert len((await consume(queue, FakeMap()))[0].held) == 3


async def test_batch_size_starts_at_one_and_doubles_while_full() -> None:
    class Asked(FakeQueue):
        sizes: list[int]

        async def receive(self, most: int, seconds: float) -> list[Message | Refused]:
            self.sizes.append(most)
            return await super().receive(most, seconds)

    came = 1000 - sum((1, 2, 4, 8, 16, 32, 64, 128, LARGEST_BATCH, LARGEST_BATCH))
    queue = Asked(messages(1000))
    queue.sizes = []
    found = consumer(queue, FakeMap()).consumer
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        tasks.create_task(found.run())
        await until(lambda: len(queue.sizes) > 12)
        found.stop()
    assert queue.sizes[:13] == [1, 2, 4, 8, 16, 32, 64, 128, 256, LARGEST_BATCH, LARGEST_BATCH, came, 1]


async def test_what_comes_soon_after_a_batch_is_one_batch() -> None:
    class Timed(FakeQueue):
        asked_at: list[float]

        async def receive(self, most: int, seconds: float) -> list[Message | Refused]:
            self.asked_at.append(asyncio.get_running_loop().time())
            return await super().receive(most, seconds)

    queue = Timed(messages(20))
    queue.asked_at = []
    await consume(queue, FakeMap())
    assert len(queue.asked_at) > 1
    assert all(later - earlier >= 0.9 * GATHER_SECONDS for earlier, later in pairwise(queue.asked_at))


async def test_a_restarted_instance_takes_its_own_back_into_memory() -> None:
    stored = FakeMap()
    await consume(FakeQueue(messages(3)), stored, "messages-1")
    await consume(FakeQueue(messages(2, first=3)), stored, "messages-2")
    stored.entries["odd"] = "no message"
    again = consumer(FakeQueue(), stored, "messages-1").consumer
    await again.claims.refill()
    assert ids_of(again.held) == ["id-0", "id-1", "id-2"]


async def test_refill_is_in_order_if_store_fails() -> None:
    stored = FakeMap()
    for number in (1, 2):
        await consume(FakeQueue(messages(1500, first=1500 * number)), stored, f"messages-{number}")
    stored.entries = dict(sorted(stored.entries.items(), key=lambda entry: entry[0][::-1]))
    stored.errors.append(HazelcastError("not now"))
    again = consumer(FakeQueue(), stored, "messages-1").consumer
    await again.claims.refill()
    assert ids_of(again.held) == [f"id-{n}" for n in range(1500, 3000)]


async def test_a_redelivery_after_a_restart_is_ignored() -> None:
    queue, stored = FakeQueue(messages(2)), FakeMap()
    await run_until_empty(queue, consumer(queue, stored).consumer)
    queue.items.extend(messages(2))
    again = consumer(queue, stored)
    await again.consumer.claims.refill()
    await run_until_empty(queue, again.consumer)
    assert ids_of(again.consumer.held) == ["id-0", "id-1"]
    assert counted(again.health) == {"duplicates_ignored": 2}


async def told(queue: FakeQueue, stored: FakeMap, wanted: int) -> Sequence[str]:
    app = messages_app(queue, stored)
    async with calling(app) as client, asyncio.timeout(DEADLINE):
        await until(lambda: app[HEALTH].held() == wanted)
        status, body = await client.get("/messages")
        assert status == 200
        return [str(text) for text in body]


async def test_the_service_shows_what_it_received_in_order_of_arrival() -> None:
    assert await told(FakeQueue(messages(3)), FakeMap(), 3) == ["msg0", "msg1", "msg2"]


async def test_the_service_shows_what_it_had_before_it_was_stopped() -> None:
    stored = FakeMap()
    before = await told(FakeQueue(messages(3)), stored, 3)
    assert await told(FakeQueue(messages(1, first=3)), stored, 4) == [*before, "msg3"]


async def test_a_received_message_is_logged_with_id_and_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "microq"):
        await consume(FakeQueue([Message("a", "hello")]), FakeMap())
    assert 'received a "hello"' in caplog.messages


async def test_join_reconciles_memory_and_maps() -> None:
    stored, theirs = FakeMap(), Message("id-1", "msg1", 1.0, "messages-2").to_json()
    found = consumer(FakeQueue(), stored)
    one = found.consumer
    one.claims.merges.settle_seconds = one.claims.spread_seconds = 0.01
    await one.keep(messages(4))
    await found.store.log.add(messages(3))
    stored.entries["id-1"] = theirs
    del stored.entries["id-2"]
    reconciling = asyncio.create_task(one.claims.reconcile_after_joins())
    await asyncio.sleep(0.05)
    assert len(one.held) == 4, "nobody has joined yet"
    found.store.joined.set()
    await until(lambda: len(one.held) == 3)
    reconciling.cancel()
    assert ids_of(one.held) == ["id-0", "id-2", "id-3"]
    assert stored.entries["id-1"] == theirs
    assert found.health.counters["messages_yielded"] == 1
    for kept in (found.store.stored, found.store.log):
        assert {message.id for message in await kept.all()} == {f"id-{n}" for n in range(4)}


async def test_consumers_read_at_random_times_after_a_join() -> None:
    class Timed(FakeMap):
        """It notes when it is read first."""

        at = 0.0

        async def values(self) -> list[str]:
            self.at = self.at or asyncio.get_running_loop().time()
            return await super().values()

    maps = [Timed() for _ in range(8)]
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        for number, each in enumerate(maps):
            found = consumer(FakeQueue(), each, f"messages-{number}")
            found.consumer.claims.merges.settle_seconds, found.consumer.claims.spread_seconds = 0.01, 0.4
            found.store.joined.set()
            tasks.create_task(found.consumer.claims.reconcile_after_joins())
        await until(lambda: all(each.at for each in maps))
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    times = sorted(each.at for each in maps)
    assert times[-1] - times[0] > 0.04


async def test_claim_of_other_half_that_survives_merge_is_held(caplog: pytest.LogCaptureFixture) -> None:
    """Or nobody holds the message: whoever held it in this half gives it up."""
    stored = FakeMap()
    stored.late_errors.append(HazelcastError("its half was cut off"))
    with caplog.at_level("INFO", "microq"):
        found = consumer(FakeQueue(), stored)
        one, other = found.consumer, consumer(FakeQueue(), stored, "messages-2").consumer
        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(one.keep(messages(1)))
            await until(lambda: bool(stored.entries))
            unconfirmed = stored.entries.pop("id-0")
            await other.keep(messages(1))
            await keeping
            assert (ids_of(one.held), ids_of(other.held)) == ([], ["id-0"])

            stored.entries["id-0"] = unconfirmed
            await other.claims.reconcile()
            await one.claims.reconcile()
        assert (ids_of(one.held), ids_of(other.held)) == (["id-0"], [])
        assert counted(found.health) == {"duplicates_ignored": 1, "messages_received": 1}
        (arrived,) = one.held.arrivals("another", 0)["ids"]
        assert arrived == "id-0"
    assert caplog.messages.count('received id-0 "msg0"') == 2
    assert "loaded 1 messages into memory, which are this instance's since the merge" in caplog.messages


async def test_what_is_being_claimed_during_a_look_is_received_once() -> None:
    found = consumer(FakeQueue(), FakeMap())
    one = found.consumer
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(one.keep(messages(100)))
        while not keeping.done():
            await one.claims.reconcile()
    assert counted(found.health) == {"messages_received": 100}


SERVE = """
import sys
from support.fakes import FakeMap, FakeQueue, messages_app
from microq.config import Address
from microq.errors import MachineError
from microq.message import Message
from microq.services.app import serve
queue = FakeQueue([Message("id-1", "a", 1.0)])
try:
    serve(messages_app(queue, FakeMap()), "messages-1", Address("127.0.0.1", int(sys.argv[1])))
except MachineError as error:
    print(error)
print("left in the queue:", len(queue.items))
"""


def test_a_service_whose_port_is_taken_consumes_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [sys.executable, "-c", SERVE, str(taken.getsockname()[1])],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert "messages-1 cannot listen on 127.0.0.1" in done.stdout, done.stderr
    assert "left in the queue: 1" in done.stdout


async def test_a_message_longer_than_any_facade_takes_is_a_dead_letter() -> None:
    queue, dead = FakeQueue([Message("id-big", "x" * (PLAIN.limits.max_body + 1)), *messages(2)]), FakeMap()
    found = consumer(queue, FakeMap(), dead=dead)
    await run_until_empty(queue, found.consumer)
    assert ids_of(found.consumer.held) == ["id-0", "id-1"]
    [letter] = [DeadLetter.from_json(raw) for raw in dead.entries.values()]
    assert letter.reason == "longer than 1048576 characters"
    assert len(letter.text) < 100_000


# -- no more than it may hold -----------------------------------------------------------------------------------------


async def test_what_is_being_stored_is_told_as_taken_until_it_is() -> None:
    stored = FakeMap()
    queue = FakeQueue()
    app = messages_app(queue, stored)
    async with calling(app) as client, asyncio.timeout(DEADLINE):
        stored.errors.extend([HazelcastError("not now")] * 3)
        queue.items.extend(messages(1))
        await until(lambda: len(stored.errors) < 3)
        body = (await client.get("/arrivals?epoch=another&after=0"))[1]
        assert (body["taken"], body["ids"]) == (["id-0"], [])
        await until(lambda: app[HEALTH].held() == 1)
        body = (await client.get("/arrivals?epoch=another&after=0"))[1]
        assert (body["taken"], body["ids"]) == ([], ["id-0"])


async def test_full_instance_leaves_rest_in_queue_and_logs_it_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "microq"):
        queue, stored = FakeQueue(messages(300)), FakeMap()
        app = messages_app(queue, stored, config=replace(PLAIN, limits=Limits(max_held=100)))
        async with calling(app) as client, asyncio.timeout(DEADLINE):
            await until(lambda: queue.leaves == 1)
            health = (await client.get("/healthz"))[1]
            assert (health["held"], health["full"]) == (100, True)
            assert "microq_full 1.0" in await metrics(client)
            assert (len(stored.entries), len(queue.items)) == (100, 200)
            assert queue.acks, "what is stored is not left to come again"
            assert await client.get("/messages") == (200, [f"msg{n}" for n in range(100)])
        assert (len(stored.entries), len(queue.items), queue.leaves) == (100, 200, 1)
    (line,) = [record for record in caplog.records if record.getMessage().startswith("full: ")]
    assert (line.levelname, "100 messages are held" in line.getMessage()) == ("WARNING", True)


async def metrics(client: Caller) -> str:
    async with client.session.get(client.address.url + "/metrics") as response:
        return await response.text()


async def test_an_instance_with_room_is_not_full() -> None:
    queue = FakeQueue(messages(99))
    app = messages_app(queue, FakeMap(), config=replace(PLAIN, limits=Limits(max_held=100)))
    async with calling(app) as client, asyncio.timeout(DEADLINE):
        await until(lambda: app[HEALTH].held() == 99)
        assert (await client.get("/healthz"))[1]["full"] is False
        assert "microq_full 0.0" in await metrics(client)
        assert queue.leaves == 0


async def test_overflow_of_one_consumer_goes_to_the_other() -> None:
    queue, stored = FakeQueue(messages(300)), FakeMap()
    few, many = consumer(queue, stored, limits=Limits(max_held=10)), consumer(queue, stored, "messages-2")
    await run_until_empty(queue, few.consumer, many.consumer)
    assert len(few.consumer.held) == 10
    assert sorted([*ids_of(few.consumer.held), *ids_of(many.consumer.held)]) == sorted(f"id-{n}" for n in range(300))


async def test_full_instance_receives_again_after_giving_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", "microq"):
        queue, stored = FakeQueue(messages(5)), FakeMap()
        found = consumer(queue, stored, limits=Limits(max_held=3))
        one = found.consumer
        one.claims.merges.settle_seconds = one.claims.spread_seconds = 0.01
        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
            tasks.create_task(one.run())
            reconciling = tasks.create_task(one.claims.reconcile_after_joins())
            await until(lambda: queue.leaves == 1)
            assert [m.id for m in queue.items if isinstance(m, Message)] == ["id-3", "id-4"]
            stored.entries["id-1"] = Message("id-1", "msg1", 1.0, "messages-2").to_json()
            found.store.joined.set()
            await until(lambda: queue.leaves == 2)
            reconciling.cancel()
            one.stop()
        assert ids_of(one.held) == ["id-0", "id-2", "id-3"]
        assert len(queue.items) == 1
    assert "there is room again, for 1 messages" in caplog.messages


async def test_stored_messages_are_held_above_bound() -> None:
    stored = FakeMap()
    queue = FakeQueue(messages(5))
    await run_until_empty(queue, consumer(queue, stored).consumer)
    waiting = FakeQueue(messages(1, first=5))
    again = consumer(waiting, stored, limits=Limits(max_held=3)).consumer
    await again.claims.refill()
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        tasks.create_task(again.run())
        await until(lambda: waiting.leaves == 1)
        again.stop()
    assert ids_of(again.held) == [f"id-{n}" for n in range(5)]
    assert len(waiting.items) == 1


async def test_failed_leave_does_not_end_a_full_instance() -> None:
    class Clinging(FakeQueue):
        async def leave(self) -> None:
            await super().leave()
            raise QueueIndeterminateError("not now")

    queue = Clinging(messages(2))
    found = consumer(queue, FakeMap(), limits=Limits(max_held=1)).consumer
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        tasks.create_task(found.run())
        await until(lambda: queue.leaves == 1)
        found.stop()
    assert ids_of(found.held) == ["id-0"]


# -- what the queue is told -------------------------------------------------------------------------------------------


class Watched(FakeQueue):
    """It notes how much was stored whenever it is told that all of it is."""

    def __init__(self, items: Sequence[Message], stored: FakeMap) -> None:
        super().__init__(items)
        self._stored, self.stored_at_ack = stored, [0]
        self.given = 0
        self.given_at_ack: list[int] = []
        self.ack_errors: list[QueueError] = []

    async def receive(self, most: int, seconds: float) -> list[Message | Refused]:
        taken = await super().receive(most, seconds)
        self.given += len(taken)
        return taken

    async def ack(self) -> None:
        await super().ack()
        if self.ack_errors:
            raise self.ack_errors.pop()
        self.stored_at_ack.append(len(self._stored.entries))
        self.given_at_ack.append(self.given)


async def test_ack_follows_the_store_and_covers_many_messages() -> None:
    stored = FakeMap()
    queue = Watched(messages(1000), stored)
    await consume(queue, stored)
    assert queue.stored_at_ack[-1] == 1000
    assert queue.stored_at_ack[1:] == queue.given_at_ack, "what it is told of is stored, all of it"
    assert queue.acks < 10


async def test_what_the_queue_did_not_hear_it_is_told_again() -> None:
    stored = FakeMap()
    queue = Watched(messages(3), stored)
    queue.ack_errors = [QueueIndeterminateError("the partitions went to another consumer")] * 2
    found = consumer(queue, stored).consumer
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        tasks.create_task(found.run())
        await until(lambda: queue.stored_at_ack[-1] == 3)
        found.stop()
    assert queue.acks >= 3


async def test_a_queue_that_gave_nothing_is_told_nothing() -> None:
    queue = Watched([], FakeMap())
    found = consumer(queue, FakeMap()).consumer
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        tasks.create_task(found.run())
        await asyncio.sleep(0.3)
        found.stop()
    assert queue.acks == 0
