"""The bytes that all requests of a facade have in memory: more waits, is refused in time, and none get lost."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from aiohttp import web
from support.fakes import PLAIN, Caller, FakeMap, FakeQueue, facade, logging_app, until

from microq.config import Limits
from microq.services.limits import Budget

LITTLE = Limits(max_body=1024, max_under_way=2050)
LOOSE = replace(PLAIN, limits=replace(PLAIN.limits, max_body=100_000, max_under_way=200_000))


async def test_who_needs_more_than_is_left_waits_for_its_turn() -> None:
    budget, order = Budget(LITTLE), list[str]()

    async def have(name: str, amount: int) -> None:
        assert await budget.take(amount) == amount
        order.append(name)

    first = await budget.take(2000)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(have("large", 2000))
        tasks.create_task(have("small", 20))  # it would fit, and does not overtake
        await asyncio.sleep(0.01)
        assert order == []
        budget.give_back(first)
    assert order == ["large", "small"]
    assert await budget.take(30) == 30


async def test_who_waits_too_long_is_refused_and_takes_nothing() -> None:
    budget = Budget(LITTLE)
    most = await budget.take(1 << 40)
    assert most == 2050
    with pytest.raises(web.HTTPServiceUnavailable, match="2050 bytes are in progress"):
        await budget.take(1, 0.01)
    given_up = asyncio.create_task(budget.take(5))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    budget.give_back(most)
    assert await budget.take(2050, 0.01) == 2050


async def send(client: Caller, lines: bytes) -> list[dict[str, Any]]:
    """Send a batch, and return its answers."""
    async with client.session.post(client.address.url + "/facade/batch", data=BytesIO(lines)) as response:
        return [json.loads(line) for line in (await response.read()).splitlines()]


async def test_connections_together_stay_within_the_budget() -> None:
    class Slow(FakeMap):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.most = 0
            self.go = asyncio.Event()

        async def put_if_absent(self, key: str, value: str) -> object:
            self.now += len(value)
            self.most = max(self.most, self.now)
            await self.go.wait()
            self.now -= len(value)
            return await super().put_if_absent(key, value)

    log = Slow()
    lines = "".join(json.dumps({"msg": "x" * 40_000}) + "\n" for _ in range(10)).encode()
    async with facade(FakeQueue(), [logging_app(log)], config=LOOSE) as client:
        async with asyncio.TaskGroup() as tasks:
            sending = [tasks.create_task(send(client, lines)) for _ in range(3)]
            await until(lambda: log.now > 100_000)
            await asyncio.sleep(0.8)  # in which some more would be on their way
            assert log.most <= 200_000
            log.go.set()
        answers = [line for each in sending for line in each.result()]
    assert [line["code"] for line in answers] == [200] * 30
    assert log.most <= 200_000
