"""Maps in the cluster, of records as one line of JSON each: read whole by pages, and written so that nothing is undone.

Messages are written with put-if-absent, so that a second delivery or a second POST of the same id changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, Self, TypeVar

from microq import hz
from microq.errors import MessageError, StoreAwayError, StoreUncertainError
from microq.hz_scan import START, Page, Place
from microq.message import Message

log = logging.getLogger(__name__)

T = TypeVar("T")

PAGE = 200
"""Entries read at once: the event loop decodes them in some two milliseconds."""


class Record(Protocol):
    """What a map keeps under an id, as one line of JSON text."""

    @property
    def id(self) -> str:
        """The key."""
        ...

    @property
    def at(self) -> float:
        """When it was written, in seconds since the epoch."""
        ...

    def to_json(self) -> str:
        """Return it as text."""
        ...

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read it back; raises `MessageError`."""
        ...


R = TypeVar("R", bound=Record)


class RecordMap(Generic[R]):
    """A map of records of one kind.

    Every method raises `StoreAwayError` if nothing was asked, and `StoreUncertainError` if the answer did not come.
    """

    def __init__(self, cluster: hz.Cluster, proxy: Any, kind: type[R]) -> None:
        self._cluster, self._map, self._kind = cluster, proxy, kind

    @property
    def connected(self) -> bool:
        """Whether there is a member to ask now."""
        return self._cluster.connected

    async def write(self, record: R) -> None:
        """Write a record over what its id has."""
        await self._call(self._map.set(record.id, record.to_json()))

    async def remove(self, record_id: str) -> bool:
        """Remove an entry; return whether there was one."""
        return await self._call(self._map.remove(record_id)) is not None

    async def get(self, record_id: str) -> R | None:
        """Return the record under an id, if there is one."""
        raw = await self._call(self._map.get(record_id))
        return None if raw is None else self._or_none(raw)

    async def some(self, ids: Sequence[str]) -> dict[str, R]:
        """Return the records under those of the ids that have one."""
        found = await self._call(self._map.get_all(list(ids)))
        return {record.id: record for record in map(self._or_none, found.values()) if record}

    async def all(self) -> list[R]:
        """Return every record, oldest first. For what is to be held anyhow, or is known to be little."""
        records = [record async for page in self.scan() for record in page]
        return sorted(records, key=lambda record: (record.at, record.id))

    async def scan(self) -> AsyncIterator[list[R]]:
        """Yield every record once, in pages and in no order; what is written or removed meanwhile may come or not.

        Entries that are none of ours are left out, with a warning.
        """
        if await self.size() <= PAGE:
            pages = _one(await self._call(self._map.values()))
        else:
            pages = self._pages(self._map.page_of_values, range(self._map.partitions()))
        async for page in pages:
            yield [record for record in map(self._or_none, page) if record]

    async def ids_not_in(self, other: RecordMap[Any]) -> AsyncIterator[list[str]]:
        """Yield, in pages, the ids that this map has and the other one had not when it was asked a little later."""
        # An id is in the same partition of every map: no more than the ids of one are held at a time.
        for partition in range(self._map.partitions()):
            ids: set[Any] = set()
            async for page in self._pages(self._map.page_of_keys, [partition]):
                ids.update(page)
            if ids:
                async for page in other._pages(other._map.page_of_keys, [partition]):
                    ids.difference_update(page)
            left = [each for each in ids if isinstance(each, str)]
            for begin in range(0, len(left), PAGE):
                yield left[begin : begin + PAGE]

    async def _pages(
        self, read: Callable[[int, Place, int], Awaitable[Page]], partitions: Sequence[int]
    ) -> AsyncIterator[Sequence[Any]]:
        for partition in partitions:
            place: Place | None = START
            while place is not None:
                page = await self._call(read(partition, place, PAGE))
                place = page.place
                yield page.items

    async def size(self) -> int:
        """Return the number of entries."""
        return int(await self._call(self._map.size()))

    def _or_none(self, raw: Any) -> R | None:
        try:
            return self._kind.from_json(raw)
        except MessageError as error:
            log.warning("left out an entry of the map: %s", error)
            return None

    async def _call(self, request: Awaitable[T]) -> T:
        try:
            return await self._cluster.call(request)
        except hz.AwayError as error:
            raise StoreAwayError("no member of the map's cluster can be reached") from error
        except hz.UncertainError as error:
            raise StoreUncertainError(f"the map did not confirm: {error}") from error


async def _one(page: Sequence[Any]) -> AsyncIterator[Sequence[Any]]:
    yield page


@dataclass(frozen=True, slots=True)
class Kept:
    """What the map held for an id after `add`: `message` is the entry, `new` whether this call wrote it."""

    message: Message
    new: bool


class MessageMap(RecordMap[Message]):
    """A map of messages, each written once, by the instance `name`."""

    def __init__(self, cluster: hz.Cluster, proxy: Any, name: str) -> None:
        super().__init__(cluster, proxy, Message)
        self._name = name

    async def add(self, messages: Sequence[Message]) -> list[Kept]:
        """Write each message unless its id is there; return what the map holds, in order.

        Raises `StoreAwayError`: none was written, or `StoreUncertainError`: each may be or not.
        """
        mine = [replace(message, by=self._name, at=time.time()) for message in messages]
        before = await self._call(self._put_all_if_absent(mine))
        return [await self._kept(message, found) for message, found in zip(mine, before, strict=True)]

    async def _put_all_if_absent(self, messages: Sequence[Message]) -> Sequence[Any]:
        """Put side by side, under the one deadline of who calls; if one fails nothing is certain of the whole batch."""
        puts = (self._map.put_if_absent(message.id, message.to_json()) for message in messages)
        results = await asyncio.gather(*puts, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    async def _kept(self, mine: Message, before: Any) -> Kept:
        """Return what the map has where `mine` was put if absent and `before` was found."""
        if before is None:
            return Kept(mine, new=True)
        try:
            return Kept(Message.from_json(before), new=False)
        except MessageError:
            log.warning("the map holds what is no message under the id %s; it is overwritten", mine.id)
            await self._call(self._map.set(mine.id, mine.to_json()))
            return Kept(mine, new=True)


class LogMap(MessageMap):
    """The log. An entry belongs to whoever asked for it last: only that one can take it back.

    Sends of one id may be carried out side by side, by several workers of the facade. One of them may write the entry
    and be refused by the queue, while another finds the entry there and is accepted.
    """

    async def add(self, messages: Sequence[Message]) -> list[Kept]:
        """Write each message as `MessageMap.add` does; what is there with the same text gets the time of this call."""
        kept = await super().add(messages)
        if all(each.new for each in kept):
            return kept
        renewals = map(self._renewed, messages, kept)
        results = await asyncio.gather(*renewals, return_exceptions=True)
        for failure in results:
            if isinstance(failure, StoreAwayError):
                raise StoreUncertainError(str(failure)) from failure  # the others are written, or were before
            if isinstance(failure, BaseException):
                raise failure
        return [result for result in results if isinstance(result, Kept)]

    async def renew(self, message_id: str) -> Message | None:
        """Give an entry the time of now, so that nobody who had it before can take it back; None if there is none."""
        while (raw := await self._call(self._map.get(message_id))) is not None:
            found = self._or_none(raw)
            if found is None:
                return None
            mine = replace(found, at=time.time())
            if await self._call(self._map.replace_if_same(message_id, raw, mine.to_json())):
                return mine
        return None

    async def take_back(self, message_id: str, at: float) -> bool:
        """Remove the entry of an id if it was written at this time; return whether it was."""
        raw = await self._call(self._map.get(message_id))
        found = None if raw is None else self._or_none(raw)
        if found is None or found.at != at:
            return False
        return bool(await self._call(self._map.remove_if_same(message_id, raw)))

    async def _renewed(self, message: Message, kept: Kept) -> Kept:
        while not kept.new and kept.message.text == message.text:
            if mine := await self.renew(message.id):
                return Kept(mine, new=False)
            (kept,) = await super().add([message])  # it was taken back meanwhile
        return kept
