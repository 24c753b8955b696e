"""Lists of messages over HTTP, of any length: what part of them a reader wants, and how they are written bit by bit."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Protocol, Self, TypeVar

from aiohttp import web

from microq.errors import MessageError, MicroqError
from microq.message import Message

log = logging.getLogger(__name__)

LARGEST_LIMIT = 10_000
"""Messages that a part may be limited to; without a limit there is none."""

PIECE_CHARACTERS = 48 * 1024
"""Characters of JSON after which a piece is written: they are made in a millisecond; the event loop waits no longer."""

RUN = 16
"""Items encoded together: less work than one by one, and bounded however long they are."""

MOST_ORDERED = 10_000
"""Items of a whole map that are shown in order of time; of more, none is held back until all are there."""

SLACK = 2000
"""Items held beyond those of a limited part: how often they are sorted, and how many at once."""

SILENCE_SECONDS = 0.5
"""How long a reader hears nothing while a list is looked for; whoever hears nothing for long asks somebody else."""

GENTLE = 3
"""How long the writer of a list rests between two pieces, in times of what its thread has computed meanwhile.

Who sends while all is read has three quarters of this process: measured, a POST's p99 stays within twice its idle one.
"""

_JSON = {"Content-Type": "application/json; charset=utf-8"}

T = TypeVar("T")

_at = attrgetter("at")
_age = attrgetter("at", "id")
_encode = json.JSONEncoder(ensure_ascii=False).encode


class Dated(Protocol):
    """What has an id and a time, as messages and dead letters do."""

    @property
    def id(self) -> str:
        """What it is called."""
        ...

    @property
    def at(self) -> float:
        """When it was written, in seconds since the epoch."""
        ...


D = TypeVar("D", bound=Dated)


@dataclass(frozen=True, slots=True)
class Part:
    """What a reader asks for: `full` messages or their texts, the oldest `limit` of those written later than `after`.

    `after` is in seconds since the epoch. A limited part is longer where more messages have the time of its last one,
    so that the part `after` that time begins where this one ends.
    """

    full: bool = False
    after: float = -math.inf
    limit: int | None = None

    @classmethod
    def of(cls, request: web.Request) -> Self:
        """Read it from a request's query; raises `MessageError`."""
        query = request.query
        for word in query:
            if word not in _WORDS:
                raise MessageError(f"the query knows no {word[:40]!r}, only {', '.join(_WORDS)}")
        return cls(
            full=_flag(query.get("full", "false")),
            after=_time(query["after"]) if "after" in query else -math.inf,
            limit=_limit(query["limit"]) if "limit" in query else None,
        )

    def to_query(self) -> dict[str, str]:
        """Return it as a query, to be asked of somebody else."""
        query = {"full": "true"} if self.full else {}
        if self.after > -math.inf:
            query["after"] = repr(self.after)
        if self.limit is not None:
            query["limit"] = str(self.limit)
        return query

    def of_all(self, dated: Sequence[D]) -> Sequence[D]:
        """Return what belongs to this part of messages, or others, that are in order of time, the oldest first."""
        later = [each for each in dated if each.at > self.after] if self.after > -math.inf else dated
        if self.limit is None or len(later) <= self.limit:
            return later
        last = later[self.limit - 1].at
        more = next((n for n in range(self.limit, len(later)) if later[n].at > last), len(later))
        return later[:more]


EVERYTHING = Part()

_WORDS = tuple(field.name for field in fields(Part))


def _flag(value: str) -> bool:
    if value not in {"true", "false"}:
        raise MessageError('"full" must be true or false')
    return value == "true"


def _time(value: str) -> float:
    try:
        at = float(value)
    except ValueError:
        at = math.nan
    if not math.isfinite(at):
        raise MessageError('"after" must be a time in seconds since the epoch, as "at" is')
    return at


def _limit(value: str) -> int:
    limit = int(value) if value.isascii() and value.isdigit() and len(value) <= len(str(LARGEST_LIMIT)) else 0
    if not 1 <= limit <= LARGEST_LIMIT:
        raise MessageError(f'"limit" must be a whole number from 1 to {LARGEST_LIMIT}')
    return limit


async def stream(request: web.Request, part: Part, chunks: AsyncIterator[Sequence[Message]]) -> web.StreamResponse:
    """Answer with the messages of the chunks as `stream_items` does: what belongs to the part is the chunks' matter."""
    return await stream_items(request, chunks, Message.to_wire if part.full else _text)


def _text(message: Message) -> str:
    return message.text


async def stream_items(
    request: web.Request, chunks: AsyncIterator[Sequence[T]], show: Callable[[T], Any]
) -> web.StreamResponse:
    """Answer with one JSON array of what `show` makes of all items of the chunks, as `write` does."""
    return await write(request, _array(chunks, show))


async def write(request: web.Request, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
    """Answer with JSON that comes in pieces, none of which is asked for before the reader took those before it.

    An error of ours before the second piece is raised, to be answered; a later one breaks the connection, so that the
    reader notices: what has an end is whole.
    """
    first, second = await anext(pieces), await anext(pieces, None)
    if second is None:
        return web.Response(body=first, headers=_JSON)
    response = web.StreamResponse(headers=_JSON)
    await response.prepare(request)
    await response.write(first)
    await response.write(second)
    try:
        used = time.thread_time()
        async for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(GENTLE * (time.thread_time() - used))
            used = time.thread_time()
    except MicroqError as error:
        log.warning("%s %s was broken off: %s", request.method, request.path, error)
        if request.transport is not None:
            request.transport.abort()
    return response


async def at_once(messages: Sequence[Message]) -> AsyncIterator[Sequence[Message]]:
    """Yield what is all here."""
    yield messages


async def _array(chunks: AsyncIterator[Sequence[T]], show: Callable[[T], Any]) -> AsyncIterator[bytes]:
    """Yield an array of JSON in pieces of bounded size, and a space, which means nothing, after each long silence."""
    before, runs, size = "[", list[str](), 0
    told = time.monotonic()
    async for chunk in chunks:
        for begin in range(0, len(chunk), RUN):
            run = _encode([show(each) for each in chunk[begin : begin + RUN]])[1:-1]
            runs.append(run)
            size += len(run)
            if size >= PIECE_CHARACTERS:
                yield (before + ", ".join(runs)).encode()
                before, runs, size = ", ", [], 0
                told = time.monotonic()
        if not chunk and time.monotonic() - told >= SILENCE_SECONDS:
            yield b" "
            told = time.monotonic()
    if runs or before == "[":
        yield (before + ", ".join(runs) + "]").encode()
    else:
        yield b"]"


async def in_order(chunks: AsyncIterator[Sequence[D]], part: Part = EVERYTHING) -> AsyncIterator[Sequence[D]]:
    """Yield what of chunks in no order belongs to a part, the oldest first.

    That holds for a limited part, and for up to `MOST_ORDERED` in all: of more, none is held back, and they keep the
    order in which they come.
    """
    if part.limit is not None:
        async for found in _oldest(chunks, part):
            yield found
        return
    first: list[D] | None = []
    begun = False
    async for chunk in chunks:
        if begun:
            yield ()  # still at it
        begun = True
        found = [each for each in chunk if each.at > part.after]
        if first is None:
            yield found
        elif len(first) + len(found) > MOST_ORDERED:
            yield [*first, *found]
            first = None
        else:
            first += found
    if first:
        yield sorted(first, key=_age)


async def _oldest(chunks: AsyncIterator[Sequence[D]], part: Part) -> AsyncIterator[Sequence[D]]:
    """Yield a limited part, which is known at the end; little more than it is held at any time."""
    found: list[D] = []
    last, enough, begun = math.inf, LARGEST_LIMIT + SLACK, False
    async for chunk in chunks:
        if begun:
            yield ()  # still at it
        begun = True
        found += [each for each in chunk if part.after < each.at <= last]
        if len(found) > enough:
            found = list(part.of_all(sorted(found, key=_at)))
            last, enough = found[-1].at, len(found) + SLACK
    if found:
        yield part.of_all(sorted(found, key=_age))
