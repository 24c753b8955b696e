"""Waiting for a condition and broadcasting."""

from __future__ import annotations

import asyncio

import pytest

from microq.aio import Broadcast, poll_until


async def test_poll_until_asks_again_until_the_condition_holds() -> None:
    answers = iter([False, False, True, True])
    assert await poll_until(lambda: next(answers), 0)
    assert list(answers) == [True]


async def test_poll_until_awaits_a_condition_that_is_a_coroutine() -> None:
    answers = iter([False, True])

    async def holds() -> bool:
        return next(answers)

    assert await poll_until(holds, 0)


async def test_poll_until_returns_false_at_its_deadline() -> None:
    assert not await poll_until(lambda: False, 0, 0.01)


async def test_poll_until_raises_a_timeout_that_is_not_its_own() -> None:
    def holds() -> bool:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await poll_until(holds, 0, 60)


async def test_a_broadcast_reaches_every_listener_and_ends_for_all() -> None:
    news = Broadcast[int]()

    async def hear() -> list[int]:
        return [item async for item in news.listen()]

    async with asyncio.TaskGroup() as tasks:
        first, second = tasks.create_task(hear()), tasks.create_task(hear())
        await asyncio.sleep(0)
        assert len(news) == 2
        for item in (0, 1):
            news.send(item)
        news.end()
    assert (first.result(), second.result(), await hear()) == ([0, 1], [0, 1], [])
