"""The life of a supervising process: start, serve, wait for the end, stop in order; a second signal kills at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from microq.config import Config
from microq.engines.provision import Engine
from microq.fleet import Detour, Event
from microq.system import control
from microq.system.supervisor import Supervisor, supervise
from microq.tasks import task_group

Listener = Callable[[Event], None]


class Interrupted(Exception):  # noqa: N818 - not an error: somebody asked for the end
    """The end was asked for while something was under way."""


@asynccontextmanager
async def running(
    config: Config,
    engine: Engine | None,
    folder: Path,
    listener: Listener,
    ended: asyncio.Event,
    detours: Sequence[Detour] = (),
) -> AsyncIterator[Supervisor]:
    """Supervise and serve the control socket; SIGINT, SIGTERM and SIGHUP set `ended`, the next one kills everything.

    The listener hears every event, those of the stop included. See `supervise` for the `detours`.
    """
    async with (
        supervise(config, folder, engine, detours) as supervisor,
        control.serve(config, supervisor, ended),
        task_group() as tasks,
    ):
        forwarding = tasks.create_task(_forward(supervisor, listener))
        await asyncio.sleep(0)  # let it subscribe before anything happens
        with _signals(lambda: _end(supervisor, ended, tasks)):
            try:
                yield supervisor
            finally:
                await supervisor.shut_down()
                forwarding.cancel()


@asynccontextmanager
async def interruptible(ended: asyncio.Event) -> AsyncIterator[None]:
    """Cancel the body when the end is asked for, and raise `Interrupted`."""
    async with task_group() as tasks:
        waiting = tasks.create_task(_interrupt(ended))
        try:
            yield
        finally:
            waiting.cancel()


async def _interrupt(ended: asyncio.Event) -> None:
    await ended.wait()
    raise Interrupted


async def _forward(supervisor: Supervisor, listener: Listener) -> None:
    async for event in supervisor.events():
        listener(event)


def _end(supervisor: Supervisor, ended: asyncio.Event, tasks: asyncio.TaskGroup) -> None:
    if ended.is_set():
        tasks.create_task(supervisor.shut_down(at_once=True))
    ended.set()


@contextmanager
def _signals(handler: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        with suppress(RuntimeError):
            for number in numbers:
                loop.remove_signal_handler(number)
