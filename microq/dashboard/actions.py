"""What the page can do to a system: send, operate its processes, run a fault, deal with dead letters."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from microq.client import FacadeClient, open_session
from microq.config import Config
from microq.errors import UsageError
from microq.fleet import Event, Operator, Topic
from microq.message import Outcome
from microq.sending import one_by_one, send_all
from microq.tasks import task_group

VERBS = ("start", "stop", "kill", "pause", "resume", "restart")

UNDER_WAY = 256
"""Messages that are sent and have no outcome yet, at most."""

MOST_MESSAGES = 100_000
"""Messages of one click."""

END_SECONDS = 5.0
"""How long a scenario may take to end when the system does."""


class Actions:
    """Acts on the running system. Made by `open_actions`."""

    def __init__(
        self,
        config: Config,
        operator: Operator,
        environment: Mapping[str, str],
        session: aiohttp.ClientSession,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._config, self._operator, self._environment = config, operator, environment
        self._session, self._tasks = session, tasks
        self._scenario: asyncio.subprocess.Process | None = None
        self.facade = FacadeClient(session, config.service_ips.facade_service)

    async def send(self, count: int, text: str = "") -> dict[str, Any]:
        """Send `msg1` ... `msgN`, or so many times a text; return what became of them, and in how many seconds."""
        if not 1 <= count <= MOST_MESSAGES:
            raise UsageError(f"send from 1 to {MOST_MESSAGES:,} messages at once")
        outcomes: Counter[Outcome] = Counter()
        texts = one_by_one(text or f"msg{number}" for number in range(1, count + 1))
        began = time.perf_counter()
        async for receipt in send_all(self._session, self._config.service_ips.facade_service, texts, UNDER_WAY):
            outcomes[receipt.outcome] += 1
        return {**{str(each): outcomes[each] for each in Outcome}, "seconds": round(time.perf_counter() - began, 3)}

    async def operate(self, verb: str, names: Sequence[str]) -> list[str]:
        """Do one of the verbs of `fleet.Operator`; raises what it raises."""
        if verb not in VERBS:
            raise UsageError(f"there is no {verb!r}; there are {', '.join(VERBS)}")
        done: list[str] = await getattr(self._operator, verb)(names)
        return done

    async def break_it(self, name: str, messages: int | None, quiet: bool | None, options: Mapping[str, Any]) -> None:  # noqa: FBT001 - what the page sends
        """Run a fault on this system, as its user would in another terminal; the herald tells how it goes.

        Raises `UsageError` if one runs already, or if it is none.
        """
        from microq.dashboard.faults import words  # noqa: PLC0415 - a system starts without its faults

        if self._scenario:
            raise UsageError("a scenario runs already; wait for its verdict")
        chosen = words(name, messages, quiet, options)
        self._scenario = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "microq",
            "chaos",
            *chosen,
            "--json",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=dict(self._environment),
            cwd=self._config.project,
            start_new_session=True,
        )
        self._tasks.create_task(self._watch(self._scenario, name))
        await self._announce(name, "says", f"Preparing {name}: what runs is looked at, and restarted if it must be.")

    async def _watch(self, scenario: asyncio.subprocess.Process, name: str) -> None:
        """Wait for the end of a scenario; what it could not begin with it says in its last line."""
        _, said = await scenario.communicate()
        self._scenario = None
        lines = said.decode(errors="replace").strip().splitlines()
        reason = _reason(lines[-1]) if lines else ""
        if reason:
            await self._announce(name, "failed", reason)

    async def _announce(self, name: str, kind: str, detail: str) -> None:
        await self._operator.announce(Event(time.time(), name, kind, detail, Topic.SCENARIO))

    async def end(self) -> None:
        """End the scenario that runs, if one does."""
        if self._scenario is None:
            return
        for number in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._scenario.pid, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await self._scenario.wait()
                return


def _reason(line: str) -> str:
    """Return what an error of the command line says; empty if the line is none."""
    try:
        return str(json.loads(line)["message"])
    except (ValueError, LookupError, TypeError):
        return ""


@asynccontextmanager
async def open_actions(config: Config, operator: Operator, environment: Mapping[str, str]) -> AsyncIterator[Actions]:
    """Yield the actions on this system; `environment` is that of its children. What they began ends with them."""
    async with open_session() as session, task_group() as tasks:
        actions = Actions(config, operator, environment, session, tasks)
        try:
            yield actions
        finally:
            await actions.end()
