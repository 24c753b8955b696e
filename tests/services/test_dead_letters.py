"""What the facade says of single messages, its dead letters, and what a resend does."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from hazelcast.errors import HazelcastError
from rich.console import Console
from support.fakes import (
    PLAIN,
    Caller,
    FakeMap,
    FakeQueue,
    FakeStore,
    Stub,
    consumer,
    facade,
    ids_of,
    logging_app,
    until,
)
from support.project import free_ports

from microq.client import FacadeClient
from microq.config import Address
from microq.errors import NotRunningError, QueueIndeterminateError, QueueUnavailableError, UsageError
from microq.message import DeadLetter, Message, Redelivery
from microq.services import redelivery
from microq.terminal import messages as pictures

ODD_IDS = [
    "a/b",
    "a//b/",
    "/a",
    "%2F",
    "100%",
    "a%20b",
    "ä ö",
    "🐝",
    "a?b#c",
    "a&b=c",
    "a+b",
    'say "x"',
    "replay",
    "batch",
]


class Quick(redelivery.Watch):
    pause = 0.01


def message(message_id: str, by: str = "") -> str:
    return Message(message_id, f"text of {message_id}", 1.0, by).to_json()


def letter(message_id: str, *, replayable: bool = True, at: float = 1.0) -> str:
    return DeadLetter(message_id, f"text of {message_id}", "a reason", "facade", at, replayable).to_json()


@asynccontextmanager
async def system(
    store: FakeStore, queue: FakeQueue | None = None, timeout_: int = 3600, most: int = 5
) -> AsyncIterator[Caller]:
    """A facade with one logging-service, on the maps of `store`; nothing is redelivered unless the timeout is small."""
    settings = replace(PLAIN.queue, visibility_timeout=timeout_, max_deliveries=most)
    config = replace(PLAIN, queue=settings)
    async with facade(queue or FakeQueue(), [logging_app(store.log)], (), config, store, Quick) as client:
        yield client


async def state(client: Caller, message_id: str) -> dict[str, Any]:
    status, body = await client.get(f"/facade/{quote(message_id, safe='')}")
    assert status == 200
    assert body.pop("uuid") == message_id
    return dict(body)


# -- what became of one -----------------------------------------------------------------------------------------------


async def test_a_message_is_unknown_pending_stored_or_dead() -> None:
    store, queue = FakeStore(), FakeQueue()
    async with system(store, queue) as client:
        assert await state(client, "a") == {"state": "unknown"}
        await client.post({"msg": "a", "uuid": "a"})
        assert await state(client, "a") == {"state": "pending"}
        store.dead.entries["a"] = letter("a")
        assert await state(client, "a") == {"state": "dead", "reason": "a reason"}
        store.stored.entries["a"] = message("a", "messages-1")
        assert await state(client, "a") == {"state": "stored", "by": "messages-1"}


@pytest.mark.parametrize("message_id", ODD_IDS)
async def test_an_id_with_any_characters_is_found(message_id: str) -> None:
    store = FakeStore()
    async with system(store) as client:
        assert await state(client, message_id) == {"state": "unknown"}
        assert (await client.post({"msg": "a", "uuid": message_id}))[0] == 200
        assert await state(client, message_id) == {"state": "pending"}


async def test_a_cluster_that_does_not_answer_leaves_the_state_unsaid() -> None:
    store = FakeStore()
    async with system(store) as client:
        # The watch, which compares the maps at its start, may meet one of them.
        store.stored.errors.extend([HazelcastError("not now")] * 2)
        assert (await client.get("/facade/a"))[0] == 504
        store.client.up = False
        assert (await client.get("/facade/a"))[0] == 503


async def test_message_with_dropped_letter_is_not_pending() -> None:
    store, queue = FakeStore(), FakeQueue()
    async with system(store, queue, timeout_=0, most=1) as client:
        await client.post({"msg": "a", "uuid": "a"})
        queue.items.clear()
        await until(lambda: "a" in store.dead.entries)
        assert await state(client, "a") == {"state": "dead", "reason": "not stored after 1 deliveries"}
        assert (await client.post({"uuids": ["a"]}, "/dead/drop"))[0] == 200
        assert (await state(client, "a"))["state"] == "dead"


async def test_queue_counts_are_unknown_without_an_answer() -> None:
    store = FakeStore()
    store.redelivered.entries["b"] = Redelivery("b", 2, 1.0).to_json()
    store.dead.entries["c"] = letter("c")
    async with system(store) as client:
        await client.post({"msg": "a"})
        _, body = await client.get("/queue")
        assert (body["pending"], body["redelivered"], body["dead"]) == (1, 1, 1)
        assert (await client.get("/redelivered"))[1] == [{"uuid": "b", "tries": 2, "at": 1.0}]
        store.client.up = False
        _, body = await client.get("/queue")
        assert (body["pending"], body["redelivered"], body["dead"]) == (None, None, None)


# -- dead letters -----------------------------------------------------------------------------------------------------


async def test_dead_letters_are_listed_oldest_first() -> None:
    store = FakeStore()
    store.dead.entries |= {"new": letter("new", at=2.0), "old": letter("old", at=1.0, replayable=False)}
    async with system(store) as client:
        old, new = (await client.get("/dead"))[1]
        assert (old["uuid"], old["replayable"], new["uuid"], new["replayable"]) == ("old", False, "new", True)
        assert (new["msg"], new["reason"], new["by"], new["at"]) == ("text of new", "a reason", "facade", 2.0)


async def test_replayed_letter_counts_deliveries_from_0() -> None:
    store, queue = FakeStore(), FakeQueue()
    store.log.entries["a"] = message("a")
    store.redelivered.entries["a"] = Redelivery("a", 2, 1.0).to_json()
    store.dead.entries["a"] = letter("a")
    async with system(store, queue, timeout_=0, most=2) as client:
        assert (await client.post({"uuids": ["a", "a"]}, "/dead/replay"))[1]["uuids"] == ["a"]
        assert not store.dead.entries
        assert [item.text for item in queue.items if isinstance(item, Message)] == ["text of a"]
        queue.items.clear()
        await until(lambda: bool(queue.items))  # redelivered, not given up at once
        assert Redelivery.from_json(store.redelivered.entries["a"]).tries == 1


async def test_resend_of_given_up_counts_deliveries_from_0() -> None:
    store, queue = FakeStore(), FakeQueue()
    store.log.entries["a"] = message("a")
    store.redelivered.entries["a"] = Redelivery("a", 2, 1.0).to_json()
    async with system(store, queue, timeout_=0, most=2) as client:
        assert (await client.post({"msg": "text of a", "uuid": "a"}))[0] == 200
        queue.items.clear()
        await until(lambda: bool(queue.items) or bool(store.dead.entries))
        assert not store.dead.entries
        assert Redelivery.from_json(store.redelivered.entries["a"]).tries == 1


async def test_refused_replay_leaves_dead_letter_as_it_was() -> None:
    store, queue = FakeStore(), FakeQueue(most=0)
    store.dead.entries["a"] = before = letter("a")
    async with system(store, queue, timeout_=0) as client:
        assert (await client.post({"uuids": ["a"]}, "/dead/replay"))[0] == 503
        await asyncio.sleep(0.1)
        assert store.dead.entries == {"a": before}
        assert (await client.get("/queue"))[1]["pending"] == 0


@pytest.mark.parametrize("verb", ["replay", "drop"])
@pytest.mark.parametrize("bad", ["nosuch", "foreign"])
async def test_one_invalid_letter_leaves_all_letters_unchanged(verb: str, bad: str) -> None:
    store, queue = FakeStore(), FakeQueue()
    store.dead.entries |= {"a": letter("a"), "foreign": letter("foreign", replayable=False)}
    async with system(store, queue) as client:
        status, body = await client.post({"uuids": ["a", bad]}, f"/dead/{verb}")
        if (verb, bad) == ("drop", "foreign"):
            assert (status, store.dead.entries) == (200, {})
            return
        assert status == 400
        assert bad in body["message"]
        assert "microq dead" in body["message"]
        assert set(store.dead.entries) == {"a", "foreign"}
        assert not queue.items


@pytest.mark.parametrize("body", [{}, [], "a", {"uuids": "a"}, {"uuids": [1]}, {"uuids": None}])
async def test_a_request_without_ids_answers_400(body: object) -> None:
    async with system(FakeStore()) as client:
        assert (await client.post(body, "/dead/drop"))[0] == 400


async def test_the_client_tells_a_wrong_id_from_a_facade_that_cannot() -> None:
    store = FakeStore()
    store.dead.entries["a"] = letter("a")
    async with system(store) as caller:
        client = FacadeClient(caller.session, caller.address)
        with pytest.raises(UsageError, match="nosuch is not a dead letter"):
            await client.change_letters("drop", ["nosuch"])
        assert [found["uuid"] for found in await client.dead_letters()] == ["a"]
        await client.change_letters("drop", ["a"])
        assert await client.dead_letters() == []
        store.client.up = False
        with pytest.raises(NotRunningError, match="503"):
            await client.dead_letters()


def picture(*letters: dict[str, Any], now: float = 100.0) -> str:
    screen = Console(file=io.StringIO(), width=100, color_system=None)
    screen.print(pictures.dead(letters, now))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def shown(**more: Any) -> dict[str, Any]:
    plain = {"uuid": "id-1", "msg": "hello", "reason": "odd", "by": "messages-1", "at": 40.0, "replayable": True}
    return {**plain, **more}


def test_the_picture_of_the_dead_letters_says_all_of_each() -> None:
    both = picture(shown(), shown(uuid="id-2", msg="", replayable=False, at=90.0))
    assert both.splitlines()[0] == "2 dead letters, newest last"
    for part in ("id-1", "odd   1m00s ago, by messages-1", '"hello"', "10.0 s ago", "cannot be replayed", "no text"):
        assert part in both
    assert picture() == "There are no dead letters.\n"


@pytest.mark.parametrize("evil", ["\x1b[31mred", "two\nlines", "\u202egnp", "\x9b2J", "[bold]x[/bold]"])
def test_a_dead_letter_cannot_colour_or_move_the_terminal(evil: str) -> None:
    lines = picture(shown(uuid=evil, msg=evil, reason=evil, by=evil)).splitlines()
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)


# -- a resend ---------------------------------------------------------------------------------------------------------


async def test_indeterminate_message_settles_once() -> None:
    class Silent(FakeQueue):
        """It takes the message and does not confirm it."""

        async def put(self, messages: Sequence[Message]) -> None:
            self.items.extend(messages)
            raise QueueIndeterminateError("no backup confirmed it")

    store, silent, queue = FakeStore(), Silent(), FakeQueue()
    async with system(store, silent) as client:
        assert (await client.post({"msg": "a", "uuid": "a"}))[0] == 504
        assert await state(client, "a") == {"state": "pending"}
    queue.items = silent.items
    async with system(store, queue) as client:
        assert (await client.post({"msg": "a", "uuid": "a"}))[0] == 200
        assert (await client.post({"msg": "b", "uuid": "a"}))[0] == 422
        found = consumer(queue, store.stored)
        await found.consumer.keep(await queue.receive(100, 0.0))
        assert ids_of(found.consumer.held) == ["a"]
        assert found.health.counters["duplicates_ignored"] >= 1
        assert (await state(client, "a"))["state"] == "stored"


async def test_indeterminate_message_is_redelivered() -> None:
    class Losing(FakeQueue):
        async def put(self, messages: Sequence[Message]) -> None:
            if self.most:
                await super().put(messages)
            else:
                raise QueueIndeterminateError("no backup confirmed it")

    store, queue = FakeStore(), Losing(most=0)
    async with system(store, queue, timeout_=1) as client:
        assert (await client.post({"msg": "a", "uuid": "a"}))[0] == 504
        queue.most = 10
        await until(lambda: bool(queue.items))
        assert await state(client, "a") == {"state": "pending"}


async def test_unconfirmed_log_write_is_delivered() -> None:
    store, queue = FakeStore(), FakeQueue()
    config = replace(PLAIN, queue=replace(PLAIN.queue, visibility_timeout=0))
    async with facade(queue, [Stub(504).app], (), config, store, Quick) as client:
        assert (await client.post({"msg": "a", "uuid": "nowhere"}))[0] == 504
        store.log.entries["written"] = message("written")
        assert (await client.post({"msg": "a", "uuid": "written"}))[0] == 504
        seen = set[str]()

        def delivered() -> bool:
            """Take what waits: while it does, nothing behind it is known to have left the queue."""
            seen.update(item.id for item in queue.items if isinstance(item, Message))
            queue.items.clear()
            return seen == {"nowhere", "written"}

        await until(delivered)
        assert set(store.log.entries) == {"nowhere", "written"}


async def test_resend_of_lost_entry_is_504() -> None:
    store, queue = FakeStore(), FakeQueue(most=1)
    async with system(store, queue) as client:
        assert (await client.post({"msg": "a", "uuid": "a"}))[0] == 200
        store.log.entries.clear()  # by a merge
        assert (await client.post({"msg": "a", "uuid": "a"}))[0] == 504
        assert set(store.log.entries) == {"a"}


async def test_resend_of_stored_is_success_if_queue_full() -> None:
    store, queue = FakeStore(), FakeQueue(most=1)
    async with system(store, queue) as client:
        assert (await client.post({"msg": "a", "uuid": "a"}))[0] == 200
        assert (await client.post({"msg": "a", "uuid": "a"}))[0] == 504  # it is not stored yet
        store.stored.entries["a"] = message("a", "messages-1")
        assert (await client.post({"msg": "a", "uuid": "a"}))[0] == 200
        assert (await client.post({"msg": "b", "uuid": "b"}))[0] == 503
        assert len(queue.items) == 1
        assert await state(client, "b") == {"state": "unknown"}


@pytest.mark.parametrize("refusal", ["another text", "no log"])
async def test_refused_resend_leaves_first_watched(refusal: str) -> None:
    store, queue = FakeStore(), FakeQueue()
    places: list[Any] = [logging_app(store.log)] if refusal == "another text" else [_nobody()]
    store.log.entries["a"] = message("a")
    config = replace(PLAIN, queue=replace(PLAIN.queue, visibility_timeout=1))
    async with facade(queue, places, (), config, store, Quick) as client:
        # What an earlier facade accepted, and a consumer took and lost.
        await asyncio.sleep(0.1)
        expected = 422 if refusal == "another text" else 504
        assert (await client.post({"msg": "b", "uuid": "a"}))[0] == expected
        await until(lambda: bool(queue.items))


def _nobody() -> Address:
    return Address("127.0.0.1", free_ports(1)[0])


async def test_message_without_log_write_is_rejected_and_nowhere() -> None:
    store, queue = FakeStore(), FakeQueue()
    async with facade(queue, [_nobody()], store=store) as client:
        assert (await client.post({"msg": "a", "uuid": "a"}))[0] == 503
        assert await state(client, "a") == {"state": "unknown"}
        assert not queue.items


async def test_removal_and_redelivery_of_an_id_take_turns() -> None:
    class Refusing(FakeQueue):
        """It refuses the first put after a while; what comes meanwhile it takes."""

        calls = 0

        async def put(self, messages: Sequence[Message]) -> None:
            self.calls += 1
            if self.calls == 1:
                await asyncio.sleep(1.3)
                raise QueueUnavailableError("away")
            await super().put(messages)

    class Silent(FakeMap):
        """The first write gets no answer and comes to nothing."""

        calls = 0

        async def put_if_absent(self, key: str, value: Any) -> Any:
            self.calls += 1
            if self.calls == 1:
                raise HazelcastError("no answer")
            return await super().put_if_absent(key, value)

    store, queue = FakeStore(log=Silent()), Refusing()
    async with system(store, queue, timeout_=1) as client:
        assert (await client.post({"msg": "a", "uuid": "a"}))[0] == 504
        await asyncio.sleep(0.1)  # it is seen to have left the queue, and is due while the second one is sent
        assert (await client.post({"msg": "a", "uuid": "a"}))[0] == 504  # the first one may still be delivered
        await until(lambda: bool(queue.items))
        assert len(queue.items) == 1
        assert set(store.log.entries) == {"a"}
