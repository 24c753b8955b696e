"""How people send: in batches, and one by one where a batch broke off, so that every text has its outcome."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

import aiohttp

from microq.batch import Batch
from microq.client import SEND_SECONDS, FacadeClient
from microq.config import Address
from microq.message import Outcome, Receipt

FIRST = 12
"""Texts of each logging-service that are kept, to be shown."""


class _Texts:
    """The texts that are still to be sent; what is no text that can be sent gets its receipt here.

    Who takes one and is cancelled loses none: the next one who asks gets it.
    """

    def __init__(self, texts: AsyncIterator[str]) -> None:
        self._texts = texts
        self._coming: asyncio.Task[str | None] | None = None
        self._broken: deque[tuple[int, Receipt]] = deque()
        self._taken = 0
        self.ended = False

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        while True:
            self._coming = self._coming or asyncio.create_task(self._next())
            text = await asyncio.shield(self._coming)
            self._coming = None
            if text is None:
                self.ended = True
                raise StopAsyncIteration
            number, self._taken = self._taken, self._taken + 1
            readable = text.encode(errors="replace").decode()
            if readable == text:
                return text
            self._broken.append((number, Receipt("", readable, Outcome.REJECTED, 0.0, reason="not UTF-8 text")))

    async def _next(self) -> str | None:
        return await anext(self._texts, None)

    def before(self, number: int | None) -> list[Receipt]:
        """Return the receipts of the broken texts before a number, or of all."""
        found: list[Receipt] = []
        while self._broken and (number is None or self._broken[0][0] <= number + len(found)):
            found.append(self._broken.popleft()[1])
        return found


@dataclass(slots=True)
class Logged:
    """What one logging-service logged: how many messages, and the texts of the first `FIRST`."""

    count: int = 0
    first: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """What became of messages, in memory that does not grow with their number; of those that failed all is kept."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    loggers: dict[str, Logged] = field(default_factory=dict)
    failures: list[Receipt] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """How many messages there were."""
        return self.outcomes.total()

    def add(self, receipt: Receipt) -> None:
        """Count one more."""
        self.outcomes[receipt.outcome] += 1
        if receipt.reason:
            self.failures.append(receipt)
        if receipt.logged_by:
            logged = self.loggers.setdefault(receipt.logged_by, Logged())
            logged.count += 1
            if len(logged.first) < FIRST:
                logged.first.append(receipt.text)


async def one_by_one(texts: Iterable[str]) -> AsyncIterator[str]:
    """Yield texts that are there already, as `send_all` takes them."""
    for text in texts:
        yield text


async def send_all(
    session: aiohttp.ClientSession, address: Address, texts: AsyncIterator[str], most: int
) -> AsyncIterator[Receipt]:
    """Yield the receipt of each text, in their order, with at most so many under way."""
    waiting = _Texts(texts)
    number = 0
    while not waiting.ended:
        async for receipt in Batch(session, address, most).send(waiting, SEND_SECONDS):
            for broken in waiting.before(number):
                number += 1
                yield broken
            number += 1
            yield receipt
        if not waiting.ended and (text := await anext(waiting, None)) is not None:
            # The batch broke off: this one finds out whether anybody is there.
            number += 1
            yield await FacadeClient(session, address).send(text)
    for broken in waiting.before(None):
        yield broken
