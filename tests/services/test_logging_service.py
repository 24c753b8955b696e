"""The logging-service over real HTTP: one entry per id, and the first text stays."""

from __future__ import annotations

from dataclasses import replace

import aiohttp
import pytest
from hazelcast.errors import HazelcastError
from support.fakes import FakeClient, FakeMap, FakeQueue, calling, facade, logging_app

from microq.message import Message
from microq.services.paging import LARGEST_LIMIT, MOST_ORDERED, SLACK


def entry(uuid: str, text: str, at: float = 1.0) -> str:
    return Message(uuid, text, at, "logging-1").to_json()


async def test_a_posted_message_is_listed_as_text_and_in_full() -> None:
    log = FakeMap()
    async with calling(logging_app(log)) as client:
        status, body = await client.post({"uuid": "a", "msg": "hello"}, "/log")
        assert (status, body.pop("at")) == (200, [Message.from_json(log.entries["a"]).at])
        assert body == {"status": "success", "service": "logging-1", "new": [True]}
        assert await client.get("/log") == (200, ["hello"])
        _, full = await client.get("/log?full=true")
        assert [(m["uuid"], m["msg"], m["by"]) for m in full] == [("a", "hello", "logging-1")]


async def test_a_list_is_written_and_answered_in_order() -> None:
    log = FakeMap({"b": entry("b", "old")})
    async with calling(logging_app(log)) as client:
        messages = [{"uuid": "a", "msg": "new"}, {"uuid": "b", "msg": "old"}]
        assert (await client.post(messages, "/log"))[1]["new"] == [True, False]


async def test_second_post_of_id_changes_only_time_of_entry() -> None:
    log = FakeMap()
    async with calling(logging_app(log)) as client:
        await client.post({"uuid": "a", "msg": "hello"}, "/log")
        before = Message.from_json(log.entries["a"])
        status, body = await client.post({"uuid": "a", "msg": "hello"}, "/log")
        after = Message.from_json(log.entries["a"])
        assert (status, body["new"], body["at"]) == (200, [False], [after.at])
        assert after.at > before.at
        assert replace(after, at=before.at) == before


async def test_another_text_under_an_id_answers_422_and_names_it() -> None:
    log = FakeMap({"a": entry("a", "first")})
    async with calling(logging_app(log)) as client:
        status, body = await client.post({"uuid": "a", "msg": "second"}, "/log")
        assert (status, body["status"], body["uuids"]) == (422, "failure", ["a"])
        assert log.entries == {"a": entry("a", "first")}


async def test_the_list_is_in_the_order_of_arrival() -> None:
    log = FakeMap({"a": entry("a", "second", 2.0), "b": entry("b", "first", 1.0)})
    async with calling(logging_app(log)) as client:
        assert await client.get("/log") == (200, ["first", "second"])


def many(count: int) -> FakeMap:
    order = sorted(range(count), key=lambda n: n * 7919 % count)
    return FakeMap({f"id-{n}": entry(f"id-{n}", f"text {n}", float(n)) for n in order})


async def test_long_list_is_sorted_up_to_a_limit() -> None:
    log = many(MOST_ORDERED)
    async with calling(logging_app(log)) as client:
        assert await client.get("/log") == (200, [f"text {n}" for n in range(MOST_ORDERED)])
        log.entries["one more"] = entry("one more", "and one", 0.5)
        _, texts = await client.get("/log")
        assert len(texts) == MOST_ORDERED + 1
        assert set(texts) == {"and one", *(f"text {n}" for n in range(MOST_ORDERED))}


async def test_parts_of_a_long_list_lead_through_all_of_it() -> None:
    count, after, seen = LARGEST_LIMIT + SLACK + 1000, "-1", []
    async with calling(logging_app(many(count))) as client:
        while True:
            _, part = await client.get(f"/log?full=true&limit=5000&after={after}")
            if not part:
                break
            seen += [message["msg"] for message in part]
            after = repr(part[-1]["at"])
        assert seen == [f"text {n}" for n in range(count)]
        assert (await client.get("/log?limit=10001"))[0] == 400


async def test_map_that_fails_in_the_middle_closes_connection() -> None:
    log = many(2 * MOST_ORDERED)
    log.late_page_errors.append(HazelcastError("the member left"))
    async with calling(logging_app(log)) as client:
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.get("/log")
        assert len((await client.get("/log"))[1]) == 2 * MOST_ORDERED


async def test_invalid_entry_of_a_map_is_skipped_and_overwritten() -> None:
    log = FakeMap({"a": "nonsense", "b": 7, "c": entry("c", "good")})
    async with calling(logging_app(log)) as client:
        assert await client.get("/log") == (200, ["good"])
        assert (await client.post({"uuid": "a", "msg": "mine"}, "/log"))[1]["new"] == [True]
        assert Message.from_json(log.entries["a"]).text == "mine"


@pytest.mark.parametrize("uuid", ["a", "a/b", "..", "%2F", "a b", "ä"])
async def test_an_entry_is_removed_by_its_id_and_time(uuid: str) -> None:
    async with calling(logging_app(FakeMap({"z": entry("z", "kept")}))) as client:
        (at,) = (await client.post({"uuid": uuid, "msg": "x"}, "/log"))[1]["at"]
        words = {"uuid": uuid, "at": repr(at)}
        first = await client.call("DELETE", "/log", params=words)
        again = await client.call("DELETE", "/log", params=words)
        assert [body["removed"] for _, body in (first, again)] == [True, False]
        assert await client.get("/log") == (200, ["kept"])


async def test_a_late_removal_leaves_what_was_sent_again() -> None:
    log = FakeMap()
    async with calling(logging_app(log)) as client:
        (first,) = (await client.post({"uuid": "a", "msg": "x"}, "/log"))[1]["at"]
        log.entries.clear()
        await client.post({"uuid": "a", "msg": "x"}, "/log")
        late = await client.call("DELETE", "/log", params={"uuid": "a", "at": repr(first)})
        assert (late[0], set(log.entries)) == (409, {"a"})
        assert "sent again" in late[1]["message"]
        assert (await client.call("DELETE", "/log", params={"uuid": "a"}))[0] == 400


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"msg": "a"}, '"uuid" is missing'),
        ({"uuid": "a"}, '"msg" is missing'),
        ([{"uuid": "a", "msg": "a"}, {"uuid": "b", "msg": ""}], '"msg" is empty'),
        ([1], "JSON object"),
        ("a", '"uuid" is missing'),
    ],
)
async def test_a_bad_body_answers_400_and_nothing_is_written(body: object, reason: str) -> None:
    log = FakeMap()
    async with calling(logging_app(log)) as client:
        status, answer = await client.post(body, "/log")
        assert status == 400
        assert reason in answer["message"]
        assert not log.entries


DEEP = 900
ODD_JSON = [
    b"[" * 100_000,
    b"[" * DEEP + b"]" * DEEP,
    b'{"uuid": "a", "msg": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    b'{"uuid": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b', "msg": "a"}',
    b'{"uuid": "a", "msg": ' + b"9" * 5000 + b"}",
    b'{"uuid": "a", "msg": 1e999}',
    b'{"uuid": "a", "msg": NaN}',
    b'{"uuid": NaN, "msg": "a"}',
    b'{"uuid": "\\u0000", "msg": "a"}',
    b'{"uuid": "\\ud800", "msg": "a"}',
    b'{"uuid": "a", "msg": "\\udfff"}',
    b'{"uuid": ["a"], "msg": "a"}',
    b'{"uuid": "a", "msg": {"msg": "a"}}',
    b'{"uuid": "a", "msg": "\x00"}',
    b'[[{"uuid": "a", "msg": "a"}]]',
    b'[null, {"uuid": "a", "msg": "a"}]',
]


@pytest.mark.parametrize("data", ODD_JSON, ids=range(len(ODD_JSON)))
@pytest.mark.parametrize("path", ["/log", "/facade"])
async def test_json_that_is_odd_answers_400(path: str, data: bytes) -> None:
    log, queue = FakeMap(), FakeQueue()
    app = logging_app(log)
    async with calling(app) as direct, facade(queue, [direct.address]) as front:
        client = direct if path == "/log" else front
        status, answer = await client.call("POST", path, data=data)
        assert (status, answer["status"]) == (400, "failure")
        assert not log.entries
        assert not queue.items


async def test_what_is_only_unusual_is_taken() -> None:
    log = FakeMap()
    async with calling(logging_app(log)) as client:
        data = (
            b'{"uuid": "first", "uuid": "a", "msg": "x", "msg": "\\u0000\\u001b[31m", "at": NaN, "by": '
            + b"9" * 4000
            + b"}"
        )
        assert (await client.call("POST", "/log", data=data))[0] == 200
        assert [Message.from_json(raw).text for raw in log.entries.values()] == ["\0\x1b[31m"]
        nothing = {"status": "success", "service": "logging-1", "new": [], "at": []}
        assert await client.post([], "/log") == (200, nothing)


async def test_unavailable_cluster_answers_503_and_is_not_ready() -> None:
    cluster = FakeClient()
    async with calling(logging_app(FakeMap(), client=cluster)) as client:
        assert (await client.get("/readyz"))[0] == 200
        cluster.up = False
        for method, path in (("GET", "/log"), ("DELETE", "/log?uuid=a&at=1.0"), ("GET", "/readyz")):
            status, body = await client.call(method, path)
            assert (status, body["status"]) == (503, "failure"), path
        assert (await client.post({"uuid": "a", "msg": "a"}, "/log"))[0] == 503
        status, body = await client.get("/healthz")
        assert (status, body["ready"]) == (200, False)


async def test_a_write_that_is_not_confirmed_answers_504() -> None:
    log = FakeMap()
    log.late_errors.append(HazelcastError("a backup did not confirm"))
    async with calling(logging_app(log)) as client:
        assert (await client.post({"uuid": "a", "msg": "a"}, "/log"))[0] == 504


async def test_health_counts_what_was_stored() -> None:
    async with calling(logging_app(FakeMap())) as client:
        await client.post([{"uuid": "a", "msg": "a"}, {"uuid": "b", "msg": "b"}], "/log")
        assert (await client.get("/healthz"))[1]["held"] == 2
        assert (await client.get("/healthz"))[1]["counters"] == {"messages_logged": 2, "log_lines_lost": 0}


async def test_unknown_path_and_method_answer_as_json_failure() -> None:
    async with calling(logging_app(FakeMap())) as client:
        for method, path, expected in (("GET", "/nothing", 404), ("PUT", "/log", 405)):
            status, body = await client.call(method, path)
            assert (status, body["status"]) == (expected, "failure")


async def test_a_stored_message_is_logged_in_one_line_with_id_and_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "microq"):
        async with calling(logging_app(FakeMap())) as client:
            await client.post({"uuid": "a", "msg": "two\nlines\x1b[31m"}, "/log")
    assert r'stored a "two\nlines\x1b[31m"' in caplog.messages
