"""The batch API as its users see it: an outcome for each text, in order, also where a connection breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from support.fakes import FakeMap, FakeQueue, facade, logging_app, serving

from microq.client import Batch, one_by_one, open_session, send_all
from microq.config import Address
from microq.message import Message, Outcome, Receipt


async def sent(address: Address, texts: AsyncIterator[str], most: int = 4) -> list[Receipt]:
    async with open_session() as session:
        return [receipt async for receipt in send_all(session, address, texts, most)]


async def test_each_text_has_its_outcome_in_order() -> None:
    queue = FakeQueue(most=3)
    async with facade(queue, [logging_app(FakeMap())]) as client:
        receipts = await sent(client.address, one_by_one(["a", "b\ud800", "c\nd", "", "e"]), most=1)
        assert [(r.text, r.outcome) for r in receipts] == [
            ("a", Outcome.ACKNOWLEDGED),
            ("b?", Outcome.REJECTED),
            ("c\nd", Outcome.ACKNOWLEDGED),
            ("", Outcome.REJECTED),
            ("e", Outcome.ACKNOWLEDGED),
        ]
        held = [item for item in queue.items if isinstance(item, Message)]
        assert [(item.id, item.text) for item in held] == [(r.id, r.text) for r in receipts if r.logged_by]
        more = await sent(client.address, one_by_one(["f"]))
        assert (more[0].outcome, "full" in more[0].reason) == (Outcome.REJECTED, True)


async def test_an_outcome_comes_before_the_last_text() -> None:
    acknowledged = asyncio.Event()

    async def texts() -> AsyncIterator[str]:
        yield "first"
        await acknowledged.wait()
        yield "second"

    async with facade(FakeQueue(), [logging_app(FakeMap())]) as client, open_session() as session:
        async for receipt in Batch(session, client.address, 4).send(texts(), 20.0):
            assert receipt.outcome is Outcome.ACKNOWLEDGED
            acknowledged.set()


def breaking(after: int) -> web.Application:
    """A facade whose batches break off after so many lines; what is sent alone it takes."""
    app = web.Application()

    async def batch(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(after):
            await request.content.readline()
            await response.write(b'{"code": 200, "logging-service": "logging-1"}\n')
        await request.content.readline()
        assert request.transport
        request.transport.abort()
        return response

    async def alone(_request: web.Request) -> web.Response:
        return web.json_response({"logging-service": "alone"})

    app.router.add_post("/facade/batch", batch)
    app.router.add_post("/facade", alone)
    return app


async def test_broken_connection_is_indeterminate() -> None:
    async with serving(breaking(after=2)) as address:
        receipts = await sent(address, one_by_one([str(number) for number in range(9)]), most=1)
    assert [receipt.text for receipt in receipts] == [str(number) for number in range(9)]
    assert [receipt.logged_by or receipt.outcome for receipt in receipts] == [
        *["logging-1", "logging-1", Outcome.INDETERMINATE, "alone"] * 2,
        "logging-1",
    ]


async def test_nobody_there_rejects_every_text() -> None:
    async with serving(web.Application()) as address:
        pass
    receipts = await sent(address, one_by_one(["a", "b", "c"]))
    assert [receipt.outcome for receipt in receipts] == [Outcome.REJECTED] * 3


async def test_hanging_facade_is_given_up_only_if_it_was_asked() -> None:
    app = web.Application()

    async def hang(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await request.read()
        await asyncio.sleep(3)
        return response

    app.router.add_post("/facade/batch", hang)

    async def texts() -> AsyncIterator[str]:
        await asyncio.sleep(0.2)
        yield "a"

    async with serving(app) as address, open_session() as session:
        receipts = [receipt async for receipt in Batch(session, address, 4).send(texts(), 1.0)]
    assert [(r.outcome, r.reason) for r in receipts] == [(Outcome.INDETERMINATE, "no answer in 1 s")]
