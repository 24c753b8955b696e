"""The two maps in the cluster: `log`, what the logging-services keep, and `stored`, what the consumers took.

One entry per message, under its id. Both are written with put-if-absent, so that a second delivery or a second
POST of the same id changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from microq import hz
from microq.config import Config
from microq.errors import MessageError, StoreAwayError, StoreUncertainError
from microq.message import Message

log = logging.getLogger(__name__)

T = TypeVar("T")

LOG_MAP = "messages-map"
STORED_MAP = "messages-stored"
MAPS = (LOG_MAP, STORED_MAP)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the map held for an id after `add`: `message` is the entry, `new` whether this call wrote it."""

    message: Message
    new: bool


class MessageMap:
    """One of the maps, written to by the instance `name`."""

    def __init__(self, cluster: hz.Cluster, proxy: Any, name: str) -> None:
        self._cluster, self._map, self._name = cluster, proxy, name

    @property
    def connected(self) -> bool:
        """Whether there is a member to write to now."""
        return self._cluster.connected

    async def add(self, messages: Sequence[Message]) -> list[Kept]:
        """Write each message unless its id is there; return what the map holds, in order.

        Raises `StoreAwayError`: none was written, or `StoreUncertainError`: each may be or not.
        """
        results = await asyncio.gather(*map(self._add, messages), return_exceptions=True)
        kept = [result for result in results if isinstance(result, Kept)]
        if len(kept) == len(results):
            return kept
        failures = [result for result in results if isinstance(result, BaseException)]
        if all(isinstance(failure, StoreAwayError) for failure in failures) and not kept:
            raise failures[0]
        # Some may be written: of the whole batch nothing is certain.
        unexpected = [failure for failure in failures if not isinstance(failure, StoreAwayError | StoreUncertainError)]
        raise unexpected[0] if unexpected else StoreUncertainError(str(failures[0])) from failures[0]

    async def _add(self, message: Message) -> Kept:
        mine = replace(message, by=self._name, at=time.time())
        before = await self._call(self._map.put_if_absent(mine.id, mine.to_json()))
        if before is None:
            return Kept(mine, new=True)
        try:
            return Kept(Message.from_json(before), new=False)
        except MessageError:
            log.warning("the map holds what is no message under the id %s; it is overwritten", message.id)
            await self._call(self._map.set(mine.id, mine.to_json()))
            return Kept(mine, new=True)

    async def remove(self, message_id: str) -> bool:
        """Remove an entry; return whether there was one. Raises as `add` does."""
        return await self._call(self._map.remove(message_id)) is not None

    async def get(self, message_id: str) -> Message | None:
        """Return the message under an id, if there is one. Raises as `add` does."""
        raw = await self._call(self._map.get(message_id))
        return None if raw is None else _or_none(raw)

    async def all(self) -> list[Message]:
        """Return every message, oldest first. Entries that are none of ours are left out, with a warning."""
        values = await self._call(self._map.values())
        messages = [message for message in map(_or_none, values) if message]
        return sorted(messages, key=lambda message: (message.at, message.id))

    async def size(self) -> int:
        """Return the number of entries. Raises as `add` does."""
        return int(await self._call(self._map.size()))

    async def _call(self, request: Awaitable[T]) -> T:
        try:
            return await self._cluster.call(request)
        except hz.AwayError as error:
            raise StoreAwayError("no member of the map's cluster can be reached") from error
        except hz.UncertainError as error:
            raise StoreUncertainError(f"the map did not confirm: {error}") from error


def _or_none(raw: Any) -> Message | None:
    try:
        return Message.from_json(raw)
    except MessageError as error:
        log.warning("left out an entry of the map: %s", error)
        return None


MapOpener = Callable[[Config, str, str], AbstractAsyncContextManager[MessageMap]]
"""What a service opens its map with; a test gives it another."""


@asynccontextmanager
async def open_map(config: Config, name: str, map_name: str) -> AsyncIterator[MessageMap]:
    """Connect and open the map `map_name` for the instance `name`."""
    async with hz.connect(config, name) as cluster:
        yield MessageMap(cluster, await cluster.map(map_name), name)
