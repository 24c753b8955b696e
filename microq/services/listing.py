"""Lists of messages over HTTP, of any length: what part of them a reader wants, and how they are written bit by bit."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from aiohttp import web

from microq.errors import MessageError, MicroqError
from microq.message import Message

log = logging.getLogger(__name__)

LARGEST_LIMIT = 10_000
"""Messages that a part may be limited to; without a limit there is none."""

PIECE_ITEMS = 256
"""Items written at once at most: they are encoded in about a millisecond, and the event loop waits no longer."""

PIECE_CHARACTERS = 64 * 1024
"""Characters after which a piece gets no more items."""

MOST_ORDERED = 10_000
"""Items of a whole map that are shown in order of time; of more, none is held back until all are there."""

T = TypeVar("T")

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
        return cls(
            full=query.get("full") == "true",
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
    """Answer with one JSON array of what `show` makes of all items of the chunks.

    No more than one piece is encoded at once, and none before the reader took those before it. An error of ours before
    the first piece is raised, to be answered; a later one breaks the connection: a list that has an end is whole.
    """
    pieces = _pieces(chunks, show)
    first, second = await anext(pieces, b""), await anext(pieces, None)
    if second is None:
        return web.Response(body=b"[" + first + b"]", content_type="application/json", charset="utf-8")
    response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
    await response.prepare(request)
    await response.write(b"[" + first)
    await response.write(b", " + second)
    try:
        async for piece in pieces:
            await response.write(b", " + piece)
            await asyncio.sleep(0)  # a write to a reader that is quick does not suspend
        await response.write(b"]")
    except MicroqError as error:
        break_off(request, error)
    return response


async def at_once(messages: Sequence[Message]) -> AsyncIterator[Sequence[Message]]:
    """Yield what is all here."""
    yield messages


def break_off(request: web.Request, error: MicroqError) -> None:
    """Cut the connection of an answer that has begun and has no end, so that its reader notices."""
    log.warning("%s %s was broken off: %s", request.method, request.path, error)
    if request.transport is not None:
        request.transport.abort()


async def _pieces(chunks: AsyncIterator[Sequence[T]], show: Callable[[T], Any]) -> AsyncIterator[bytes]:
    """Yield the items of the array as JSON, in pieces of bounded size; without what stands between the pieces."""
    items: list[str] = []
    size = 0
    async for chunk in chunks:
        for each in chunk:
            item = _encode(show(each))
            items.append(item)
            size += len(item)
            if len(items) >= PIECE_ITEMS or size >= PIECE_CHARACTERS:
                yield ", ".join(items).encode()
                items, size = [], 0
    if items:
        yield ", ".join(items).encode()


async def in_order(chunks: AsyncIterator[Sequence[D]], part: Part = EVERYTHING) -> AsyncIterator[Sequence[D]]:
    """Yield what of chunks in no order belongs to a part, the oldest first.

    That holds for a limited part, and for up to `MOST_ORDERED` in all: of more, none is held back, and they keep the
    order in which they come.
    """
    if part.limit is not None:
        yield await _oldest(chunks, part)
        return
    first: list[D] | None = []
    async for chunk in chunks:
        found = [each for each in chunk if each.at > part.after]
        if first is None:
            yield found
            continue
        first += found
        if len(first) > MOST_ORDERED:
            yield first
            first = None
    if first is not None:
        yield sorted(first, key=_age)


async def _oldest(chunks: AsyncIterator[Sequence[D]], part: Part) -> Sequence[D]:
    """Return a limited part, holding little more than it at any time."""
    found: list[D] = []
    last, enough = math.inf, 2 * MOST_ORDERED
    async for chunk in chunks:
        found += [each for each in chunk if part.after < each.at <= last]
        if len(found) > enough:
            found = list(part.of_all(sorted(found, key=_age)))
            last, enough = found[-1].at, len(found) + MOST_ORDERED
    return part.of_all(sorted(found, key=_age))


def _age(dated: Dated) -> tuple[float, str]:
    return dated.at, dated.id
