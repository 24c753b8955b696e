"""One kept connection to a facade, as cheap as a client in Python can be.

A load generator shares the machine with what it measures: aiohttp's client takes five times as long for a POST, and
would be the bottleneck itself. This one knows no more of HTTP than what microq's services answer to a POST.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

from microq.config import Address
from microq.errors import NotRunningError

OK = 200


class Answer:
    """An answer as far as it is needed: its status, and its head for those who want to know more."""

    __slots__ = ("head", "status")

    def __init__(self, status: int, head: bytes) -> None:
        self.status, self.head = status, head

    @property
    def retry_after(self) -> float:
        """The pause in seconds that was asked for."""
        return float(_field(self.head, b"retry-after:") or 0)


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._got = b""
        self._answer: asyncio.Future[Answer] | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        self._transport = cast("asyncio.WriteTransport", transport)  # TCP has no other

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell who waits."""
        self._transport = None
        self._fail("the connection was closed")

    def data_received(self, data: bytes) -> None:
        """Tell who waits as soon as the answer is whole."""
        self._got = self._got + data if self._got else data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._got[:end].lower()
        length = _field(head, b"content-length:")
        if length is None:
            self._fail("an answer without a length")
        elif len(self._got) >= end + 4 + int(length):
            self._got = b""
            if self._answer and not self._answer.done():
                self._answer.set_result(Answer(int(head[9:12]), head))

    def _fail(self, why: str) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionError(why))

    def post(self, path: str, message_id: str, body: bytes) -> asyncio.Future[Answer]:
        """Send a message; what is returned fails with `ConnectionError` if no answer can come any more."""
        if self._transport is None:
            raise ConnectionError("the connection is closed")
        self._answer = self._loop.create_future()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: facade\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {message_id}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        return self._answer

    def close(self) -> None:
        """Close it at once."""
        if self._transport:
            self._transport.abort()


def _field(head: bytes, name: bytes) -> bytes | None:
    """Return the value of a header in a head in lower case."""
    begin = head.find(b"\r\n" + name)
    if begin < 0:
        return None
    begin += 2 + len(name)
    end = head.find(b"\r\n", begin)
    return head[begin : end if end >= 0 else None].strip()


@asynccontextmanager
async def open_connections(address: Address, count: int) -> AsyncIterator[list[Connection]]:
    """Open so many connections; raises `NotRunningError` if nobody listens."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(count):
            try:
                _, connection = await loop.create_connection(Connection, address.host, address.port)
            except OSError as error:
                raise NotRunningError(f"nothing listens at {address}") from error
            stack.callback(connection.close)
            opened.append(connection)
        yield opened
