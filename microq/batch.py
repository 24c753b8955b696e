"""The facade's batch API, as its users see it: many messages over one connection, an outcome for each as it comes."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from microq.client import outcome_of
from microq.config import Address
from microq.message import Outcome, Receipt

PAUSE_SECONDS = 1.0
"""How long the sender waits where the facade refuses for now: it would only be refused again."""


@dataclass(slots=True)
class _Sent:
    """A message that is under way."""

    id: str
    text: str
    began: float


class Batch:
    """Sends messages as one batch; no more than `most` are under way at the same time."""

    def __init__(self, session: aiohttp.ClientSession, address: Address, most: int) -> None:
        self._session, self._url = session, f"{address.url}/facade/batch"
        self._under_way: deque[_Sent] = deque()
        self._room = asyncio.Semaphore(most)
        self._pause = 0.0

    async def send(self, texts: AsyncIterator[str], seconds: float) -> AsyncIterator[Receipt]:
        """Yield what is known of each message, in their order, while the rest is still being sent.

        Where the connection breaks, or a message has no outcome for `seconds`, what was under way is indeterminate, and
        the rest of the texts is left for another batch. The facade ends a batch whose sender pauses for long.
        """
        problem = ""
        try:
            async with self._session.post(self._url, data=self._lines(texts)) as response:
                async for line in self._answers(response.content, seconds):
                    yield self._receipt(json.loads(line))
        except TimeoutError:
            problem = f"no answer in {seconds:g} s"
        except (aiohttp.ClientError, OSError, ValueError, LookupError) as error:
            problem = f"the connection broke ({type(error).__name__})"
        for sent in self._under_way:
            reason = problem or "the facade ended before it answered"
            yield Receipt(sent.id, sent.text, Outcome.INDETERMINATE, time.perf_counter() - sent.began, reason=reason)
        self._under_way.clear()

    async def _answers(self, answer: aiohttp.StreamReader, seconds: float) -> AsyncIterator[bytes]:
        """Yield the lines of the answer; one that was cut off is one too."""
        rest = b""
        while chunk := await self._chunk(answer, seconds):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line
        if rest:
            yield rest

    async def _chunk(self, answer: aiohttp.StreamReader, seconds: float) -> bytes:
        """Return the next part of the answer; raises `TimeoutError` only if something waits for it."""
        reading = asyncio.ensure_future(answer.readany())
        try:
            while not (await asyncio.wait([reading], timeout=seconds))[0]:
                self._check_oldest(seconds)
            return reading.result()
        finally:
            reading.cancel()

    def _check_oldest(self, seconds: float) -> None:
        if self._under_way and time.perf_counter() - self._under_way[0].began >= seconds:
            raise TimeoutError

    async def _lines(self, texts: AsyncIterator[str]) -> AsyncIterator[bytes]:
        while True:
            await self._room.acquire()
            await asyncio.sleep(self._pause)
            self._pause = 0.0
            # From here to the next yield nothing is awaited: a text that is taken is under way.
            text = await anext(texts, None)
            if text is None:
                return
            sent = _Sent(str(uuid.uuid4()), text, time.perf_counter())
            self._under_way.append(sent)
            yield json.dumps({"msg": text, "uuid": sent.id}, ensure_ascii=False).encode() + b"\n"

    def _receipt(self, body: dict[str, Any]) -> Receipt:
        sent = self._under_way.popleft()
        self._room.release()
        outcome, details = outcome_of(int(body["code"]), body)
        if outcome is Outcome.REJECTED and body["code"] == 503:  # noqa: PLR2004 - HTTP's "unavailable"
            self._pause = PAUSE_SECONDS
        return Receipt(sent.id, sent.text, outcome, time.perf_counter() - sent.began, **details)
