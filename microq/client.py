"""HTTP clients: of the facade, as its users see it, and of a single service.

Many messages are sent in batches, and one by one after a batch broke off, so every text gets an outcome.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp

from microq.config import Address
from microq.errors import DeadlineError, NotRunningError, UsageError
from microq.message import Message, Outcome, Reading, Receipt

ATTEMPT_SECONDS = 2.0
"""Seconds that one replica may take before the next one is asked."""

PIECE_SECONDS = 10.0
"""Seconds that an answer may pause between two of its pieces."""

SEND_SECONDS = 30.0
"""Seconds that the facade may take for one message, failover of the cluster included."""

NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Errors after which the request certainly was not sent."""


_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "silent"),
    (aiohttp.ClientPayloadError, "its answer was cut off"),
    (aiohttp.ServerDisconnectedError, "it closed the connection"),
    (aiohttp.ClientResponseError, "not an answer of microq"),
    (ValueError, "not an answer of microq"),
)


def in_words(error: BaseException) -> str:
    """Return why a request has no answer, in terms of the network instead of names of Python classes."""
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()
    return "the connection broke"


async def listens(address: Address) -> bool:
    """Return whether a server accepts connections at an address."""
    try:
        _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session that keeps its connections and does not limit their number."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=20)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=ATTEMPT_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield session


class FacadeClient:
    """A client of the facade. It makes the ids, so it can count the outcome of each message."""

    def __init__(self, session: aiohttp.ClientSession, address: Address) -> None:
        self._session, self._address = session, address

    async def send(self, text: str, message_id: str = "", seconds: float = SEND_SECONDS) -> Receipt:
        """POST one message and return its receipt; a failed send raises no error."""
        message_id = message_id or str(uuid.uuid4())
        began = time.perf_counter()
        outcome, details = await self._post(message_id, text, seconds)
        return Receipt(message_id, text, outcome, time.perf_counter() - began, **details)

    async def _post(self, message_id: str, text: str, seconds: float) -> tuple[Outcome, dict[str, Any]]:
        headers = {"Idempotency-Key": message_id}
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.post(self._address.url + "/facade", json={"msg": text}, headers=headers) as response,
            ):
                body = await response.json(content_type=None)
                return outcome_of(response.status, body, float(response.headers.get("Retry-After", 0)))
        except NOT_SENT:
            return Outcome.REJECTED, {"reason": f"no facade at {self._address}"}
        except TimeoutError:
            return Outcome.INDETERMINATE, {"reason": f"no answer in {seconds:g} s"}
        except (aiohttp.ClientError, OSError, ValueError, AttributeError) as error:
            return Outcome.INDETERMINATE, {"reason": f"the connection broke ({in_words(error)})"}

    async def read(self, limit: int | None = None, after: float | None = None) -> Reading:
        """GET both sets: of each the oldest `limit` messages later than `after` (seconds since the epoch).

        Raises `UsageError`, `NotRunningError` or `DeadlineError`.
        """
        asked = {"full": "true", "limit": limit, "after": after}
        body = await self.get("/facade?" + urlencode({key: value for key, value in asked.items() if value is not None}))
        return Reading(
            logs=tuple(map(read_wire, body["logs"])),
            messages=tuple(map(read_wire, body["message"])),
            logging_service=body["logging-service"],
            messages_service=body["messages-service"],
            hidden=body.get("hidden", {}),
            merging=bool(body.get("merging")),
        )

    async def get(self, path: str) -> Any:
        """GET any path of the facade as JSON. Raises `NotRunningError` or `DeadlineError`."""
        return await get_json(self._session, self._address, path)

    async def dead_letters(self) -> list[dict[str, Any]]:
        """Return the dead letters as the facade shows them, oldest first. Raises as `get` does."""
        letters: list[dict[str, Any]] = await self.get("/dead")
        return letters

    async def change_letters(self, verb: str, ids: Sequence[str]) -> None:
        """Replay or drop dead letters. If one of the ids is not a dead letter, do nothing and raise `UsageError`.

        Raises as `get` does, too.
        """
        await _ask_json(self._session, "POST", self._address, f"/dead/{verb}", PIECE_SECONDS, {"uuids": list(ids)})


def outcome_of(status: int, body: dict[str, Any], pause: float = 0.0) -> tuple[Outcome, dict[str, Any]]:
    """Return the outcome of a message and the other facts of its receipt, from an answer of the facade."""
    if status == 200:  # noqa: PLR2004 - HTTP's "OK"
        return Outcome.ACKNOWLEDGED, {"logged_by": body.get("logging-service", "")}
    indeterminate = status >= 500 and status != 503  # noqa: PLR2004 - 503: not accepted
    outcome = Outcome.INDETERMINATE if indeterminate else Outcome.REJECTED
    return outcome, {"reason": f"{status} {body.get('message', '')}", "retry_after": pause}


async def get_json(session: aiohttp.ClientSession, address: Address, path: str, seconds: float = PIECE_SECONDS) -> Any:
    """GET a path of one service as JSON of any length; each piece must come within `seconds` of the one before.

    Raises `NotRunningError` or `DeadlineError`.
    """
    return await _ask_json(session, "GET", address, path, seconds)


async def _ask_json(
    session: aiohttp.ClientSession, method: str, address: Address, path: str, seconds: float, body: Any = None
) -> Any:
    # A deadline for each piece: the time for the whole depends on its size.
    patience = aiohttp.ClientTimeout(total=None, sock_connect=min(seconds, ATTEMPT_SECONDS), sock_read=seconds)
    try:
        async with session.request(method, address.url + path, json=body, timeout=patience) as response:
            body = await response.json(content_type=None)
    except TimeoutError as error:
        raise DeadlineError(f"{address} did not answer in {seconds:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NotRunningError(
            f"no service of microq answers at {address}; `microq up` starts the system, `microq status` shows it"
        ) from error
    if response.status != 200:  # noqa: PLR2004 - HTTP's "OK"
        message = body.get("message", body) if isinstance(body, dict) else body
        if response.status == 400:  # noqa: PLR2004 - HTTP's "bad request"
            raise UsageError(message)
        raise NotRunningError(f"{address} answered {response.status}: {message}")
    return body


def read_wire(fields: Any) -> Message:
    """Read a message in the form in which the services show it with `?full=true`."""
    return Message(fields["uuid"], fields["msg"], float(fields["at"]), fields["by"])


async def read_messages(
    session: aiohttp.ClientSession, address: Address, path: str, seconds: float = PIECE_SECONDS
) -> list[Message]:
    """Return everything that one logging-service (`/log`) or messages-service (`/messages`) shows."""
    return [read_wire(fields) for fields in await get_json(session, address, f"{path}?full=true", seconds)]


PAUSE_SECONDS = 1.0
"""Seconds that the sender waits after the facade refused for now: an immediate send would be refused again."""


@dataclass(slots=True)
class _Sent:
    """A message that is in flight."""

    id: str
    text: str
    began: float


class Batch:
    """Sends messages as one batch; at most `most` are in flight at the same time."""

    def __init__(self, session: aiohttp.ClientSession, address: Address, most: int) -> None:
        self._session, self._url = session, f"{address.url}/facade/batch"
        self._in_flight: deque[_Sent] = deque()
        self._room = asyncio.Semaphore(most)
        self._pause = 0.0

    async def send(self, texts: AsyncIterator[str], seconds: float) -> AsyncIterator[Receipt]:
        """Yield the receipt of each message, in their order, while later messages are still being sent.

        If the connection breaks, or a message has no outcome for `seconds`, the messages in flight are indeterminate,
        and the remaining texts are left for another batch. The facade ends a batch whose sender pauses for long.
        """
        problem = ""
        try:
            async with self._session.post(self._url, data=self._lines(texts)) as response:
                async for line in self._answers(response.content, seconds):
                    yield self._receipt(json.loads(line))
        except TimeoutError:
            problem = f"no answer in {seconds:g} s"
        except (aiohttp.ClientError, OSError, ValueError, LookupError) as error:
            problem = f"the connection broke ({in_words(error)})"
        for sent in self._in_flight:
            reason = problem or "the facade ended before it answered"
            yield Receipt(sent.id, sent.text, Outcome.INDETERMINATE, time.perf_counter() - sent.began, reason=reason)
        self._in_flight.clear()

    async def _answers(self, answer: aiohttp.StreamReader, seconds: float) -> AsyncIterator[bytes]:
        """Yield the lines of the answer; a line that was cut off counts as one."""
        rest = b""
        while chunk := await self._chunk(answer, seconds):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line
        if rest:
            yield rest

    async def _chunk(self, answer: aiohttp.StreamReader, seconds: float) -> bytes:
        """Return the next part of the answer; raises `TimeoutError` only if a message waits for it."""
        reading = asyncio.ensure_future(answer.readany())
        try:
            while not (await asyncio.wait([reading], timeout=seconds))[0]:
                self._check_oldest(seconds)
            return reading.result()
        finally:
            reading.cancel()

    def _check_oldest(self, seconds: float) -> None:
        if self._in_flight and time.perf_counter() - self._in_flight[0].began >= seconds:
            raise TimeoutError

    async def _lines(self, texts: AsyncIterator[str]) -> AsyncIterator[bytes]:
        while True:
            await self._room.acquire()
            await asyncio.sleep(self._pause)
            self._pause = 0.0
            # Nothing is awaited between here and the next yield: a text that is taken is in flight.
            text = await anext(texts, None)
            if text is None:
                return
            sent = _Sent(str(uuid.uuid4()), text, time.perf_counter())
            self._in_flight.append(sent)
            yield json.dumps({"msg": text, "uuid": sent.id}, ensure_ascii=False).encode() + b"\n"

    def _receipt(self, body: dict[str, Any]) -> Receipt:
        sent = self._in_flight.popleft()
        self._room.release()
        outcome, details = outcome_of(int(body["code"]), body)
        if outcome is Outcome.REJECTED and body["code"] == 503:  # noqa: PLR2004 - HTTP's "unavailable"
            self._pause = PAUSE_SECONDS
        return Receipt(sent.id, sent.text, outcome, time.perf_counter() - sent.began, **details)


FIRST = 12
"""The number of texts of each logging-service that are kept, to be shown."""


class _Texts:
    """The texts that are still to be sent; a line that is not UTF-8 text gets its receipt here.

    A reader that is cancelled loses no text: the next reader gets it.
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
        """Return the receipts of the broken texts before a number, or of all broken texts."""
        found: list[Receipt] = []
        while self._broken and (number is None or self._broken[0][0] <= number + len(found)):
            found.append(self._broken.popleft()[1])
        return found


@dataclass(slots=True)
class Logged:
    """What one logging-service logged: the number of messages, and the texts of the first `FIRST`."""

    count: int = 0
    first: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """Counts the outcomes of messages. Its memory does not grow with their number; it keeps those that failed."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    loggers: dict[str, Logged] = field(default_factory=dict)
    failures: list[Receipt] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """The number of messages."""
        return self.outcomes.total()

    def add(self, receipt: Receipt) -> None:
        """Count one more receipt."""
        self.outcomes[receipt.outcome] += 1
        if receipt.reason:
            self.failures.append(receipt)
        if receipt.logged_by:
            logged = self.loggers.setdefault(receipt.logged_by, Logged())
            logged.count += 1
            if len(logged.first) < FIRST:
                logged.first.append(receipt.text)


async def one_by_one(texts: Iterable[str]) -> AsyncIterator[str]:
    """Yield the texts of an iterable, as `send_all` needs them."""
    for text in texts:
        yield text


async def send_all(
    session: aiohttp.ClientSession, address: Address, texts: AsyncIterator[str], most: int
) -> AsyncIterator[Receipt]:
    """Yield the receipt of each text, in their order, with at most `most` in flight."""
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
            # The batch broke off: this send finds out whether the facade is there.
            number += 1
            yield await FacadeClient(session, address).send(text)
    for broken in waiting.before(None):
        yield broken
