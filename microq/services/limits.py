"""What one client may take of a service: connections, and time for its headers and its body.

aiohttp limits the size of headers and bodies, and closes what is idle; it lets a client send its headers and its body
as slowly as it likes, over as many connections as it likes. What is used of its inside, `_waiter`, is a future while a
connection waits for the headers of its next request; a test says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.client_exceptions import ClientConnectionResetError, ClientPayloadError
from aiohttp.web_protocol import RequestPayloadError

from microq.config import Limits
from microq.log import quoted

log = logging.getLogger(__name__)

IDLE_SECONDS = 75.0
"""How long a connection may be open between two requests; longer than our clients keep theirs."""

LINGER_SECONDS = 2.0
"""How long a client is listened to that still sends the body of a request that is answered already."""

BACKLOG = 1024
"""Connections that may wait to be taken: those of a burst beyond it would try again a second later."""

RETRY_AFTER = "1"

_LOOKS = 4
"""Looks at the connections in one header timeout."""

_FILES = 4
"""Open files per connection: itself, what its request opens to other services, and a margin."""


@asynccontextmanager
async def serving(
    app: web.Application, listener: socket.socket, limits: Limits, drain_seconds: float
) -> AsyncIterator[None]:
    """Serve an application on a bound socket; at the end, requests under way may take `drain_seconds`."""
    runner = web.AppRunner(app, shutdown_timeout=drain_seconds)
    try:
        await runner.setup()
        assert runner.server is not None  # noqa: S101 - there is one after the setup
        gate = _Gate(runner.server, limits)
        server = await asyncio.get_running_loop().create_server(gate.connection, sock=listener, backlog=BACKLOG)
        watching = asyncio.create_task(gate.watch())
        try:
            yield
        finally:
            watching.cancel()
            server.close()
            # What was accepted at this very moment takes three turns to become a connection, which is then closed.
            for _ in range(3):
                await asyncio.sleep(0)
    finally:
        await runner.cleanup()


def allow_files(limits: Limits) -> None:
    """Let this process open as many files as its connections need, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.max_connections * _FILES
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # a system may have a limit that it does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def body(request: web.Request, limits: Limits) -> bytes:
    """Return the whole body of a request. Raises an HTTP error: 408 if it is slow, 400 if it breaks off."""
    try:
        if request.content.is_eof():
            return await request.read()  # it is all here, as nearly always: no need to pay for a timer
        async with asyncio.timeout(limits.read_timeout):
            return await request.read()
    except TimeoutError as error:
        raise _too_slow(limits) from error
    except _BROKEN as error:
        raise web.HTTPBadRequest(reason="the body is broken off, or not encoded as its headers say") from error


async def pieces(request: web.Request, limits: Limits) -> AsyncIterator[bytes]:
    """Yield a body as it comes in, for as long as it goes on. Raises as `body` does."""
    try:
        while True:
            async with asyncio.timeout(limits.read_timeout):
                piece = await request.content.readany()
            if not piece:
                return
            yield piece
    except TimeoutError as error:
        raise _too_slow(limits) from error
    except _BROKEN as error:
        raise web.HTTPBadRequest(reason="the body is broken off, or not encoded as its headers say") from error


_BROKEN = (RequestPayloadError, ClientPayloadError, web.PayloadAccessError, ConnectionError)
"""What reading a body raises if it is not sent as announced."""


def _too_slow(limits: Limits) -> web.HTTPRequestTimeout:
    return web.HTTPRequestTimeout(reason=f"nothing more came in {limits.read_timeout} s ([limits] read-timeout)")


class _Connection(web.RequestHandler):
    """A connection that is refused beyond the greatest number, and ended if its headers are slow to come."""

    __slots__ = ("_gate", "_heard", "_since")

    def __init__(self, server: web.Server, gate: _Gate) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            access_log=None,  # type: ignore[arg-type]  # how aiohttp is told that nobody wants one
        )
        self._gate = gate
        self._since: float | None = None
        self._heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are enough of them."""
        if not self._gate.enter(self):
            crowded = _last_words(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; try again later")
            cast("asyncio.Transport", transport).write(crowded)
            transport.close()
            return
        self._since = self._loop.time()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take what came, and note since when headers are incomplete."""
        if self.transport is None:
            return
        super().data_received(data)
        if self._waiter is None or self._waiter.done():
            self._since = None
        elif self._since is None:
            self._since = self._loop.time()
        self._heard = True

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another one."""
        self._gate.leave(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP request in one line; anything else is an error of ours, with its traceback."""
        if isinstance(exc, UnicodeEncodeError) and not _is_text(request.headers.get("Expect", "")):
            # To an Expect that it does not know aiohttp answers with what it was, which no answer can hold.
            status, message = HTTPStatus.EXPECTATION_FAILED, "its Expect is not UTF-8 text"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        problem = (message or "").partition("\n")[0].rstrip(": ")
        log.info("%d to what is no HTTP request: %s", status, quoted(problem))
        answer = web.Response(text=_told(f"no HTTP request: {problem}"), status=status, content_type="application/json")
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **more: Any) -> None:
        """Log an error of ours. None is a body that cannot be read to its end, after the answer, or a client that left.

        An answer to one that left is given up by aiohttp itself, but for the one to its Expect: 100-continue.
        """
        error = more.get("exc_info")
        left = isinstance(error, ClientConnectionResetError) and (self.transport is None or self.transport.is_closing())
        if not left and not isinstance(error, RequestPayloadError):
            super().log_exception(*args, **more)

    def end_if_slow(self, since: float) -> None:
        """End the connection if its headers are incomplete since before the time `since`."""
        if self._since is None or self._since > since or self.transport is None:
            return
        # To one that has said nothing, an answer would be the answer to its next request.
        if self._heard:
            self.transport.write(_last_words(HTTPStatus.REQUEST_TIMEOUT, "the headers did not come in time"))
        self.force_close()


class _Gate:
    """All connections of one service."""

    def __init__(self, server: web.Server, limits: Limits) -> None:
        self._server, self._limits = server, limits
        self._open: set[_Connection] = set()

    def connection(self) -> _Connection:
        return _Connection(self._server, self)

    def enter(self, connection: _Connection) -> bool:
        if len(self._open) >= self._limits.max_connections:
            return False
        self._open.add(connection)
        return True

    def leave(self, connection: _Connection) -> None:
        self._open.discard(connection)

    async def watch(self) -> None:
        """Look at all connections from time to time: a timer for each request would cost each request."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._limits.header_timeout / _LOOKS)
            since = loop.time() - self._limits.header_timeout
            for connection in tuple(self._open):
                connection.end_if_slow(since)


def _is_text(header: str) -> bool:
    """Return whether a header is UTF-8: what is not, aiohttp keeps as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in header)


def _last_words(status: HTTPStatus, message: str) -> bytes:
    """Return a whole answer for a connection on which no request can be answered."""
    content = _told(message).encode()
    rows = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json; charset=utf-8",
        f"Content-Length: {len(content)}",
        *([f"Retry-After: {RETRY_AFTER}"] if status is HTTPStatus.SERVICE_UNAVAILABLE else []),
        "Connection: close",
    ]
    return "\r\n".join(rows).encode() + b"\r\n\r\n" + content


def _told(message: str) -> str:
    return json.dumps({"status": "failure", "message": message})
