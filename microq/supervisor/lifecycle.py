"""The life of a supervising process: start, serve, wait for the end, stop in order; a second signal kills at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from microq.aio import task_group
from microq.backends.jars import Engine
from microq.config import Config
from microq.fleet import Detour, Event
from microq.supervisor import control
from microq.supervisor.supervisor import Supervisor, supervise

Listener = Callable[[Event], None]


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for the end
    """The user asked for the end while the body was running."""


@asynccontextmanager
async def running(
    config: Config,
    engine: Engine | None,
    folder: Path,
    listener: Listener,
    ended: asyncio.Event,
    detours: Sequence[Detour] = (),
) -> AsyncIterator[Supervisor]:
    """Supervise and serve the control socket; SIGINT, SIGTERM and SIGHUP set `ended`, a second one kills everything.

    Signals that were ignored when this process started stay ignored.

    The listener gets every event, including those of the stop. The `detours` are as in `supervise`.
    """
    async with (
        supervise(config, folder, engine, detours) as supervisor,
        control.serve(config, supervisor, ended),
        task_group() as tasks,
    ):
        forwarding = tasks.create_task(_forward(supervisor, listener))
        await asyncio.sleep(0)  # let it subscribe before the first event
        with _signals(lambda: _end(supervisor, ended, tasks)):
            try:
                yield supervisor
            finally:
                await supervisor.shut_down()
                forwarding.cancel()


@asynccontextmanager
async def interruptible(ended: asyncio.Event) -> AsyncIterator[None]:
    """Cancel the body when `ended` is set, and raise `Interrupted`."""
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
    # An ignored signal stays ignored: SIGINT in a background job of a script, SIGHUP under nohup.
    listed = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in listed if signal.getsignal(number) is not signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        with suppress(RuntimeError):
            for number in numbers:
                loop.remove_signal_handler(number)
