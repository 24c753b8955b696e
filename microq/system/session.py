"""The life of a supervising process: start, serve, wait for the end, stop in order; a second signal kills at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from microq.config import Config
from microq.engines.provision import Engine
from microq.errors import MicroqError
from microq.fleet import Event
from microq.system import control
from microq.system.supervisor import Supervisor, supervise

Listener = Callable[[Event], None]


class Interrupted(Exception):  # noqa: N818 - not an error: somebody asked for the end
    """The end was asked for while the system was starting."""


@asynccontextmanager
async def running(
    config: Config, engine: Engine | None, folder: Path, listener: Listener, ended: asyncio.Event
) -> AsyncIterator[Supervisor]:
    """Supervise and serve the control socket; SIGINT and SIGTERM set `ended`, the next one kills everything.

    The listener hears every event, those of the stop included.
    """
    async with (
        supervise(config, folder, engine) as supervisor,
        control.serve(config, supervisor, ended),
        asyncio.TaskGroup() as tasks,
    ):
        forwarding = tasks.create_task(_forward(supervisor, listener))
        await asyncio.sleep(0)  # let it subscribe before anything happens
        with _signals(lambda: _end(supervisor, ended, tasks)):
            try:
                yield supervisor
            finally:
                await supervisor.shut_down()
                forwarding.cancel()


async def start(supervisor: Supervisor, names: Sequence[str], ended: asyncio.Event) -> None:
    """Start processes unless the end is asked for meanwhile, which raises `Interrupted`."""
    async with asyncio.TaskGroup() as tasks:
        starting = tasks.create_task(_catching(supervisor.start(names)))
        waiting = tasks.create_task(ended.wait())
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not starting.done():
            starting.cancel()
    if ended.is_set():
        raise Interrupted
    error = starting.result()
    if error:
        raise error


async def _catching(verb: object) -> Exception | None:
    # A task group would wrap the error into a group of its own.
    try:
        await verb  # type: ignore[misc]
    except MicroqError as error:
        return error
    return None


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
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        with suppress(RuntimeError):
            for number in numbers:
                loop.remove_signal_handler(number)
