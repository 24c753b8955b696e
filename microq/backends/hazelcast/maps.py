"""Maps in the cluster: each value is a record as one line of JSON. A map is read in pages.

Messages are written with put-if-absent, so a second delivery or a second POST of the same id changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from microq.backends.hazelcast import client as hz
from microq.backends.hazelcast.client import START, Page, Place
from microq.clock import REAL, Clock
from microq.errors import MessageError, StoreIndeterminateError, StoreUnavailableError
from microq.message import Message, Record

log = logging.getLogger(__name__)

T = TypeVar("T")

PAGE = 200
"""The largest number of entries of a page: the event loop decodes them in about two milliseconds."""

FIRST = 16
"""The number of entries of a page while their size is unknown."""

PAGE_BYTES = 4 << 20
"""Bytes of a page, or of one write, estimated from the size of the entries of the page before."""


R = TypeVar("R", bound=Record)


class RecordMap(Generic[R]):
    """A map of records of one kind.

    Every method raises `StoreUnavailableError` if nothing was sent, and `StoreIndeterminateError` if no answer came.
    """

    def __init__(self, cluster: hz.Cluster, proxy: Any, kind: type[R]) -> None:
        self._cluster, self._map, self._kind = cluster, proxy, kind
        self._usual = 0
        """The size of an entry of the last page in bytes; 0 before the first page."""

    @property
    def _page(self) -> int:
        """The number of entries of the next page."""
        return max(1, min(PAGE, PAGE_BYTES // self._usual)) if self._usual else FIRST

    def _measure(self, items: Sequence[Any]) -> None:
        if sizes := [len(item) for item in items if isinstance(item, str)]:
            self._usual = max(1, sum(sizes) // len(sizes))

    @property
    def connected(self) -> bool:
        """Whether a member can be reached now."""
        return self._cluster.connected

    async def write(self, record: R) -> None:
        """Write a record, and replace the record of the same id."""
        await self._call(self._map.set(record.id, record.to_json()))

    async def remove(self, record_id: str) -> bool:
        """Remove an entry; return whether there was one."""
        return await self._call(self._map.remove(record_id)) is not None

    async def get(self, record_id: str) -> R | None:
        """Return the record under an id, if there is one."""
        raw = await self._call(self._map.get(record_id))
        return None if raw is None else self._or_none(raw)

    async def swap(self, old: R | None, new: R) -> bool:
        """Replace `old` (None: no record) by `new` if the map has `old`; return whether it had."""
        if old is None:
            return await self._call(self._map.put_if_absent(new.id, new.to_json())) is None
        return bool(await self._call(self._map.replace_if_same(new.id, old.to_json(), new.to_json())))

    async def remove_if_same(self, record: R) -> bool:
        """Remove a record if the map has exactly it; return whether it had."""
        return bool(await self._call(self._map.remove_if_same(record.id, record.to_json())))

    async def swap_all(self, pairs: Sequence[tuple[R, R]]) -> None:
        """Replace, in each pair (old, new), the old record by the new one if the map still has the old one."""
        swaps = (self._map.replace_if_same(new.id, old.to_json(), new.to_json()) for old, new in pairs)
        await self._call(_all(swaps))

    async def some(self, ids: Sequence[str]) -> dict[str, R]:
        """Return the records of those ids that have one."""
        found = await self._call(self._map.get_all(list(ids)))
        return {record.id: record for record in map(self._or_none, found.values()) if record}

    async def all(self) -> list[R]:
        """Return every record, oldest first. Use it only for maps that fit into memory."""
        records = [record async for page in self.scan() for record in page]
        return sorted(records, key=lambda record: (record.at, record.id))

    async def scan(self) -> AsyncIterator[list[R]]:
        """Yield every record once, in pages, in no order; one that is written or removed meanwhile may or may not come.

        Entries that are not records of microq are left out, with a warning.
        """
        if await self.size() <= self._page:
            pages = _one(await self._call(self._map.values()))
        else:
            pages = self._pages(self._map.page_of_values, range(self._map.partitions()))
        async for page in pages:
            self._measure(page)
            yield [record for record in map(self._or_none, page) if record]

    async def ids_not_in(self, other: RecordMap[Any]) -> AsyncIterator[list[str]]:
        """Yield, in pages, the ids of this map that the other map did not have when it was asked a little later."""
        # An id is in the same partition of every map: only the ids of one partition are in memory at a time.
        for partition in range(self._map.partitions()):
            ids: set[Any] = set()
            async for page in self._pages(self._map.page_of_keys, [partition], PAGE):
                ids.update(page)
            if ids:
                async for page in other._pages(other._map.page_of_keys, [partition], PAGE):
                    ids.difference_update(page)
            left = [each for each in ids if isinstance(each, str)]
            for begin in range(0, len(left), PAGE):
                yield left[begin : begin + PAGE]

    async def _pages(
        self, read: Callable[[int, Place, int], Awaitable[Page]], partitions: Sequence[int], most: int = 0
    ) -> AsyncIterator[Sequence[Any]]:
        """Yield pages of `most` items; 0: of as many as the size of earlier items allows."""
        for partition in partitions:
            place: Place | None = START
            while place is not None:
                page = await self._call(read(partition, place, most or self._page))
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
        except hz.UnavailableError as error:
            raise StoreUnavailableError("no member of the map's cluster can be reached") from error
        except hz.IndeterminateError as error:
            raise StoreIndeterminateError(f"the map did not confirm: {error}") from error


async def _one(page: Sequence[Any]) -> AsyncIterator[Sequence[Any]]:
    yield page


async def _all(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Make calls concurrently, and wait for all of them even if one fails: none is left running."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast("list[T]", results)


def _light(entries: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Yield entries in groups of at most `PAGE_BYTES`; a larger entry is a group of its own."""
    group: list[tuple[str, str]] = []
    size = 0
    for entry in entries:
        if group and size + len(entry[1]) > PAGE_BYTES:
            yield group
            group, size = [], 0
        group.append(entry)
        size += len(entry[1])
    if group:
        yield group


@dataclass(frozen=True, slots=True)
class Kept:
    """The entry of an id after `add`: `message` is the entry, `new` says whether this call wrote it."""

    message: Message
    new: bool


class MessageMap(RecordMap[Message]):
    """A map of messages that the instance `name` writes, each id once."""

    def __init__(self, cluster: hz.Cluster, proxy: Any, name: str, clock: Clock = REAL) -> None:
        super().__init__(cluster, proxy, Message)
        self._name, self._clock = name, clock

    async def add(self, messages: Sequence[Message]) -> list[Kept]:
        """Write each message unless the map has its id; return the entries of the map, in order.

        Raises `StoreUnavailableError` (none was written) or `StoreIndeterminateError` (each may or may not be written).
        """
        mine = [Message(m.id, m.text, self._clock.wall(), self._name, m.trace) for m in messages]
        before = await self._call(self._put_all_if_absent(mine))
        return [await self._kept(message, found) for message, found in zip(mine, before, strict=True)]

    async def _put_all_if_absent(self, messages: Sequence[Message]) -> Sequence[Any]:
        """Put messages concurrently, under the caller's deadline; if one fails, the whole batch is indeterminate."""
        found: list[Any] = []
        for some in _light((message.id, message.to_json()) for message in messages):
            found += await _all(self._map.put_if_absent(key, value) for key, value in some)
        return found

    async def _kept(self, mine: Message, before: Any) -> Kept:
        """Return the entry of the map after a put-if-absent of `mine` that found `before`."""
        if before is None:
            return Kept(mine, new=True)
        try:
            return Kept(Message.from_json(before), new=False)
        except MessageError:
            log.warning("the map holds an entry that is not a message under the id %s; it is overwritten", mine.id)
            await self._call(self._map.set(mine.id, mine.to_json()))
            return Kept(mine, new=True)


class LogMap(MessageMap):
    """The log. An entry belongs to its last writer: only that writer can remove it.

    Several workers of the facade may send one id at the same time. The queue may refuse the send of the worker that
    wrote the entry, and accept the send of another worker, which found the entry.
    """

    async def add(self, messages: Sequence[Message]) -> list[Kept]:
        """Write each message as `MessageMap.add` does; an entry with the same text gets the time of this call."""
        kept = await super().add(messages)
        if all(each.new for each in kept):
            return kept
        renewals = map(self._renewed, messages, kept)
        results = await asyncio.gather(*renewals, return_exceptions=True)
        for failure in results:
            if isinstance(failure, StoreUnavailableError):
                raise StoreIndeterminateError(str(failure)) from failure  # the others are written
            if isinstance(failure, BaseException):
                raise failure
        return [result for result in results if isinstance(result, Kept)]

    async def renew(self, message_id: str) -> Message | None:
        """Set the time of an entry to now, so that no earlier writer can take it back; None if there is no entry."""
        while (raw := await self._call(self._map.get(message_id))) is not None:
            found = self._or_none(raw)
            if found is None:
                return None
            mine = replace(found, at=self._clock.wall())
            if await self._call(self._map.replace_if_same(message_id, raw, mine.to_json())):
                return mine
        return None

    async def take_back(self, message_id: str, at: float) -> bool:
        """Remove the entry of an id if its time is `at`; return whether it was removed."""
        raw = await self._call(self._map.get(message_id))
        found = None if raw is None else self._or_none(raw)
        if found is None or found.at != at:
            return False
        return bool(await self._call(self._map.remove_if_same(message_id, raw)))

    async def _renewed(self, message: Message, kept: Kept) -> Kept:
        while not kept.new and kept.message.text == message.text:
            if mine := await self.renew(message.id):
                return Kept(mine, new=False)
            (kept,) = await super().add([message])  # another writer took it back meanwhile
        return kept
