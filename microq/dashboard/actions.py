"""The actions of the page: send messages, operate processes, run a fault, replay or drop dead letters."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from microq.aio import task_group
from microq.client import one_by_one
from microq.config import Config
from microq.errors import MicroqError, UsageError
from microq.fleet import VERBS, Event, Operator, Topic
from microq.hints import pasteable
from microq.message import Outcome
from microq.workflows import messages

IN_FLIGHT = 256
"""The largest number of messages in flight."""

MOST_MESSAGES = 100_000
"""The largest number of messages of one action."""

END_SECONDS = 5.0
"""Seconds that a scenario may take to end when the system ends."""

TRIAL = "microq.workflows.trial"

log = logging.getLogger(__name__)


class Actions:
    """Acts on the running system. `open_actions` makes it."""

    def __init__(self, config: Config, operator: Operator, tasks: asyncio.TaskGroup) -> None:
        self._config, self._operator, self._tasks = config, operator, tasks
        self._scenario: asyncio.Task[Any] | None = None

    async def send(self, count: int, text: str = "") -> dict[str, Any]:
        """Send `msg1` ... `msgN`, or a text `count` times; return the outcomes and the seconds."""
        if not 1 <= count <= MOST_MESSAGES:
            raise UsageError(f"send from 1 to {MOST_MESSAGES:,} messages at once")
        texts = one_by_one(text or f"msg{number}" for number in range(1, count + 1))
        sent = await messages.send(self._config, texts, IN_FLIGHT)
        return {**{str(each): sent.tally.outcomes[each] for each in Outcome}, "seconds": round(sent.seconds, 3)}

    async def dead_letters(self) -> list[dict[str, Any]]:
        """Return every dead letter, the newest last."""
        return await messages.dead_letters(self._config)

    async def change_dead_letters(self, verb: str, ids: Sequence[str]) -> None:
        """Replay or drop dead letters; raises `UsageError` if an id is not one of a dead letter."""
        await messages.change_dead_letters(self._config, verb, ids)

    async def operate(self, verb: str, names: Sequence[str]) -> list[str]:
        """Do one of `VERBS`; raises what `Operator.act` raises."""
        if verb not in VERBS:
            raise UsageError(f"there is no action {verb!r}; the actions are {', '.join(VERBS)}")
        return await self._operator.act(verb, names)

    async def break_it(self, name: str, count: int | None, quiet: bool | None, options: Mapping[str, Any]) -> None:  # noqa: FBT001 - what the page sends
        """Start a trial of a fault on this system, as `microq chaos` does; its events show its progress.

        Raises `UsageError` if a scenario runs already, or for an unknown fault or option.
        """
        if self._scenario:
            raise UsageError("a scenario runs already; wait for its verdict")
        # In a thread: it takes a second, in which the page would not respond.
        await asyncio.to_thread(import_module, TRIAL)
        from microq.workflows import trial  # noqa: PLC0415 - a system starts without its faults

        if count is not None and not 1 <= count <= MOST_MESSAGES:
            raise UsageError(f'"messages" must be from 1 to {MOST_MESSAGES:,}')
        planned = trial.trial_of(trial.make(name, options), quiet, count)
        await self._announce(
            name, "says", f"Preparing {name}: the system is checked, and processes are restarted if necessary."
        )
        self._scenario = asyncio.create_task(trial.run_here(self._operator, self._config, planned))
        self._tasks.create_task(self._watch(self._scenario, name))

    async def _watch(self, scenario: asyncio.Task[Any], name: str) -> None:
        """Wait for the end of a scenario; return why it has no verdict, if known.

        An error in a scenario must not end the system.
        """
        await asyncio.wait([scenario])
        self._scenario = None
        error = None if scenario.cancelled() else scenario.exception()
        if error and not isinstance(error, (MicroqError, OSError)):
            log.error("the scenario %s failed", name, exc_info=error)
        if error:
            await self._announce(name, "failed", pasteable(str(error)) or type(error).__name__)

    async def _announce(self, name: str, kind: str, detail: str) -> None:
        await self._operator.announce(Event(time.time(), name, kind, detail, Topic.SCENARIO))

    async def end(self) -> None:
        """End a running scenario: it restores the system, unless that takes too long."""
        scenario = self._scenario
        for _ in range(2):
            if scenario and not scenario.done():
                scenario.cancel()
                await asyncio.wait([scenario], timeout=END_SECONDS)


@asynccontextmanager
async def open_actions(config: Config, operator: Operator) -> AsyncIterator[Actions]:
    """Yield the actions on this system. Their scenario ends with them."""
    async with task_group() as tasks:
        actions = Actions(config, operator, tasks)
        try:
            yield actions
        finally:
            await actions.end()
