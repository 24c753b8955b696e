"""Lists of messages over HTTP, of any length: which part a reader asks for, and how it is written piece by piece."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Self, TypeVar

from aiohttp import web

from microq.errors import MessageError, MicroqError
from microq.message import Message, Record
from microq.services.routes import TEXT, Parameter, Schema, listed, record

log = logging.getLogger(__name__)

LARGEST_LIMIT = 10_000
"""The highest limit that a request may set; without a limit the whole list is sent."""

PIECE_CHARACTERS = 48 * 1024
"""Characters of JSON of a piece: making them blocks the event loop for a millisecond."""

RUN = 16
"""Items that are encoded together: faster than one by one, and still short."""

MOST_ORDERED = 10_000
"""The largest number of items of a map that is sorted by time; a longer list is sent as it is read, unsorted."""

SLACK = 2000
"""Items held in memory beyond those of a limited part, before they are sorted and cut again."""

SILENCE_SECONDS = 0.5
"""Seconds after which a space is sent while a list is read; a reader without bytes would ask another service."""

GENTLE = 3
"""The pause between two pieces, as a multiple of the time that its thread has computed for the last one.

So three quarters of the process are left for senders: measured, the p99 of a POST at most doubles during a read.
"""

_JSON = {"Content-Type": "application/json; charset=utf-8"}

T = TypeVar("T")

_at = attrgetter("at")
_age = attrgetter("at", "id")
_encode = json.JSONEncoder(ensure_ascii=False).encode


R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a list that a reader asks for: the oldest `limit` messages written later than `after`.

    `full`: with all fields, else only the texts. `after` is in seconds since the epoch. A limited part is longer if
    more messages have the time of its last one, so the part `after` that time begins where this one ends.
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
                raise MessageError(f"the query has no parameter {word[:40]!r}; there are {', '.join(_WORDS)}")
        return cls(
            full=_flag(query.get("full", "false")),
            after=time_of(query["after"], _NO_TIME) if "after" in query else -math.inf,
            limit=_limit(query["limit"]) if "limit" in query else None,
        )

    def to_query(self) -> dict[str, str]:
        """Return it as the query of a request to another service."""
        query = {"full": "true"} if self.full else {}
        if self.after > -math.inf:
            query["after"] = repr(self.after)
        if self.limit is not None:
            query["limit"] = str(self.limit)
        return query

    def of_all(self, dated: Sequence[R]) -> Sequence[R]:
        """Return this part of records that are in order of time, the oldest first."""
        later = [each for each in dated if each.at > self.after] if self.after > -math.inf else dated
        if self.limit is None or len(later) <= self.limit:
            return later
        last = later[self.limit - 1].at
        more = next((n for n in range(self.limit, len(later)) if later[n].at > last), len(later))
        return later[:more]


EVERYTHING = Part()

_NO_TIME = '"after" must be a time in seconds since the epoch, as "at" is'

_WORDS = tuple(field.name for field in fields(Part))

PARAMETERS = (
    Parameter("full", "query", "With ids and times, beside the texts.", {"enum": ["true", "false"]}),
    Parameter("after", "query", "Only what is later than this time, in seconds since the epoch.", {"type": "number"}),
    Parameter(
        "limit",
        "query",
        "At most this number, the oldest; more if several have the time of the last.",
        {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT},
    ),
)
"""The parameters by which a request asks for a part."""

LIST: Schema = {
    "anyOf": [
        listed(TEXT),
        listed(
            record({"uuid": TEXT, "msg": TEXT, "at": {"type": "number"}, "by": TEXT}, partition={"type": "integer"})
        ),
    ]
}
"""The schema of a list: of texts, or of messages in full."""


def _flag(value: str) -> bool:
    if value not in {"true", "false"}:
        raise MessageError('"full" must be true or false')
    return value == "true"


def time_of(value: str, problem: str) -> float:
    """Return a time in seconds since the epoch; raises `MessageError` with the text `problem` if it is not one."""
    try:
        at = float(value)
    except ValueError:
        at = math.nan
    if not math.isfinite(at):
        raise MessageError(problem)
    return at


def _limit(value: str) -> int:
    limit = int(value) if value.isascii() and value.isdigit() and len(value) <= len(str(LARGEST_LIMIT)) else 0
    if not 1 <= limit <= LARGEST_LIMIT:
        raise MessageError(f'"limit" must be a whole number from 1 to {LARGEST_LIMIT}')
    return limit


async def stream(request: web.Request, part: Part, chunks: AsyncIterator[Sequence[Message]]) -> web.StreamResponse:
    """Answer with all messages of the chunks, in full or as texts; the chunks contain only messages of the part."""
    return await stream_items(request, chunks, Message.to_wire if part.full else attrgetter("text"))


async def stream_items(
    request: web.Request, chunks: AsyncIterator[Sequence[T]], show: Callable[[T], Any]
) -> web.StreamResponse:
    """Answer with a JSON array of `show(item)` for all items of the chunks."""
    return await write(request, _array(chunks, show))


async def write(request: web.Request, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
    """Answer with JSON in pieces; each piece is made only after the reader has taken those before it.

    An error before the second piece is raised, and answered; a later one closes the connection, so the reader notices
    that the answer is incomplete.
    """
    first, second = await anext(pieces), await anext(pieces, None)
    if second is None:
        return web.Response(body=first + b"\n", headers=_JSON)
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
        await response.write(b"\n")
    except MicroqError as error:
        log.warning("%s %s was broken off: %s", request.method, request.path, error)
        if request.transport is not None:
            request.transport.abort()
    return response


async def _array(chunks: AsyncIterator[Sequence[T]], show: Callable[[T], Any]) -> AsyncIterator[bytes]:
    """Yield a JSON array in pieces of bounded size, and a space, which has no meaning, after each long silence."""
    before, runs, size = "[", list[str](), 0
    sent_at = time.monotonic()
    async for chunk in chunks:
        for begin in range(0, len(chunk), RUN):
            run = _encode([show(each) for each in chunk[begin : begin + RUN]])[1:-1]
            runs.append(run)
            size += len(run)
            if size >= PIECE_CHARACTERS:
                yield (before + ", ".join(runs)).encode()
                before, runs, size = ", ", [], 0
                sent_at = time.monotonic()
        if not chunk and time.monotonic() - sent_at >= SILENCE_SECONDS:
            yield b" "
            sent_at = time.monotonic()
    if runs or before == "[":
        yield (before + ", ".join(runs) + "]").encode()
    else:
        yield b"]"


async def in_order(chunks: AsyncIterator[Sequence[R]], part: Part = EVERYTHING) -> AsyncIterator[Sequence[R]]:
    """Yield the items of a part from unsorted chunks, the oldest first.

    A part without a limit and with more than `MOST_ORDERED` items is not sorted: it is passed on as it comes.
    """
    if part.limit is not None:
        async for found in _oldest(chunks, part):
            yield found
        return
    first: list[R] | None = []
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


async def _oldest(chunks: AsyncIterator[Sequence[R]], part: Part) -> AsyncIterator[Sequence[R]]:
    """Yield a limited part, which is known at the end; little more than it is held at any time."""
    found: list[R] = []
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
