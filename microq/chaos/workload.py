"""The messages of a run: each is sent under an id that is made here, and noted in the history with its outcome."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, KeysView, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from microq import backends
from microq.aio import poll_until
from microq.chaos.history import History
from microq.chaos.timeouts import Timeouts
from microq.client import ATTEMPT_SECONDS, FacadeClient
from microq.config import Config
from microq.errors import MicroqError
from microq.message import Outcome, Receipt, text_hash

CONCURRENCY = 16
"""Messages in flight at the same time."""

PROBE_PAUSE = 0.05
"""Seconds before a probe is sent again."""


class RecordingClient:
    """A client of the system under test, which notes its sends and their outcomes."""

    def __init__(
        self, session: aiohttp.ClientSession, config: Config, history: History, timeouts: Timeouts | None = None
    ) -> None:
        self._session, self._history = session, history
        self.timeouts = timeouts or Timeouts()
        self._facade = FacadeClient(session, config.service_ips.facade_service)
        self._url = config.service_ips.facade_service.url
        self.acknowledged: dict[str, None] = {}
        """Ids in the order of their acknowledgement."""
        self._attempts: Counter[str] = Counter()
        self._senders = itertools.count(1)

    @property
    def sent(self) -> KeysView[str]:
        """The ids of all sent messages."""
        return self._attempts.keys()

    async def reach(self) -> None:
        """Raise `NotRunningError` if the facade does not answer."""
        await self._facade.get("/healthz")

    async def clock(self) -> float | None:
        """Return the wall time in the facade's answer, to the second; None if there was no answer."""
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS), self._session.get(f"{self._url}/healthz") as answer:
                return parsedate_to_datetime(answer.headers["Date"]).timestamp()
        except (aiohttp.ClientError, TimeoutError, OSError, LookupError, ValueError):
            return None

    async def ask(self, path: str) -> Any:
        """GET a path of the facade as JSON. Raises `NotRunningError` or `DeadlineError`."""
        return await self._facade.get(path)

    async def send(self, text: str, message_id: str = "", sender: str = "alone") -> Receipt:
        """Send one message under a new id, or again under `message_id`.

        A `sender` sends one message after another.
        """
        text, message_id = self._named(text, message_id)
        self._attempts[message_id] += 1
        attempt = self._attempts[message_id]
        self._history.note("send", id=message_id, attempt=attempt, hash=text_hash(text), sender=sender)
        receipt = await self._deliver(text, message_id)
        self._history.note(
            "outcome",
            id=message_id,
            attempt=attempt,
            outcome=receipt.outcome.value,
            seconds=round(receipt.seconds, 6),
            logged_by=receipt.logged_by,
            reason=receipt.reason,
        )
        if receipt.outcome is Outcome.ACKNOWLEDGED:
            self.acknowledged[message_id] = None
        return receipt

    def _named(self, text: str, message_id: str) -> tuple[str, str]:
        """Return the text and the id of a send."""
        return text, message_id or str(uuid.uuid4())

    async def _deliver(self, text: str, message_id: str) -> Receipt:
        return await self._facade.send(text, message_id)

    async def send_all(self, texts: Iterable[str]) -> list[Receipt]:
        """Send many messages, several at a time."""
        waiting = iter(texts)
        receipts: list[Receipt] = []

        async def work(sender: str) -> None:
            for text in waiting:
                receipts.append(await self.send(text, sender=sender))  # noqa: PERF401 - many append to one list

        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONCURRENCY):
                tasks.create_task(work(self.new_sender()))
        return receipts

    def new_sender(self) -> str:
        """Return the name of a new sender."""
        return f"sender {next(self._senders)}"

    async def probe(self, text: str) -> bool:
        """Send one message after another until one is acknowledged; return whether one was in time."""
        sender = self.new_sender()

        async def acknowledged() -> bool:
            return (await self.send(text, sender=sender)).outcome is Outcome.ACKNOWLEDGED

        return await poll_until(acknowledged, PROBE_PAUSE, self.timeouts.probe)


Planter = Callable[[Config, Sequence[str]], Awaitable[None]]
"""The function that puts raw items into the queue; tests pass another one."""


async def plant(config: Config, items: Sequence[str]) -> None:
    """Append texts to the queue as they are. Raises `QueueError` or `DeadlineError`."""
    await backends.put_raw(config, items)


ACKNOWLEDGED_PAUSE = 0.005
"""Seconds between two checks of the number of acknowledged messages."""

RETRY = 0.05
"""Seconds before a message is sent again, if the facade did not ask for a pause."""

AMPLE = 2
"""Factor of the requested messages that are sent at full speed; after that, a long fault gets a trickle."""

TRICKLE = 0.1
"""Seconds between two messages of the trickle on each connection."""


class Workload:
    """The `Flow` around a fault. While `run` runs, `connections` workers send until `finish` and a tail after it."""

    def __init__(
        self, traffic: RecordingClient, config: Config, planter: Planter, messages: int, connections: int = 16
    ) -> None:
        self._traffic, self._config, self._planter = traffic, config, planter
        self._messages, self._connections = messages, connections
        self._numbers = itertools.count(1)
        self._goal = math.inf
        self._end = math.inf
        self._running = False

    @property
    def acknowledged(self) -> int:
        """The number of acknowledged messages so far."""
        return len(self._traffic.acknowledged)

    async def run(self) -> None:
        """Send until the goal is reached, or the time limit of the whole load."""
        self._end = asyncio.get_running_loop().time() + self._traffic.timeouts.load
        self._running = True
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._connections):
                    tasks.create_task(self._work())
        finally:
            self._running = False

    def finish(self, tail: int) -> None:
        """Send `tail` more messages, and at least the requested number in total; then end."""
        self._goal = max(self._messages, self.acknowledged + tail)

    def _goes_on(self) -> bool:
        return self.acknowledged < self._goal and asyncio.get_running_loop().time() < self._end

    async def _work(self) -> None:
        sender = self._traffic.new_sender()
        while self._goes_on():
            await self._deliver(f"msg{next(self._numbers)}", sender)
            if self.acknowledged >= self._messages * AMPLE:
                await asyncio.sleep(TRICKLE)

    async def _deliver(self, text: str, sender: str) -> None:
        """Send one message, again under its id until it is acknowledged or its time limit is reached."""
        message_id = str(uuid.uuid4())
        end = min(asyncio.get_running_loop().time() + self._traffic.timeouts.probe, self._end)
        while (receipt := await self._traffic.send(text, message_id, sender)).outcome is not Outcome.ACKNOWLEDGED:
            pause = receipt.retry_after or RETRY
            if asyncio.get_running_loop().time() + pause >= end:
                return
            await asyncio.sleep(pause)

    async def passes(self, count: int) -> bool:
        """Wait until `count` more messages are acknowledged; return at once if nothing is being sent."""
        wanted = self.acknowledged + count
        while self._running and self.acknowledged < wanted:  # noqa: ASYNC110 - `run` ends in time
            await asyncio.sleep(ACKNOWLEDGED_PAUSE)
        return self.acknowledged >= wanted

    async def ping(self) -> float:
        """Return the seconds of a request that does nothing; 0 without an answer."""
        began = time.perf_counter()
        try:
            await self._traffic.reach()
        except MicroqError:
            return 0.0
        return time.perf_counter() - began

    async def ahead(self) -> float | None:
        """Return how many seconds the facade's clock is ahead of this one; None without an answer."""
        at = await self._traffic.clock()
        return None if at is None else at - time.time()

    async def burst(self, count: int, size: int = 0, why: str = "") -> int:
        """Send `count` messages of at least `size` characters once each; return how many were rejected, with `why`."""
        receipts = await self._traffic.send_all(f"burst{number}".ljust(size, ".") for number in range(1, count + 1))
        return sum(receipt.outcome is Outcome.REJECTED and why in receipt.reason for receipt in receipts)

    async def plant(self, items: Sequence[str]) -> None:
        """Put items directly into the queue, past the facade."""
        await self._planter(self._config, items)

    async def dead_letters(self) -> list[str] | None:
        """Return each dead letter as one text; None if the facade does not list them."""
        try:
            letters = await self._traffic.ask("/dead")
        except MicroqError:
            return None
        return [json.dumps(letter, ensure_ascii=False) for letter in letters]
