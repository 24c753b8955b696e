"""What people POST as a message, and what the facade makes of it."""

from __future__ import annotations

import pytest
from support.fakes import FakeMap, FakeQueue, facade, logging_app

from microq.message import Message

CURL = "application/x-www-form-urlencoded"
"""What `curl -d` says of whatever it sends."""

UNTOLD = ""
BOM = b"\xef\xbb\xbf"


async def sent(body: bytes, kind: str, **headers: str) -> tuple[int, str, list[str]]:
    """What is answered to a body, in words if it is refused, and the texts that are in the queue afterwards."""
    queue = FakeQueue()
    declared = {"Content-Type": kind} if kind else {}
    async with facade(queue, [logging_app(FakeMap())]) as client:
        url = client.address.url + "/facade"
        skipped = () if kind else ("Content-Type",)
        answer = client.session.post(url, data=body, headers={**declared, **headers}, skip_auto_headers=skipped)
        async with answer as response:
            told = await response.json()
            texts = [item.text for item in queue.items if isinstance(item, Message)]
            return response.status, told.get("message", ""), texts


TAKEN = [
    (b'{"msg": "hello"}', "application/json", "hello"),
    (b'{"msg": "hello"}', CURL, "hello"),
    (b' \n{"msg": "hello"}', "text/plain", "hello"),
    (b'{"msg": "hello"}', UNTOLD, "hello"),
    (b'{"msg": "hello"}', "application/vnd.api+json", "hello"),
    (b'{"msg": "hello"}', "application/xml", "hello"),
    (b'{"message": "hello"}', "application/json", "hello"),
    (b'{"message": "other", "msg": "hello"}', "application/json", "hello"),
    (b'"hello"', "application/json", "hello"),
    (b'"hello"', CURL, "hello"),
    (b"hello", CURL, "hello"),
    (b"hello", UNTOLD, "hello"),
    (b"hello", "text/plain; charset=utf-8", "hello"),
    ("grüße 👋".encode(), CURL, "grüße 👋"),
    (b"1 + 1 = 2", CURL, "1 + 1 = 2"),
    (b"50% off & more", CURL, "50% off & more"),
    (b"msg=hello", "text/plain", "msg=hello"),
    (b"123", CURL, "123"),
    (b"null", "text/plain", "null"),
    (b"msg=hello", CURL, "hello"),
    (b"message=hello+there%21", CURL, "hello there!"),
    (b"msg=gr%C3%BC%C3%9Fe&uuid=id-1", CURL, "grüße"),
    (b"msg=a=b", CURL, "a=b"),
]


@pytest.mark.parametrize("bom", [b"", BOM], ids=["plain", "bom"])
@pytest.mark.parametrize(("body", "kind", "text"), TAKEN)
async def test_whatever_people_call_a_message_is_one(body: bytes, kind: str, text: str, bom: bytes) -> None:
    assert await sent(bom + body, kind) == (200, "", [text])


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"hello", "application/json", "not JSON"),
        (b"123", "application/json", "a number"),
        (b"{msg: hello}", CURL, "not JSON"),
        (b"[draft] hello", "text/plain", "not JSON"),
        (b'["a", "b"]', CURL, "POST /facade/batch"),
        (b'""', CURL, "empty"),
        (b"", CURL, "empty"),
        (BOM, UNTOLD, "empty"),
        (b"msg=", CURL, "empty"),
        (b"a=b", CURL, "one field msg"),
        (b"msg=a&msg=b", CURL, "one field msg"),
        (b"msg=a&message=b", CURL, "one field msg"),
        (b"msg=salt&pepper=", CURL, "no field 'pepper'"),
        (b"msg=%FF", CURL, "not UTF-8"),
        (b"msg=a&" + b"b=c&" * 20, CURL, "more than 10 fields"),
        (b"\xff\xfeh\x00", CURL, "not UTF-8"),
    ],
)
async def test_invalid_call_is_answered_with_the_right_one(body: bytes, kind: str, reason: str) -> None:
    status, told, texts = await sent(body, kind)
    assert (status, texts) == (400, [])
    assert reason in told
    assert "\n" not in told


@pytest.mark.parametrize("kind", ["application/xml", "multipart/form-data; boundary=x", "image/png"])
async def test_a_type_that_is_no_text_is_415_and_shows_the_right_call(kind: str) -> None:
    status, told, texts = await sent(b"<msg>hello</msg>", kind)
    assert (status, texts) == (415, [])
    assert kind.partition(";")[0] in told
    assert '{"msg": "text"}' in told


async def test_the_header_gives_any_of_them_its_id() -> None:
    queue = FakeQueue()
    async with facade(queue, [logging_app(FakeMap())]) as client:
        for number, body in enumerate((b"plain", b'"string"', b"msg=form")):
            headers = {"Idempotency-Key": f"id-{number}", "Content-Type": CURL}
            assert (await client.call("POST", "/facade", data=body, headers=headers))[0] == 200
    assert [item.id for item in queue.items if isinstance(item, Message)] == ["id-0", "id-1", "id-2"]


async def test_a_line_of_a_batch_may_be_called_so_as_well() -> None:
    queue = FakeQueue()
    async with facade(queue, [logging_app(FakeMap())]) as client:
        body = BOM + b'{"msg": "a"}\n{"message": "b"}\n"c"\nd\n'
        async with client.session.post(client.address.url + "/facade/batch", data=body) as response:
            lines = (await response.text()).splitlines()
    assert sorted(item.text for item in queue.items if isinstance(item, Message)) == ["a", "b", "c"]
    assert '"code": 400' in lines[3]
