"""Limits of a service: the number of connections, and the time for headers and bodies.

aiohttp limits the size of headers and bodies, and closes idle connections; but a client may send its headers and its
body as slowly as it likes, over as many connections as it likes. This module uses one private attribute of aiohttp:
`_waiter` is a future while a connection waits for the headers of its next request; a test checks that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import resource
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.client_exceptions import ClientConnectionResetError, ClientPayloadError
from aiohttp.http_exceptions import ContentEncodingError
from aiohttp.web_protocol import RequestPayloadError

from microq.config import Limits
from microq.log import quoted

log = logging.getLogger(__name__)

IDLE_SECONDS = 75.0
"""Seconds that a connection may be open between two requests; longer than microq's clients keep theirs."""

LINGER_SECONDS = 2.0
"""Seconds for which the rest of a body is read after the request was answered."""

BACKLOG = 1024
"""Connections that may wait to be accepted: in a larger burst the others would retry a second later."""

RETRY_AFTER = "1"

BUSY_SECONDS = 5.0
"""Seconds that a body, or a line of a batch, waits for room in the budget before it is answered 503."""

CODINGS = ("identity", "gzip", "deflate")
"""Content encodings of a body that are accepted."""

NO_CODING = f"the body's Content-Encoding is not supported; send it as it is, or as {' or '.join(CODINGS[1:])}"

_LOOKS = 4
"""How often connections are checked within one header timeout."""

_FILES = 4
"""Open files per connection: its socket, the connections of its request to other services, and a margin."""


class Budget:
    """Bounds the bytes of bodies and lines in a process's memory; a request that needs more than is left waits."""

    def __init__(self, limits: Limits) -> None:
        # The largest body fits if it is alone.
        self._most = self._left = max(limits.max_under_way, limits.max_body + 1)
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, amount: int, seconds: float = BUSY_SECONDS) -> int:
        """Take an amount, at most the whole budget, and return it; raises an HTTP error, 503, after `seconds`."""
        amount = min(amount, self._most)
        if not self._waiting and amount <= self._left:
            self._left -= amount
            return amount
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            async with asyncio.timeout(seconds):
                await turn
        except TimeoutError as error:
            self._give_up(amount, turn)
            raise web.HTTPServiceUnavailable(
                reason=f"{self._most} bytes are in progress already ([limits] max-under-way); send it again later"
            ) from error
        except asyncio.CancelledError:
            self._give_up(amount, turn)
            raise
        return amount

    @asynccontextmanager
    async def share(self, amount: int) -> AsyncIterator[None]:
        """Take an amount while the body runs; raises as `take` does."""
        taken = await self.take(amount)
        try:
            yield
        finally:
            self.give_back(taken)

    def _give_up(self, amount: int, turn: asyncio.Future[None]) -> None:
        if turn.done() and not turn.cancelled():
            self.give_back(amount)
            return
        with contextlib.suppress(ValueError):
            self._waiting.remove((amount, turn))
        self._serve()

    def give_back(self, amount: int) -> None:
        """Give back an amount that was taken."""
        self._left += amount
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._left:
            amount, turn = self._waiting[0]
            if not turn.done():
                self._left -= amount
                turn.set_result(None)
            self._waiting.popleft()


@asynccontextmanager
async def serving(
    app: web.Application, listener: socket.socket, limits: Limits, drain_seconds: float
) -> AsyncIterator[None]:
    """Serve an application on a bound socket; at the end, open requests may take `drain_seconds`."""
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
            # A socket accepted at this moment becomes a connection after three turns of the loop, and is then closed.
            for _ in range(3):
                await asyncio.sleep(0)
    finally:
        await runner.cleanup()


def allow_files(limits: Limits) -> None:
    """Raise this process's limit of open files to what its connections need, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.max_connections * _FILES
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # a system may have a limit that it does not report
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def body(request: web.Request, limits: Limits) -> bytes:
    """Return the whole body of a request. Raises an HTTP error: 408 if it is slow, 400 if it breaks off."""
    try:
        if request.content.is_eof():
            return await request.read()  # it has come completely, as in nearly all cases: no timer is needed
        async with asyncio.timeout(limits.read_timeout):
            return await request.read()
    except TimeoutError as error:
        raise _too_slow(limits) from error
    except _BROKEN as error:
        raise web.HTTPBadRequest(reason="the body was cut off, or is not encoded as its headers say") from error


async def pieces(request: web.Request, limits: Limits) -> AsyncIterator[bytes]:
    """Yield the pieces of a body as they come in. Raises as `body` does."""
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
        raise web.HTTPBadRequest(reason="the body was cut off, or is not encoded as its headers say") from error


_BROKEN = (RequestPayloadError, ClientPayloadError, web.PayloadAccessError, ConnectionError)
"""The errors of reading a body that is not sent as its headers say."""


def _too_slow(limits: Limits) -> web.HTTPRequestTimeout:
    return web.HTTPRequestTimeout(reason=f"nothing more came within {limits.read_timeout} s ([limits] read-timeout)")


class _Connection(web.RequestHandler):
    """A connection; it is refused if there are too many, and closed if its headers come too slowly."""

    __slots__ = ("_gate", "_heard", "_since")

    def __init__(self, server: web.Server, gate: _Gate) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's way to have no access log
        )
        self._gate = gate
        self._since: float | None = None
        self._heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection, unless there are too many."""
        if not self._gate.enter(self):
            crowded = _final_answer(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; try again later")
            cast("asyncio.Transport", transport).write(crowded)
            transport.close()
            return
        self._since = self._loop.time()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and note since when the headers are incomplete."""
        if self.transport is None:
            return
        super().data_received(data)
        if self._waiter is None or self._waiter.done():
            self._since = None
        elif self._since is None:
            self._since = self._loop.time()
        self._heard = True

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another connection."""
        self._gate.leave(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer invalid HTTP and internal errors with one line; the log has the traceback of an internal error."""
        if isinstance(exc, UnicodeEncodeError) and not _is_text(request.headers.get("Expect", "")):
            # aiohttp repeats an unknown Expect in its answer, which cannot contain it.
            status, message = HTTPStatus.EXPECTATION_FAILED, "its Expect is not UTF-8 text"
        headers = {}
        if isinstance(exc, ContentEncodingError):
            status, problem_text = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, NO_CODING
            headers["Accept-Encoding"] = ", ".join(CODINGS)
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            super().handle_error(request, status, exc, message)  # it logs
            problem_text = "an internal error of microq; the log of this service has more"
        else:
            problem = (message or "").partition("\n")[0].rstrip(": ")
            log.info("%d to invalid HTTP: %s", status, quoted(problem))
            problem_text = f"invalid HTTP: {problem}"
        answer = web.Response(
            text=_failure(problem_text), status=status, headers=headers, content_type="application/json"
        )
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **more: Any) -> None:
        """Log an internal error; a broken body after the answer, or a client that left, is not one.

        aiohttp itself drops an answer to a client that left, except the one to its Expect: 100-continue.
        """
        error = more.get("exc_info")
        left = isinstance(error, ClientConnectionResetError) and (self.transport is None or self.transport.is_closing())
        if not left and not isinstance(error, RequestPayloadError):
            super().log_exception(*args, **more)

    def end_if_slow(self, since: float) -> None:
        """Close the connection if its headers have been incomplete since before `since`."""
        if self._since is None or self._since > since or self.transport is None:
            return
        # A client that has sent nothing would take an answer as the answer to its next request.
        if self._heard:
            self.transport.write(_final_answer(HTTPStatus.REQUEST_TIMEOUT, "the headers did not come in time"))
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
        """Check all connections periodically: a timer for each request would cost time in each request."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._limits.header_timeout / _LOOKS)
            since = loop.time() - self._limits.header_timeout
            for connection in tuple(self._open):
                connection.end_if_slow(since)


def _is_text(header: str) -> bool:
    """Return whether a header is UTF-8; aiohttp keeps other bytes as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in header)


def _final_answer(status: HTTPStatus, message: str) -> bytes:
    """Return a complete answer for a connection that has no valid request."""
    content = _failure(message).encode()
    rows = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json; charset=utf-8",
        f"Content-Length: {len(content)}",
        *([f"Retry-After: {RETRY_AFTER}"] if status is HTTPStatus.SERVICE_UNAVAILABLE else []),
        "Connection: close",
    ]
    return "\r\n".join(rows).encode() + b"\r\n\r\n" + content


def _failure(message: str) -> str:
    return json.dumps({"status": "failure", "message": message}) + "\n"
