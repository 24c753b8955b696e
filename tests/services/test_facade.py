"""The facade over real HTTP: it acknowledges only what is in the log and in the queue, and says what it knows."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from hazelcast.errors import HazelcastError
from support.fakes import (
    PLAIN,
    Caller,
    FakeClient,
    FakeMap,
    FakeQueue,
    FakeStore,
    Stub,
    calling,
    facade,
    logging_app,
    messages_app,
    until,
)
from support.project import free_ports

from microq.backends.base import Refused
from microq.client import FacadeClient
from microq.config import Address, Limits
from microq.errors import QueueFullError, QueueIndeterminateError, QueueUnavailableError
from microq.message import Message, Outcome


def nobody() -> Address:
    return Address("127.0.0.1", free_ports(1)[0])


def texts(queue: FakeQueue) -> list[str]:
    return [item.text for item in queue.items if isinstance(item, Message)]


async def test_an_acknowledged_message_is_in_the_log_and_in_the_queue() -> None:
    queue, log = FakeQueue(), FakeMap()
    async with facade(queue, [logging_app(log)]) as client:
        status, body = await client.post({"msg": "hello 👋"})
        assert (status, body["status"], body["logging-service"]) == (200, "success", "logging-1")
        assert texts(queue) == ["hello 👋"]
        entry = Message.from_json(log.entries[body["uuid"]])
        assert (entry.text, entry.by) == ("hello 👋", "logging-1")


async def test_the_id_is_the_clients_if_it_gave_one() -> None:
    queue = FakeQueue()
    async with facade(queue, [logging_app(FakeMap())]) as client:
        in_header = await client.post({"msg": "a"}, headers={"Idempotency-Key": "id-1"})
        in_body = await client.post({"msg": "b", "uuid": "id-2"})
        both = await client.post({"msg": "c", "uuid": "id-3"}, headers={"Idempotency-Key": "id-4"})
        assert [answer["uuid"] for _, answer in (in_header, in_body, both)] == ["id-1", "id-2", "id-4"]
        assert [item.id for item in queue.items if isinstance(item, Message)] == ["id-1", "id-2", "id-4"]


async def test_full_queue_answers_503_and_removes_log_entry() -> None:
    log = FakeMap()
    async with facade(FakeQueue(most=0), [logging_app(log)]) as client:
        answer = client.session.post(f"{client.address.url}/facade", json={"msg": "a", "uuid": "id-1"})
        async with answer as response:
            body = await response.json()
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert body["uuid"] == "id-1"
        assert "full" in body["message"]
        assert not log.entries


async def test_an_id_with_any_characters_is_taken_back_too() -> None:
    log = FakeMap()
    async with facade(FakeQueue(most=0), [logging_app(log)]) as client:
        for odd in ("a/b", "a?b#c", "%2F", "ä ö", "..", "."):
            status, body = await client.post({"msg": "a", "uuid": odd})
            assert (status, odd, log.entries) == (503, odd, {}), body


async def test_refused_repeat_leaves_first_log_entry() -> None:
    log, queue = FakeMap(), FakeQueue(most=1)
    async with facade(queue, [logging_app(log)]) as client:
        assert (await client.post({"msg": "a", "uuid": "id-1"}))[0] == 200
        assert (await client.post({"msg": "a", "uuid": "id-1"}))[0] == 504
        assert set(log.entries) == {"id-1"}


async def test_unavailable_cluster_answers_503_removes_log_entry() -> None:
    log, queue = FakeMap(), FakeQueue()
    queue.errors.append(QueueUnavailableError("no member"))
    async with facade(queue, [logging_app(log)]) as client:
        assert (await client.post({"msg": "a"}))[0] == 503
        assert not log.entries


@pytest.mark.parametrize("error", [QueueUnavailableError("no member"), QueueIndeterminateError("no answer")])
async def test_a_facade_whose_queue_does_not_answer_is_not_ready(error: Exception) -> None:
    queue = FakeQueue()
    async with facade(queue, [logging_app(FakeMap())]) as client:
        assert (await client.get("/readyz"))[0] == 200
        queue.errors.append(error)
        status, body = await client.get("/readyz")
        assert status == 503
        assert "no connection to the cluster" in body["message"]
        assert (await client.get("/readyz"))[0] == 200


async def test_a_facade_without_any_member_of_its_maps_is_not_ready() -> None:
    store = FakeStore()
    async with facade(FakeQueue(), [logging_app(FakeMap())], store=store) as client:
        assert (await client.get("/readyz"))[0] == 200
        store.client.up = False
        assert (await client.get("/readyz"))[0] == 503


async def test_indeterminate_put_answers_504_keeps_log_entry() -> None:
    log, queue = FakeMap(), FakeQueue()
    queue.errors.extend([QueueIndeterminateError("no backup confirmed it")] * 100)
    async with facade(queue, [logging_app(log)]) as client:
        status, body = await client.post({"msg": "a", "uuid": "id-1"})
        assert (status, body["status"], body["uuid"]) == (504, "failure", "id-1")
        assert "Idempotency-Key" in body["message"]
        assert set(log.entries) == {"id-1"}


async def test_refusal_after_indeterminate_put_is_504() -> None:
    class FullAtLast(FakeQueue):
        async def put(self, messages: Sequence[Message]) -> None:
            if not self.errors:
                raise QueueFullError("the queue is full")
            await super().put(messages)

    log, queue = FakeMap(), FakeQueue()
    queue.errors.append(QueueIndeterminateError("no backup confirmed it"))
    async with facade(queue, [logging_app(log)]) as client:
        assert (await client.post({"msg": "a"}))[0] == 200
        assert texts(queue) == ["a"]
    full = FullAtLast()
    full.errors.append(QueueIndeterminateError("no backup confirmed it"))
    async with facade(full, [logging_app(log)]) as client:
        assert (await client.post({"msg": "b", "uuid": "id-b"}))[0] == 504
        assert "id-b" in log.entries


async def test_refusal_with_entry_not_removed_is_indeterminate() -> None:
    class FailingRemove(FakeMap):
        async def remove_if_same(self, key: str, value: Any) -> bool:
            raise HazelcastError(key, value)

    async with facade(FakeQueue(most=0), [logging_app(FailingRemove())]) as client:
        status, body = await client.post({"msg": "a"})
        assert status == 504, body


async def test_same_id_with_another_text_answers_422() -> None:
    queue = FakeQueue()
    async with facade(queue, [logging_app(FakeMap())]) as client:
        await client.post({"msg": "a", "uuid": "id-1"})
        status, body = await client.post({"msg": "b", "uuid": "id-1"})
        assert (status, body["uuid"]) == (422, "id-1")
        assert texts(queue) == ["a"]


async def test_what_leaves_together_is_told_apart() -> None:
    """Of one batch one is in the log under another text, and the queue has room for two."""
    queue, log = FakeQueue(most=2), FakeMap({"taken": Message("taken", "x", 1.0, "logging-1").to_json()})
    async with facade(queue, [logging_app(log)]) as client:
        ids = ["m1", "m2", "taken", "m3", "m4"]
        answers = await asyncio.gather(*(client.post({"msg": f"text {i}", "uuid": i}) for i in ids))
        statuses = {i: status for i, (status, _) in zip(ids, answers, strict=True)}
        assert statuses.pop("taken") == 422
        assert sorted(statuses.values()) == [200, 200, 503, 503]
        accepted = {i for i, status in statuses.items() if status == 200}
        assert {item.id for item in queue.items if isinstance(item, Message)} == accepted
        assert set(log.entries) == {*accepted, "taken"}


async def test_a_queue_that_gathers_itself_is_given_each_message_alone() -> None:
    class Gathering(FakeQueue):
        gathers = True
        most_together = 0

        async def put(self, messages: Sequence[Message]) -> None:
            self.most_together = max(self.most_together, len(messages))
            if messages[0].text == "stuck":
                await asyncio.Event().wait()  # its partition has no leader
            await super().put(messages)

    queue = Gathering()
    async with facade(queue, [logging_app(FakeMap())]) as client:
        stuck = asyncio.ensure_future(client.post({"msg": "stuck"}))
        answers = await asyncio.gather(*(client.post({"msg": f"m{n}"}) for n in range(20)))
        assert {status for status, _ in answers} == {200}
        assert queue.most_together == 1
        assert not stuck.done()
        stuck.cancel()


async def test_a_logging_service_that_is_away_is_passed_over() -> None:
    queue = FakeQueue()
    async with facade(queue, [nobody(), logging_app(FakeMap(), "logging-2"), nobody()]) as client:
        answers = await asyncio.gather(*(client.post({"msg": f"m{n}"}) for n in range(20)))
        assert {(status, body["logging-service"]) for status, body in answers} == {(200, "logging-2")}
        assert len(queue.items) == 20


async def test_a_put_that_hangs_does_not_delay_the_messages_after_it() -> None:
    """A killed member leaves such a put behind: it ends with the backup timeout."""

    class HangsOnce(FakeQueue):
        hung = False

        async def put(self, messages: Sequence[Message]) -> None:
            if not self.hung:
                self.hung = True
                await released.wait()
            await super().put(messages)

    released = asyncio.Event()
    queue = HangsOnce()
    async with facade(queue, [logging_app(FakeMap())]) as client, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(client.post({"msg": "a"}))
        await until(lambda: queue.hung)
        assert (await client.post({"msg": "b"}))[0] == 200
        assert not first.done()
        released.set()
        assert (await first)[0] == 200


async def test_a_logging_service_that_hangs_is_passed_over() -> None:
    queue, hanging = FakeQueue(), Stub(hangs=True)
    async with facade(queue, [hanging.app, logging_app(FakeMap(), "logging-2")]) as client:
        answers = await asyncio.gather(*(client.post({"msg": f"m{n}"}) for n in range(20)))
        assert hanging.calls > 0
        assert {(status, body["logging-service"]) for status, body in answers} == {(200, "logging-2")}


@pytest.mark.parametrize(("behind", "expected"), [(503, 503), (500, 504), (504, 504)])
async def test_failing_logging_service_is_rejected_or_indeterminate(behind: int, expected: int) -> None:
    queue = FakeQueue()
    async with facade(queue, [Stub(behind).app]) as client:
        assert (await client.post({"msg": "a"}))[0] == expected
        assert not queue.items


async def test_a_logging_service_whose_cluster_is_away_rejects() -> None:
    client_of_map = FakeClient()
    client_of_map.up = False
    async with facade(FakeQueue(), [logging_app(FakeMap(), client=client_of_map)]) as client:
        assert (await client.post({"msg": "a"}))[0] == 503


async def test_no_logging_service_at_all_rejects() -> None:
    async with facade(FakeQueue(), [nobody(), nobody()]) as client:
        status, body = await client.post({"msg": "a"})
        assert status == 503
        assert "no logging-service answered" in body["message"]


BAD_BODIES = [
    (b"", "not JSON"),
    (b"msg=hello", "not JSON"),
    (b'{"msg": "a"', "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b"\xff\xfe", "not UTF-8"),
    ('{"msg": "Straße"}'.encode("latin-1"), "not UTF-8"),
    (b"[]", "/facade/batch"),
    (b"null", "JSON object"),
    (b"123", "not a number"),
    (b"true", "not true"),
    (b"{}", '"msg" is missing'),
    (b'{"text": "a"}', '"msg" is missing'),
    (b'{"msg": 1}', '"msg" must be text'),
    (b'{"msg": null}', '"msg" must be text'),
    (b'{"msg": ["a"]}', '"msg" must be text'),
    (b'{"msg": ""}', '"msg" is empty'),
    (b'{"msg": "\\ud800"}', "surrogate"),
    (b'{"msg": "a", "uuid": 7}', '"uuid" must be text'),
    (b'{"msg": "a", "uuid": "a\\nb"}', "printable"),
    (b'{"msg": "a", "uuid": "\\udfff"}', '"uuid"'),
    (b'{"msg": "a", "uuid": "' + b"x" * 201 + b'"}', "longer than 200"),
]


@pytest.mark.parametrize(("data", "reason"), BAD_BODIES, ids=range(len(BAD_BODIES)))
async def test_a_bad_body_answers_400_with_the_reason_and_goes_nowhere(data: bytes, reason: str) -> None:
    queue, log = FakeQueue(), FakeMap()
    async with facade(queue, [logging_app(log)]) as client:
        declared = {"Content-Type": "application/json"}
        status, body = await client.call("POST", "/facade", data=data, headers=declared)
        assert (status, body["status"]) == (400, "failure")
        assert reason in body["message"]
        assert not queue.items
        assert not log.entries


async def test_a_bad_key_in_the_header_answers_400() -> None:
    async with facade(FakeQueue(), [logging_app(FakeMap())]) as client:
        assert (await client.post({"msg": "a"}, headers={"Idempotency-Key": "x" * 201}))[0] == 400


async def test_a_body_that_is_too_large_answers_413_with_the_limit() -> None:
    async with facade(FakeQueue(), [logging_app(FakeMap())]) as client:
        data = io.BytesIO(b'{"msg": "' + b"x" * (2 << 20) + b'"}')
        status, body = await client.call("POST", "/facade", data=data)
        assert status == 413
        assert "1048576 bytes" in body["message"]


async def test_an_emoji_text_of_100_kib_arrives_whole() -> None:
    queue = FakeQueue()
    async with facade(queue, [logging_app(FakeMap())]) as client:
        assert (await client.post({"msg": "🐝" * 25_600}))[0] == 200
        assert texts(queue) == ["🐝" * 25_600]


@pytest.mark.parametrize("letter", ["x", "ä", "🐝", "\\u0007", '\\"'])
async def test_body_just_within_limit_passes_logging_service_too(letter: str) -> None:
    room = (1 << 20) - len('{"msg": ""}')
    data = '{"msg": "' + letter * (room // len(letter.encode())) + '"}'
    async with facade(FakeQueue(), [logging_app(FakeMap())]) as client:
        status, body = await client.call("POST", "/facade", data=io.BytesIO(data.encode()))
        assert status == 200, body


async def batch(client: Caller, data: bytes) -> list[dict[str, Any]]:
    async with client.session.post(f"{client.address.url}/facade/batch", data=data) as response:
        assert response.status == 200
        return [json.loads(line) for line in (await response.text()).splitlines()]


async def test_a_batch_is_answered_line_by_line_in_order() -> None:
    queue = FakeQueue()
    async with facade(queue, [logging_app(FakeMap())]) as client:
        lines = [json.dumps({"msg": f"m{n}", "uuid": f"id-{n}"}) for n in range(300)]
        answers = await batch(client, "\n".join(lines).encode())
        assert [answer["uuid"] for answer in answers] == [f"id-{n}" for n in range(300)]
        assert {answer["code"] for answer in answers} == {200}
        assert sorted(texts(queue)) == sorted(f"m{n}" for n in range(300))


async def test_a_bad_line_of_a_batch_fails_alone() -> None:
    queue = FakeQueue()
    long = json.dumps({"msg": "x" * 5000}).encode()
    data = b'{"msg": "a"}\nnonsense\n\n  \n{"msg": 1}\n\xff\n' + long + b'\r\n{"msg": "b"}\r\n' + long
    async with facade(queue, [logging_app(FakeMap())], config=replace(PLAIN, limits=Limits(max_body=2048))) as client:
        codes = [answer["code"] for answer in await batch(client, data)]
        assert codes == [200, 400, 400, 400, 413, 200, 413]
        assert texts(queue) == ["a", "b"]


async def test_a_batch_says_of_each_line_what_the_queue_did() -> None:
    log = FakeMap()
    async with facade(FakeQueue(most=2), [logging_app(log)]) as client:
        data = "\n".join(json.dumps({"msg": f"m{n}"}) for n in range(5)).encode()
        codes = [answer["code"] for answer in await batch(client, data)]
        assert sorted(codes) == [200, 200, 503, 503, 503]
        assert len(log.entries) == 2


async def test_an_empty_batch_has_an_empty_answer() -> None:
    async with facade(FakeQueue(), [logging_app(FakeMap())]) as client:
        assert await batch(client, b"") == []


async def test_a_get_combines_both_sets_and_says_where_they_came_from() -> None:
    log = FakeMap({"a": Message("a", "hello", 1.0, "logging-1").to_json()})
    stored = FakeMap({"b": Message("b", "world", 1.0, "messages-1").to_json()})
    async with facade(FakeQueue(), [logging_app(log)], [messages_app(FakeQueue(), stored)]) as client:
        status, body = await client.get("/facade")
        assert (status, body["logs"], body["message"], body["away"]) == (200, ["hello"], ["world"], [])
        assert body["logging-service"]
        assert body["messages-service"]
        reading = await FacadeClient(client.session, client.address).read()
        assert [m.id for m in (*reading.logs, *reading.messages)] == ["a", "b"]


async def test_get_without_messages_services_shows_logs() -> None:
    log = FakeMap({"a": Message("a", "hello", 1.0, "logging-1").to_json()})
    absent = nobody()
    async with facade(FakeQueue(), [logging_app(log)], [absent]) as client:
        status, body = await client.get("/facade")
        assert (status, body["logs"], body["message"]) == (200, ["hello"], [])
        assert (body["away"], body["messages-service"]) == ([str(absent)], "")


async def test_the_queue_view_has_size_owner_and_settings() -> None:
    queue = FakeQueue([Message("a", "a", 12.5), Refused("odd")])
    async with facade(queue, [nobody()]) as client:
        status, body = await client.get("/queue")
        assert (status, body["size"], body["owner"], body["oldest_at"]) == (200, 2, "127.0.0.1:5701", 12.5)
        queue.items.clear()
        assert (await client.get("/queue"))[1]["oldest_at"] is None
        assert (body["name"], body["max_size"], body["backup_count"]) == ("messages-queue", 100_000, 2)


async def test_view_of_silent_queue_has_no_size() -> None:
    queue = FakeQueue()
    queue.errors.append(QueueUnavailableError("no member"))
    async with facade(queue, [nobody()]) as client:
        assert (await client.get("/queue"))[1]["size"] is None


async def test_the_counters_tell_the_three_outcomes() -> None:
    queue = FakeQueue()
    async with facade(queue, [logging_app(FakeMap())]) as client:
        await client.post({"msg": "a"})
        await client.post({"msg": ""})
        queue.errors.extend([QueueIndeterminateError("unknown")] * 100)
        await client.post({"msg": "b"})
        counters = (await client.get("/healthz"))[1]["counters"]
        outcomes = {f"messages_{outcome}": 1 for outcome in ("acknowledged", "rejected", "indeterminate")}
        assert counters == {**outcomes, "messages_redelivered": 0, "messages_relogged": 0, "log_lines_lost": 0}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.ACKNOWLEDGED),
        (400, Outcome.REJECTED),
        (422, Outcome.REJECTED),
        (500, Outcome.INDETERMINATE),
        (503, Outcome.REJECTED),
        (504, Outcome.INDETERMINATE),
    ],
)
async def test_the_client_knows_the_outcome_from_the_status(status: int, outcome: Outcome) -> None:
    async with calling(Stub(status).app) as client:
        receipt = await FacadeClient(client.session, client.address).send("a", "id-1")
        assert (receipt.id, receipt.outcome) == ("id-1", outcome)


async def test_hanging_facade_is_indeterminate_none_rejects() -> None:
    async with calling(Stub(hangs=True).app) as client:
        hanging = await FacadeClient(client.session, client.address).send("a", seconds=0.1)
        absent = await FacadeClient(client.session, nobody()).send("a")
        assert (hanging.outcome, absent.outcome) == (Outcome.INDETERMINATE, Outcome.REJECTED)


async def test_resend_is_acknowledged_only_if_logged() -> None:
    class Slow(FakeQueue):
        """Refuses the first put after a while, in which the second one comes and is taken."""

        async def put(self, messages: Sequence[Message]) -> None:
            if not self.items and self.most:
                self.most = 0
                await asyncio.sleep(0.1)
                raise QueueFullError("the queue is full")
            self.items.extend(messages)

    log = FakeMap()
    async with facade(Slow(), [logging_app(log)]) as client:
        first = asyncio.ensure_future(client.post({"msg": "a", "uuid": "id-1"}))
        await asyncio.sleep(0.05)
        second = await client.post({"msg": "a", "uuid": "id-1"})
        assert (await first)[0] == 503
        assert second[0] == 200
        assert set(log.entries) == {"id-1"}


async def test_refusal_with_entry_left_is_not_rejected() -> None:
    log = FakeMap()

    async def write_and_fail(request: web.Request) -> web.Response:
        for fields in await request.json():
            await log.put_if_absent(fields["uuid"], Message(fields["uuid"], fields["msg"]).to_json())
        return web.json_response({}, status=504)

    failing = web.Application()
    failing.router.add_post("/log", write_and_fail)
    async with facade(FakeQueue(most=0), [failing, logging_app(log)]) as client:
        answers = {f"id-{n}": (await client.post({"msg": "a", "uuid": f"id-{n}"}))[0] for n in range(30)}
    assert set(answers.values()) == {503, 504}
    assert {uuid for uuid, status in answers.items() if status == 503}.isdisjoint(log.entries)
