"""Waiting for a condition and broadcasting."""

from __future__ import annotations

import asyncio

import pytest

from microq.aio import Broadcast, poll_until


def test_poll_until_asks_again_until_the_condition_holds() -> None:
    answers = iter([False, False, True, True])
    assert asyncio.run(poll_until(lambda: next(answers), 0))
    assert list(answers) == [True]


def test_poll_until_awaits_a_condition_that_is_a_coroutine() -> None:
    answers = iter([False, True])

    async def holds() -> bool:
        return next(answers)

    assert asyncio.run(poll_until(holds, 0))


def test_poll_until_returns_false_at_its_deadline() -> None:
    assert not asyncio.run(poll_until(lambda: False, 0, 0.01))


def test_poll_until_raises_a_timeout_that_is_not_its_own() -> None:
    def holds() -> bool:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        asyncio.run(poll_until(holds, 0, 60))


def test_a_broadcast_reaches_every_listener_and_ends_for_all() -> None:
    async def main() -> tuple[list[int], list[int], list[int]]:
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
        return first.result(), second.result(), await hear()

    assert asyncio.run(main()) == ([0, 1], [0, 1], [])
