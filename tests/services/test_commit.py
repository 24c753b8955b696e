"""Group commit: a lone item leaves at once, what comes meanwhile leaves together, and nobody's end harms the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from support.fakes import until

from microq.errors import MicroqError, QueueFullError, QueueUnavailableError
from microq.services.acceptance import MOST, GroupCommit

Commit = GroupCommit[int, int]


class Flush:
    """Carries batches out once it is let; notes each."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Semaphore(0)
        self.fails = False
        self.refuses: set[int] = set()

    async def __call__(self, items: Sequence[int]) -> list[int | MicroqError]:
        self.batches.append(list(items))
        await self.go.acquire()
        if self.fails:
            raise QueueUnavailableError("nobody is there")
        return [QueueFullError(f"no room for {item}") if item in self.refuses else 10 * item for item in items]


@asynccontextmanager
async def committing(
    heaviest: int = 10**6, patience: float = 30.0
) -> AsyncIterator[tuple[Commit, Flush, asyncio.TaskGroup]]:
    async with asyncio.TaskGroup() as tasks:
        flush = Flush()
        yield GroupCommit(tasks, flush, lambda item: item, heaviest, patience), flush, tasks


async def test_lone_item_leaves_at_once_and_others_together() -> None:
    async with committing() as (commit, flush, tasks):
        first = tasks.create_task(commit.submit(1))
        await until(lambda: flush.batches == [[1]])
        others = [tasks.create_task(commit.submit(number)) for number in (2, 3, 4)]
        await asyncio.sleep(0)
        flush.go.release()
        assert await first == 10
        await until(lambda: len(flush.batches) == 2)
        assert flush.batches[1] == [2, 3, 4]
        flush.go.release()
        assert await asyncio.gather(*others) == [20, 30, 40]


async def test_a_batch_is_bounded_in_number_and_in_weight() -> None:
    async with committing(heaviest=10) as (commit, flush, tasks):
        for number in (1, 6, 4, 1, 50, 1):
            tasks.create_task(commit.submit(number))
        for _ in range(9):
            flush.go.release()
    assert flush.batches == [[1, 6], [4, 1], [50], [1]]
    async with committing() as (commit, flush, tasks):
        for _ in range(MOST + 1):
            tasks.create_task(commit.submit(0))
        for _ in range(9):
            flush.go.release()
    assert [len(batch) for batch in flush.batches] == [MOST, 1]


async def test_a_batch_that_lingers_is_not_waited_for() -> None:
    async with committing(patience=0.01) as (commit, flush, tasks):
        first = tasks.create_task(commit.submit(1))
        await until(lambda: flush.batches == [[1]])
        second = tasks.create_task(commit.submit(2))
        await until(lambda: flush.batches == [[1], [2]])
        assert not first.done()
        flush.go.release()
        flush.go.release()
        assert [await first, await second] == [10, 20]


async def test_an_error_is_everybodys_and_the_next_batch_goes_on() -> None:
    async with committing() as (commit, flush, _):
        flush.fails = True
        flush.go.release()
        results = await asyncio.gather(commit.submit(1), commit.submit(2), return_exceptions=True)
        assert [type(result) for result in results] == [QueueUnavailableError] * 2
        flush.fails = False
        flush.go.release()
        assert await commit.submit(3) == 30


async def test_an_item_may_have_an_error_of_its_own() -> None:
    async with committing() as (commit, flush, tasks):
        flush.refuses = {2}
        flush.go.release()
        waits = [tasks.create_task(commit.submit(number)) for number in (1, 3)]
        with pytest.raises(QueueFullError, match="no room for 2"):
            await commit.submit(2)
        assert await asyncio.gather(*waits) == [10, 30]
    assert flush.batches == [[2, 1, 3]]


async def test_who_goes_away_takes_nothing_along() -> None:
    async with committing() as (commit, flush, tasks):
        gone, stays = (tasks.create_task(commit.submit(number)) for number in (1, 2))
        await until(lambda: flush.batches == [[1, 2]])
        gone.cancel()
        flush.go.release()
        assert await stays == 20
        with pytest.raises(asyncio.CancelledError):
            await gone
