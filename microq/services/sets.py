"""What the facade shows a reader: the sets of one logging-service and one messages-service, passed on as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from aiohttp import web

from microq.client import Replicas, ReplicasAwayError, Stream
from microq.services.listing import Part, write


class Sets:
    """The two groups of services that show messages."""

    def __init__(self, logging: Replicas, messages: Replicas) -> None:
        self._logging, self._messages = logging, messages

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Answer with both sets, or the part of them that is asked for, and with where they came from.

        The answer of a service is never decoded and hardly held: one that breaks breaks the connection.
        """
        query = Part.of(request).to_query()
        (logs, absent), (messages, missing) = await asyncio.gather(
            _open(self._logging, "/log", query), _open(self._messages, "/messages", query)
        )
        try:
            return await write(request, _together(logs, messages, sorted({*absent, *missing})))
        finally:
            for stream in (logs, messages):
                if stream:
                    stream.close()


async def _open(group: Replicas, path: str, query: dict[str, str]) -> tuple[Stream | None, list[str]]:
    """Return what a replica of the group shows, or, if none does, who is away."""
    try:
        return await group.open(path, query), []
    except ReplicasAwayError as error:
        return None, list(error.reasons)


async def _together(logs: Stream | None, messages: Stream | None, away: list[str]) -> AsyncIterator[bytes]:
    sources = {
        "logging-service": str(logs.address) if logs else "",
        "messages-service": str(messages.address) if messages else "",
        "away": away,
    }
    end = b", " + json.dumps(sources)[1:].encode()
    if all(stream is None or stream.whole for stream in (logs, messages)):
        # Most are short: one write, and one packet.
        yield b'{"logs": %b, "message": %b%b' % (_first(logs), _first(messages), end)
        return
    yield b'{"logs": '
    async for piece in _pieces(logs):
        yield piece
    yield b', "message": '
    async for piece in _pieces(messages):
        yield piece
    yield end


def _first(stream: Stream | None) -> bytes:
    return stream.first if stream else b"[]"


async def _pieces(stream: Stream | None) -> AsyncIterator[bytes]:
    if stream is None:
        yield b"[]"
        return
    async for piece in stream.pieces():
        yield piece
