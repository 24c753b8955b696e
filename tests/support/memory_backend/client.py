"""A client of the nodes: it finds the primary, and keeps one connection to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from microq.errors import QueueIndeterminateError, QueueUnavailableError
from microq.settings import Address

LARGEST = 64 << 20
"""Bytes of a line, as a node takes it."""

FIND_SECONDS = 10.0
"""How long nodes that answer may take to have a primary."""

ANSWER_SECONDS = 10.0
"""How long a node may take to answer, beside what it is asked to wait."""

PAUSE = 0.03
"""Seconds between two looks for the primary."""


class Connection:
    """A connection to one node; requests are told apart by a number."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count()
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def to(cls, address: Address) -> Self:
        """Open one; raises `OSError`."""
        return cls(*await asyncio.open_connection(address.host, address.port, limit=LARGEST))

    @property
    def lost(self) -> bool:
        """Whether the node is gone."""
        return self._listening.done()

    async def ask(self, call: str, wait: float = 0.0, **facts: Any) -> Mapping[str, Any]:
        """Return the answer; raises `OSError` or `TimeoutError` if there is none."""
        if self.lost:
            raise ConnectionError("the node is gone")
        number = next(self._numbers)
        answer = self._open[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps({"id": number, "call": call, **facts}).encode() + b"\n")
        try:
            async with asyncio.timeout(ANSWER_SECONDS + wait):
                found: Mapping[str, Any] = await answer
                return found
        finally:
            self._open.pop(number, None)

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                said = json.loads(line)
                if (answer := self._open.get(said["id"])) and not answer.done():
                    answer.set_result(said)
        except (OSError, ValueError):
            pass  # the node is gone, perhaps in the middle of a line
        finally:
            for answer in self._open.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the node is gone"))

    async def close(self) -> None:
        """Close it."""
        self._writer.close()
        self._listening.cancel()
        await asyncio.wait([self._listening])


class Nodes:
    """The nodes of a cluster. Made by `connect`."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses
        self._connection: Connection | None = None
        self._finding = asyncio.Lock()

    async def call(self, call: str, wait: float = 0.0, **facts: Any) -> Mapping[str, Any]:
        """Have the primary do something that may `wait` so many seconds.

        Raises `QueueUnavailableError` if nothing was done, `QueueIndeterminateError` if that is not known.
        """
        while True:
            primary = await self._primary()
            try:
                answer = await primary.ask(call, wait, **facts)
            except (OSError, TimeoutError) as error:
                raise QueueIndeterminateError(f"the primary did not answer: {error or 'it took too long'}") from error
            if "moved" not in answer:
                return answer
            await self.close()

    async def ready(self) -> bool:
        """Return whether there is a primary."""
        return await self.owner() is not None

    async def owner(self) -> str | None:
        """Return where the primary is, if anybody knows it."""
        for address in self._addresses:
            with contextlib.suppress(OSError, TimeoutError):
                if found := await self._where(address):
                    return found
        return None

    async def _where(self, address: Address) -> str | None:
        connection = await Connection.to(address)
        try:
            found: str | None = (await connection.ask("where"))["primary"]
            return found
        finally:
            await connection.close()

    async def _primary(self) -> Connection:
        async with self._finding:
            if self._connection and not self._connection.lost:
                return self._connection
            await self.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIND_SECONDS):
                    while found := await self.owner():
                        with contextlib.suppress(OSError):
                            self._connection = await Connection.to(Address.parse(found))
                            return self._connection
                        await asyncio.sleep(PAUSE)
            raise QueueUnavailableError("no node of the queue can be reached")

    async def close(self) -> None:
        """Close the connection; the next call opens another one."""
        connection, self._connection = self._connection, None
        if connection:
            await connection.close()


@asynccontextmanager
async def connect(addresses: Sequence[Address]) -> AsyncIterator[Nodes]:
    """Yield the nodes; connections are opened as they are needed, and closed at the end."""
    nodes = Nodes(addresses)
    try:
        yield nodes
    finally:
        await nodes.close()
