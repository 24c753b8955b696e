"""Task groups whose error comes out alone, as callers expect it, not wrapped into a group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Be an `asyncio.TaskGroup`; the first error of its tasks, or of its body, is raised as it is."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        raise first(group) from None


async def together(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Await several side by side; if one fails, the others are cancelled and its error is raised."""
    async with task_group() as tasks:
        for coroutine in coroutines:
            tasks.create_task(coroutine)


def first(error: BaseException) -> BaseException:
    """Return the first error inside of groups, however deep; an error that is no group is itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
