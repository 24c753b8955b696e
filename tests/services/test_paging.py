"""Lists over HTTP: as short ones always were, long ones in pieces, broken off where their source breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence

import aiohttp
import pytest
from aiohttp import web
from support.fakes import PLAIN, Caller, calling

from microq.errors import StoreUnavailableError
from microq.message import Message
from microq.services.app import make_app
from microq.services.paging import LARGEST_LIMIT, PIECE_CHARACTERS, RUN, SILENCE_SECONDS, Part, stream

LAST = Message("z", "last")

MANY = PIECE_CHARACTERS
"""So many messages make several pieces."""

Chunks = Callable[[], AsyncIterator[Sequence[Message]]]


def messages(count: int, text: str = "ä\n") -> list[Message]:
    return [Message(f"id-{n}", f"{text}{n}", float(n), "logging-1") for n in range(count)]


def listing(chunks: Chunks) -> web.Application:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await stream(request, Part.of(request), chunks())

    app = make_app(PLAIN, "logging-1")
    app.router.add_get("/list", handler)
    return app


async def at_once(shown: Sequence[Message]) -> AsyncIterator[Sequence[Message]]:
    yield shown


def of(shown: Sequence[Message]) -> Chunks:
    return lambda: at_once(shown)


async def raw(client: Caller, path: str = "/list") -> tuple[aiohttp.ClientResponse, bytes]:
    async with client.session.get(client.address.url + path) as response:
        return response, await response.read()


@pytest.mark.parametrize("count", [0, 1, RUN - 1, RUN, RUN + 1, 100, MANY])
@pytest.mark.parametrize("full", [False, True])
async def test_a_list_of_any_length_is_written_as_one_would_write_it(count: int, full: bool) -> None:  # noqa: FBT001
    shown = messages(count)
    async with calling(listing(of(shown))) as client:
        response, body = await raw(client, f"/list?full={'true' if full else 'false'}")
        items = [message.to_wire() if full else message.text for message in shown]
        assert body.decode() == json.dumps(items, ensure_ascii=False) + "\n"
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        assert ("Content-Length" in response.headers) is (count < MANY)


async def test_large_messages_make_short_pieces() -> None:
    shown = messages(8, "x" * PIECE_CHARACTERS)
    async with calling(listing(of(shown))) as client:
        response, body = await raw(client)
        assert json.loads(body) == [message.text for message in shown]
        assert "Content-Length" not in response.headers


async def test_waiting_reader_gets_spaces() -> None:
    async def chunks() -> AsyncIterator[Sequence[Message]]:
        for pause, shown in ((0.0, messages(MANY)), (SILENCE_SECONDS, ()), (SILENCE_SECONDS, ()), (0.0, [LAST])):
            await asyncio.sleep(pause)
            yield shown

    async with calling(listing(chunks)) as client:
        _, body = await raw(client)
        assert json.loads(body)[-1] == "last"
        assert b'"  , "' in body


def breaking(shown: Sequence[Message]) -> Chunks:
    async def chunks() -> AsyncIterator[Sequence[Message]]:
        yield shown
        raise StoreUnavailableError("no member of the map's cluster can be reached")

    return chunks


async def test_an_error_before_the_first_piece_is_answered() -> None:
    async with calling(listing(breaking(messages(3)))) as client:
        status, body = await client.get("/list")
        assert (status, body["status"]) == (503, "failure")


async def test_an_error_in_the_middle_breaks_the_connection() -> None:
    async with calling(listing(breaking(messages(MANY)))) as client:
        with pytest.raises(aiohttp.ClientPayloadError):
            await raw(client)
        assert (await client.get("/healthz"))[0] == 200


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", [1.0, 2.0, 2.0, 2.0, 3.0]),
        ("limit=1", [1.0]),
        ("limit=2", [1.0, 2.0, 2.0, 2.0]),
        ("limit=5", [1.0, 2.0, 2.0, 2.0, 3.0]),
        ("limit=6", [1.0, 2.0, 2.0, 2.0, 3.0]),
        ("after=1.0", [2.0, 2.0, 2.0, 3.0]),
        ("after=1.5&limit=1", [2.0, 2.0, 2.0]),
        ("after=2&limit=1", [3.0]),
        ("after=3", []),
    ],
)
async def test_part_is_oldest_and_keeps_equal_times(query: str, shown: list[float]) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        part = Part.of(request)
        held = [Message(f"id-{n}", "x", at) for n, at in enumerate([1.0, 2.0, 2.0, 2.0, 3.0])]
        return await stream(request, part, at_once(part.of_all(held)))

    app = make_app(PLAIN, "logging-1")
    app.router.add_get("/list", handler)
    async with calling(app) as client:
        status, body = await client.get(f"/list?full=true&{query}")
        assert (status, [item["at"] for item in body]) == (200, shown)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        *(
            (f"limit={limit}", '"limit"')
            for limit in ("0", "-1", "1.5", "x", "", "²", f"{LARGEST_LIMIT + 1}", "9" * 5000)
        ),
        *((f"after={after}", '"after"') for after in ("x", "", "nan", "inf", "-inf")),
        *((f"full={full}", '"full"') for full in ("1", "", "True", "%ff")),
        ("limt=5", "the query has no parameter 'limt'; there are full, after, limit"),
        ("full=true&%0a%1b[31m=", "'\\n\\x1b[31m'"),
        ("=", "''"),
    ],
)
async def test_a_part_that_is_none_answers_400(query: str, reason: str) -> None:
    async with calling(listing(of(messages(1)))) as client:
        status, body = await client.get(f"/list?{query}")
        assert status == 400
        assert reason in body["message"]
