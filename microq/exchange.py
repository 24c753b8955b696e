"""Exchanges with services over the configured wire: what was sent, what came back, and how it is understood.

They work with microq's services and with external ones. Every text that cannot be seen has a reason.
"""

from __future__ import annotations

import asyncio
import secrets
import string
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from microq.client import ATTEMPT_SECONDS, NOT_SENT, PIECE_SECONDS, SEND_SECONDS, in_words, open_session
from microq.config import Address, Config
from microq.errors import UnreadableError
from microq.fleet import Role, addresses, group_of, name_of
from microq.message import Outcome, Receipt
from microq.wire import NOWHERE, Call, spotted, texts_at

MOST_ANSWER = 64 << 20
"""Bytes of the largest answer that is read."""

MOST_SHOWN = 2000
"""Characters of a request or an answer that an exchange shows."""

_LETTERS = 6


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call. `what` says what for: `send`, `read facade-5000`, `read messages-5001`.

    `status` is None if no answer came. `problem` says what was expected and what came; empty: all is understood.
    """

    what: str
    request: str
    status: int | None = None
    answer: str = ""
    seconds: float = 0.0
    problem: str = ""
    receipt: Receipt | None = None
    """Of a send: its outcome."""
    texts: tuple[str, ...] | None = None
    """Of an instance: the texts that it shows; None: they cannot be seen."""
    logs: tuple[str, ...] | None = None
    messages: tuple[str, ...] | None = None
    """Of the facade: both sets."""

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        sets = {name: getattr(self, name) for name in ("texts", "logs", "messages")}
        return {
            "what": self.what,
            "request": self.request,
            "status": self.status,
            "answer": self.answer,
            "seconds": round(self.seconds, 6),
            "outcome": self.receipt.outcome.value if self.receipt else None,
            **{name: None if texts is None else list(texts) for name, texts in sets.items()},
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back: the status is None if no answer came, and then `error` says why; `sent`: the request may be."""

    request: str
    status: int | None = None
    text: str = ""
    error: str = ""
    sent: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)


class Exchanges:
    """Makes exchanges with the services of one system, and reads at most `most` bytes of an answer."""

    def __init__(self, session: aiohttp.ClientSession, config: Config, most: int = MOST_ANSWER) -> None:
        self._session, self._config, self._wire, self._most = session, config, config.wire, most
        self._facade = config.service_ips.facade_service
        self._at = {
            name_of(config, role, address): address
            for role in (Role.LOGGING, Role.MESSAGES)
            for address in addresses(config, role)
        }

    @property
    def names(self) -> list[str]:
        """The names of the instances that can be read: the logging-services, then the messages-services."""
        return list(self._at)

    async def send(self, text: str) -> Exchange:
        """Send one message. A send that fails raises no error."""
        wire, message_id, began = self._wire, str(uuid.uuid4()), time.perf_counter()
        if not wire.send:
            return Exchange("send", "", problem="[wire] send is empty", receipt=_rejected(text, "[wire] send is empty"))
        body = wire.request(text, message_id)
        call = replace(wire.send, path=wire.path(text, message_id))
        answer = await self._ask(self._facade, call, SEND_SECONDS, body)
        seconds = time.perf_counter() - began
        if answer.status is None:
            outcome = Outcome.INDETERMINATE if answer.sent else Outcome.REJECTED
            problem = answer.error
        else:
            outcome, problem = wire.outcome(answer.status, answer.text)
        receipt = Receipt(text, text, outcome, seconds, reason=problem)
        return Exchange("send", answer.request, answer.status, _cut(answer.text), seconds, problem, receipt)

    async def read(self, name: str) -> Exchange:
        """Read the texts that one logging-service or messages-service shows."""
        logging = group_of(name) == Role.LOGGING
        key = "logging" if logging else "messages"
        call = self._wire.logging if logging else self._wire.messages
        place = self._wire.logging_texts if logging else self._wire.messages_texts
        return await self._read(f"read {name}", self._at[name], key, call, {"texts": (f"{key}-texts", place)})

    async def read_facade(self) -> Exchange:
        """Read both sets through the facade."""
        wire = self._wire
        places = {"logs": ("read-logs", wire.read_logs), "messages": ("read-messages", wire.read_messages)}
        what = f"read {name_of(self._config, Role.FACADE, self._facade)}"
        return await self._read(what, self._facade, "read", wire.read, places)

    async def _read(
        self, what: str, address: Address, key: str, call: Call, places: Mapping[str, tuple[str, str]]
    ) -> Exchange:
        began = time.perf_counter()
        if not call:
            return Exchange(what, "", problem=f"[wire] {key} is empty, so this cannot be seen")
        answer = await self._ask(address, call, PIECE_SECONDS)
        seconds = time.perf_counter() - began
        found: dict[str, tuple[str, ...]] = {}
        problems = []
        if answer.status is None:
            problems.append(answer.error)
        elif answer.status // 100 != 2:  # noqa: PLR2004 - HTTP's success
            problems.append(f"expected the status 2xx, came {answer.status} with {_cut(answer.text)[:80]!r}")
        else:
            for name, (its_key, place) in places.items():
                try:
                    found[name] = self._texts(its_key, place, answer.text)
                except UnreadableError as error:
                    problems.append(f"[wire] {its_key}: {error}")
        made = Exchange(what, answer.request, answer.status, _cut(answer.text), seconds, "; ".join(problems))
        return replace(made, texts=found.get("texts"), logs=found.get("logs"), messages=found.get("messages"))

    @staticmethod
    def _texts(key: str, place: str, answer: str) -> tuple[str, ...]:
        if place == NOWHERE:
            raise UnreadableError(f'{key} is "{NOWHERE}", so this cannot be seen')
        return tuple(texts_at(place, answer))

    async def alive(self) -> Mapping[str, str] | None:
        """Read the facade, and return the headers of any answer; None if none came."""
        answer = await self._ask(self._facade, self._wire.read or Call("GET", "/"), ATTEMPT_SECONDS)
        return None if answer.status is None else answer.headers

    async def _ask(self, address: Address, call: Call, seconds: float, body: str | None = None) -> _Answer:
        headers = {} if body is None else {"Content-Type": self._wire.content_type}
        lines = [f"{call.method} {address.url}{call.path}", *(f"{name}: {value}" for name, value in headers.items())]
        request = _cut("\n".join([*lines, *([] if body is None else ["", body])]))
        data = None if body is None else body.encode()
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.request(call.method, address.url + call.path, data=data, headers=headers) as response,
            ):
                raw = await _bounded(response.content, self._most)
                text = _decoded(raw, response.charset)
                return _Answer(request, response.status, text, headers=dict(response.headers))
        except NOT_SENT:
            return _Answer(request, error=f"expected an answer, but nothing listens at {address}", sent=False)
        except TimeoutError:
            return _Answer(request, error=f"expected an answer, and none came in {seconds:g} s")
        except _TooLongError:
            return _Answer(request, error=f"expected at most {self._most} bytes, came more")
        except aiohttp.ClientResponseError as error:
            return _Answer(request, error=f"expected an answer over HTTP, came something else: {error.message[:80]!r}")
        except (aiohttp.ClientError, OSError) as error:
            return _Answer(request, error=f"expected an answer, and {in_words(error)}")


def _decoded(raw: bytes, charset: str | None) -> str:
    """Return an answer as text, in UTF-8 if it names no encoding that is known."""
    try:
        return raw.decode(charset or "utf-8", "replace")
    except LookupError:
        return raw.decode("utf-8", "replace")


class _TooLongError(Exception):
    """An answer is too long."""


async def _bounded(content: aiohttp.StreamReader, most: int) -> bytes:
    """Read an answer; raises `_TooLongError` if it has more than `most` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in content.iter_any():
        size += len(part)
        if size > most:
            raise _TooLongError
        parts.append(part)
    return b"".join(parts)


def _rejected(text: str, reason: str) -> Receipt:
    return Receipt(text, text, Outcome.REJECTED, 0.0, reason=reason)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


@asynccontextmanager
async def open_exchanges(config: Config) -> AsyncIterator[Exchanges]:
    """Yield what makes exchanges with the services of a system."""
    async with open_session() as session:
        yield Exchanges(session, config)


async def send_texts(
    exchanges: Exchanges, texts: AsyncIterator[str], most: int, hear: Callable[[Receipt], None]
) -> None:
    """Send texts, at most `most` in flight, and call `hear` with each receipt, in order."""
    waiting: deque[asyncio.Task[Exchange]] = deque()

    async def first() -> None:
        receipt = (await waiting.popleft()).receipt
        if receipt:
            hear(receipt)

    async with asyncio.TaskGroup() as tasks:
        async for text in texts:
            waiting.append(tasks.create_task(exchanges.send(text)))
            if len(waiting) >= most:
                await first()
        while waiting:
            await first()


def letters_of_a_run() -> str:
    """Return letters that no other run has, for the end of its texts. No digits, so joined texts can be told apart."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(_LETTERS))


def mentioned(log_file: Path, known: Collection[str]) -> list[str]:
    """Return the known texts that a process has logged, in the order in which its log names them first."""
    try:
        text = log_file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return list(dict.fromkeys(spotted([text], known)))
