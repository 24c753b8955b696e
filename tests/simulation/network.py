"""A model of HTTP between processes, in the form of aiohttp's session: requests and replies are slow, lost, or late."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from simulation.faults import Faults
from simulation.loop import Loop, Process, current

HANG_SECONDS = 60.0
"""Seconds after which a request without an answer fails, if its sender has no deadline."""

Answered = tuple[int, dict[str, Any]]

Handler = Callable[[str, str, dict[str, str], Any], Awaitable[Answered]]
"""Answers a request: method, path, query and decoded body -> status and body."""


class Network:
    """Who listens where; `tell` gets a line for each event."""

    def __init__(self, loop: Loop, faults: Faults, tell: Callable[..., None]) -> None:
        self.loop, self.faults, self.tell = loop, faults, tell
        self._servers: dict[str, tuple[Process, Handler]] = {}
        self._open: dict[asyncio.Future[Answered], Process] = {}
        """The requests that a process has and has not answered."""
        self.late = 0
        """Requests that come although they have failed."""

    def listen(self, address: str, process: Process, handler: Handler) -> None:
        """Give the requests to an address to a process, until it ends."""
        self._servers[address] = process, handler
        process.at_end.append(lambda: self._close(address, process))

    def _close(self, address: str, process: Process) -> None:
        if self._servers.get(address, (None,))[0] is process:
            del self._servers[address]
        for answer in [each for each, its in self._open.items() if its is process]:
            self.loop.in_world(self.faults.delay(), self._fail, answer)

    def _fail(self, answer: asyncio.Future[Answered]) -> None:
        self._open.pop(answer, None)
        if not answer.done():
            answer.set_exception(aiohttp.ServerDisconnectedError())

    async def request(self, method: str, url: str, body: Any) -> Answered:
        """Send a request, and return the status and the body of the answer. Raises the errors of aiohttp."""
        if not current().alive:
            raise asyncio.CancelledError
        parts = urlsplit(url)
        answer: asyncio.Future[Answered] = self.loop.create_future()
        faults, delay = self.faults, self.faults.delay()
        send = (parts.netloc, method, parts.path, dict(parse_qsl(parts.query)), body, answer)
        if parts.netloc not in self._servers:
            self.loop.in_world(delay, self._refuse, parts.hostname, parts.port, answer)
        elif faults.happens("lose HTTP request"):
            self.tell("HTTP request lost", current().name, method, parts.path)
            self._lose(answer, delay)
        elif faults.happens("deliver HTTP late"):
            self.tell("HTTP request late", current().name, method, parts.path)
            self._lose(answer, delay)
            self.late += 1
            self.loop.in_world(faults.uniform(0.1, 10.0), self._deliver_late, send)
        else:
            self.loop.in_world(delay, self._deliver, *send)
        return await answer

    def _refuse(self, host: str, port: int, answer: asyncio.Future[Answered]) -> None:
        if not answer.done():
            key = ConnectionKey(host, port, False, True, None, None, None)  # noqa: FBT003 - aiohttp's own order
            answer.set_exception(aiohttp.ClientConnectorError(key, ConnectionRefusedError(111, "refused")))

    def _lose(self, answer: asyncio.Future[Answered], delay: float) -> None:
        """Let a request fail: soon, if the connection breaks, or never."""
        self.loop.in_world(delay if self.faults.chance(0.5) else HANG_SECONDS, self._fail, answer)

    def _deliver_late(self, send: tuple[str, str, str, dict[str, str], Any, asyncio.Future[Answered]]) -> None:
        self.late -= 1
        self._deliver(*send)

    def _deliver(
        self,
        address: str,
        method: str,
        path: str,
        query: dict[str, str],
        body: Any,
        answer: asyncio.Future[Answered],
    ) -> None:
        if address not in self._servers:
            return self._fail(answer)
        process, handler = self._servers[address]
        self._open[answer] = process
        process.spawn(self._handle(lambda: handler(method, path, query, body), answer))
        return None

    async def _handle(self, handle: Callable[[], Awaitable[Answered]], answer: asyncio.Future[Answered]) -> None:
        found = await handle()
        self._open.pop(answer, None)
        delay = self.faults.delay()
        if self.faults.happens("lose HTTP reply"):
            self.tell("HTTP reply lost", current().name, str(found[0]))
            self._lose(answer, delay)
        else:
            self.loop.in_world(delay, self._answer, answer, found)

    def _answer(self, answer: asyncio.Future[Answered], found: Answered) -> None:
        if not answer.done():
            answer.set_result(found)


class Response:
    """The answer to a request, as far as the services read it."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status, self._body = status, body

    async def json(self, *, content_type: str | None = None) -> dict[str, Any]:
        del content_type
        return self._body


class Exchange:
    """A request under way: `async with` gives its answer. `seconds` is the longest pause of the answer."""

    def __init__(self, network: Network, method: str, url: str, body: Any, seconds: float | None) -> None:
        self._request = network.request(method, url, body)
        self._seconds = seconds

    async def __aenter__(self) -> Response:
        async with asyncio.timeout(self._seconds):
            return Response(*await self._request)

    async def __aexit__(self, *_error: object) -> None:
        """Nothing is left open."""


class Session:
    """What the services use of `aiohttp.ClientSession`."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def request(self, method: str, url: str, **options: Any) -> Exchange:
        data, timeout = options.get("data"), options.get("timeout")
        body = options.get("json") if data is None else json.loads(data.read())
        return Exchange(self._network, method, url, body, timeout.sock_read if timeout else None)

    def get(self, url: str, **options: Any) -> Exchange:
        return self.request("GET", url, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Nothing is left open."""
