"""Group commit: what arrives while one batch is under way leaves together in the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from microq.errors import MicroqError

T = TypeVar("T")
R = TypeVar("R")

MOST = 256
"""Items of one batch."""


class GroupCommit(Generic[T, R]):
    """Carries items out in batches, one batch after the other; a lone item leaves at once, alone.

    A batch that lingers for more than `patience` seconds is no longer waited for: what hangs holds up only its own.
    `flush` carries a batch out and returns one result for each item, where an error is that item's own, or raises a
    `MicroqError` that is everybody's.
    The weights of a batch's items are `heaviest` together at most, unless it is one item. What waits is bounded by who
    submits: each submitter waits for its result.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        flush: Callable[[Sequence[T]], Awaitable[Sequence[R | MicroqError]]],
        weight: Callable[[T], int],
        heaviest: int,
        patience: float | None = None,
    ) -> None:
        self._tasks, self._flush, self._weight, self._heaviest = tasks, flush, weight, heaviest
        self._patience = patience
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._at_work = False

    async def submit(self, item: T) -> R:
        """Carry an item out with others, and return its result; raises what `flush` raises, or has for it.

        An item that is submitted is carried out, also if who submitted it is cancelled.
        """
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if not self._at_work:
            self._at_work = True
            self._tasks.create_task(self._work())
        return await result

    async def _work(self) -> None:
        try:
            while self._waiting:
                carrying = self._tasks.create_task(self._carry_out(self._next()))
                await asyncio.wait((carrying,), timeout=self._patience)
        finally:
            self._at_work = False

    def _next(self) -> list[tuple[T, asyncio.Future[R]]]:
        batch = [self._waiting.popleft()]
        weight = self._weight(batch[0][0])
        while self._waiting and len(batch) < MOST:
            weight += self._weight(self._waiting[0][0])
            if weight > self._heaviest:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _carry_out(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        results: Sequence[R | MicroqError]
        try:
            results = await self._flush([item for item, _ in batch])
        except MicroqError as error:
            results = [error] * len(batch)
        for (_, result), found in zip(batch, results, strict=True):
            if result.done():
                continue  # who waited for it was cancelled
            if isinstance(found, MicroqError):
                result.set_exception(found)
            else:
                result.set_result(found)
