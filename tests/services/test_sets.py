"""Both sets through the facade: passed on as they come, of another replica as long as nothing was, else broken off."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web
from support.fakes import Caller, FakeMap, FakeQueue, Stub, calling, facade, logging_app, messages_app, serving

from microq.client import FacadeClient, get_json
from microq.errors import DeadlineError, UsageError
from microq.message import Message
from microq.services.paging import MOST_ORDERED

MANY = MOST_ORDERED + 1000


def kept(count: int, by: str) -> FakeMap:
    return FakeMap({f"{by}-{n}": Message(f"{by}-{n}", f"ä {n}", float(n), by).to_json() for n in range(count)})


class Uneven:
    """A service that answers every GET with these pieces; then it ends, or breaks, or says no more."""

    def __init__(self, *pieces: bytes, end: str = "ends") -> None:
        self.pieces, self.end = pieces, end
        self.queries: list[dict[str, str]] = []
        self.app = web.Application()
        self.app.router.add_get("/{path:.*}", self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path in ("/log", "/messages"):
            self.queries.append(dict(request.query))
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece)
            await asyncio.sleep(0.05)
        if self.end == "hangs":
            await asyncio.sleep(60)
        if self.end == "breaks":
            assert request.transport
            request.transport.abort()
        return response


async def raw(client: Caller) -> tuple[aiohttp.ClientResponse, bytes]:
    async with client.session.get(client.address.url + "/facade") as response:
        return response, await response.read()


async def test_short_sets_come_in_one_piece_as_they_always_did() -> None:
    logs, messages = kept(2, "logging-1"), kept(1, "messages-1")
    async with facade(FakeQueue(), [logging_app(logs)], [messages_app(FakeQueue(), messages)]) as client:
        response, body = await raw(client)
        shown = json.loads(body)
        assert (shown["logs"], shown["message"]) == (["ä 0", "ä 1"], ["ä 0"])
        assert list(shown) == ["logs", "message", "logging-service", "messages-service", "away", "merging"]
        assert body.decode() == json.dumps(shown, ensure_ascii=False) + "\n"
        assert response.headers["Content-Length"] == str(len(body))
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_long_sets_come_whole() -> None:
    logs, messages = kept(MANY, "logging-1"), kept(MANY, "messages-1")
    async with facade(FakeQueue(), [logging_app(logs)], [messages_app(FakeQueue(), messages)]) as client:
        response, _ = await raw(client)
        assert "Content-Length" not in response.headers
        reading = await FacadeClient(client.session, client.address).read()
        assert {message.id for message in reading.logs} == set(logs.entries)
        assert [message.id for message in reading.messages] == list(messages.entries)
        part = await FacadeClient(client.session, client.address).read(limit=3, after=17.0)
        assert [message.at for message in part.logs] == [message.at for message in part.messages] == [18, 19, 20]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "after=x"])
async def test_a_part_that_is_none_is_asked_of_nobody(query: str) -> None:
    service = Uneven(b"[]")
    async with facade(FakeQueue(), [service.app], [service.app]) as client:
        assert (await client.get(f"/facade?{query}"))[0] == 400
        assert not service.queries


async def test_a_part_is_asked_of_both_services() -> None:
    logs, messages = Uneven(b"[]"), Uneven(b"[]")
    async with facade(FakeQueue(), [logs.app], [messages.app]) as client:
        await client.get("/facade")
        await client.get("/facade?full=true&limit=5&after=1.50")
        asked = [{}, {"full": "true", "limit": "5", "after": "1.5"}]
        assert (logs.queries, messages.queries) == (asked, asked)


BAD = {
    "503": Stub(503).app,
    "404": Stub(404).app,
    "hangs": Stub(hangs=True).app,
    "breaks": Uneven(end="breaks").app,
    "is empty": Uneven().app,
    "has only headers": Uneven(end="hangs").app,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_another_replica_is_asked_before_any_byte_is_sent(bad: web.Application) -> None:
    good = Uneven(b'["a', b'"]')
    async with serving(bad) as first, facade(FakeQueue(), [first, good.app], [good.app]) as client:
        for _ in range(3):
            _, body = await client.get("/facade")
            assert (body["logs"], body["message"], body["away"]) == (["a"], ["a"], [])


@pytest.mark.parametrize("broken", ["/log", "/messages"])
async def test_replica_that_fails_in_the_middle_closes_connection(broken: str) -> None:
    good, bad = Uneven(b'["a", "b"]'), Uneven(b'["a"', b', "b"', b', "c"', end="breaks")
    logs, messages = (bad, good) if broken == "/log" else (good, bad)
    async with facade(FakeQueue(), [logs.app], [messages.app]) as client:
        with pytest.raises(aiohttp.ClientPayloadError):
            await raw(client)
        assert (await client.get("/healthz"))[0] == 200


async def test_a_reader_who_leaves_lets_go_of_both_services() -> None:
    left = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"[" * 60_000)
                await asyncio.sleep(0)
        except ConnectionError:
            left.set()
        return response

    app = web.Application()
    app.router.add_get("/log", answer)
    async with facade(FakeQueue(), [app], [Uneven(b"[]").app]) as client:
        async with client.session.get(client.address.url + "/facade") as response:
            await response.content.readany()
        await asyncio.wait_for(left.wait(), 10)


async def test_an_answer_may_take_as_long_as_it_goes_on() -> None:
    slow = Uneven(b"[", *[b" "] * 8, b"1]")
    async with calling(slow.app) as client, serving(Stub(hangs=True).app) as deaf:
        assert await get_json(client.session, client.address, "/slow", 0.2) == [1]
        with pytest.raises(DeadlineError):
            await get_json(client.session, deaf, "/", 0.2)


async def test_a_part_that_is_none_is_a_mistake_of_its_reader() -> None:
    async with facade(FakeQueue(), [logging_app(FakeMap())]) as client:
        with pytest.raises(UsageError, match="limit"):
            await FacadeClient(client.session, client.address).read(limit=0)
