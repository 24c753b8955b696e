"""The messages that a messages-service holds, in the order of their arrival, each id once, in little memory.

A message of 100 characters takes 260 to 290 bytes: its record, its id of 16 bytes as the key of a dictionary, and a
reference to that key in the order. As Python objects it would take 700. Except `arrange`, no method takes longer if
more is held: many dictionaries are used, so that none is large when it grows, and pages instead of one list.
"""

from __future__ import annotations

import math
import struct
import uuid
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from microq.message import Message

PAGE = 256
"""The number of places of a page."""

MOST_ARRIVALS = 2000
"""Ids in one answer of `/arrivals`: more would block the event loop for too long."""

_DICTIONARIES = 251
"""The number of dictionaries: a prime, because the dictionaries themselves use the lowest bits of a hash."""

_HEAD = struct.Struct("=dBh")
"""The beginning of a record: the time, the length of the trace (which precedes the text), and the partition."""

_NO_PARTITION = -1
"""The partition of a message that was restored, or came from a queue without partitions."""

_UUID_BYTES = 16

Key = bytes | str
"""The packed form of an id: 16 bytes for a UUID in its usual spelling, else the id itself."""


def packed(message_id: str) -> Key:
    """Return the packed form of an id."""
    if len(message_id) == 36 and message_id[8:24:5] == "----":  # noqa: PLR2004 - 32 digits and 4 hyphens
        digits = message_id.replace("-", "")
        try:
            key = bytes.fromhex(digits)
        except ValueError:
            return message_id
        if len(key) == _UUID_BYTES and key.hex() == digits:  # a UUID in another spelling is another id
            return key
    return message_id


def unpacked(key: Key) -> str:
    """Return the id of a packed form."""
    if isinstance(key, str):
        return key
    digits = key.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@dataclass(slots=True)
class _Block:
    """The messages of one page: their keys (None: discarded), and the time of the latest."""

    keys: list[Key | None] = field(default_factory=list)
    latest: float = -math.inf


class Inbox:
    """The memory of the messages-service called `name`.

    Each message has a place, counted from 0, which is never used again. `arrivals` returns what has arrived in this
    process since a place, within one `epoch`, the life of a process. Times never decrease from place to place.
    """

    def __init__(self, name: str) -> None:
        self.epoch = uuid.uuid4().hex
        self._name = name
        self._records: list[dict[Key, bytes]] = [{} for _ in range(_DICTIONARIES)]
        self._blocks: list[_Block] = [_Block()]
        self._count = self._begin = self._end = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, message_id: str) -> bool:
        key = packed(message_id)
        return key in self._of(key)

    def add(self, messages: Sequence[Message]) -> list[bool]:
        """Append messages whose ids are not held yet; return for each whether it is new.

        A message that is older than its predecessor gets the predecessor's time, so a reader that asks for messages
        later than a time misses none.
        """
        block, new = self._blocks[-1], []
        latest = block.latest
        for message in messages:
            key = packed(message.id)
            records = self._of(key)
            if key in records:
                new.append(False)
                continue
            if len(block.keys) == PAGE:
                block = _Block()
                self._blocks.append(block)
            block.latest = latest = max(latest, message.at)
            records[key] = _record(message, latest)
            block.keys.append(key)
            new.append(True)
        count = sum(new)
        self._count += count
        self._end += count
        return new

    def restore(self, messages: Sequence[Message]) -> None:
        """Add messages of an earlier process, in any order; `arrange` gives them places. Only when a process starts."""
        for message in messages:
            key = packed(message.id)
            self._of(key)[key] = _record(message, message.at)

    def arrange(self) -> None:
        """Give restored messages their places, the oldest first. It takes one or two seconds for a million."""
        keys = [key for records in self._records for key in records]
        keys.sort(key=self._time)
        pages = (keys[begin : begin + PAGE] for begin in range(0, len(keys), PAGE))
        self._blocks = [_Block([*page], self._time(page[-1])) for page in pages] or [_Block()]
        self._count = self._begin = self._end = len(keys)

    def discard(self, place: int) -> None:
        """Discard the message at a place, if it is still there."""
        keys = self._blocks[place // PAGE].keys
        key = keys[place % PAGE]
        if key is not None:
            keys[place % PAGE] = None
            del self._of(key)[key]
            self._count -= 1

    def pages(self, after: float = -math.inf, limit: int | None = None) -> Iterator[dict[int, Message]]:
        """Yield messages later than `after`, by place: those that are held now and still held when they are yielded.

        At most the first `limit`, and those with the same time as the last of them.
        """
        count, last, end = 0, math.inf, self._end
        first = bisect_right(self._blocks, after, key=attrgetter("latest"))
        for number in range(first, math.ceil(end / PAGE)):
            page: dict[int, Message] = {}
            for place, key in enumerate(self._blocks[number].keys, number * PAGE):
                if key is None or place >= end or (at := self._time(key)) <= after:
                    continue
                if at > last:
                    break
                page[place] = self._message(key)
                count += 1
                if count == limit:
                    last = at
            if page:
                yield page
            if self._blocks[number].latest > last:
                return

    def arrivals(self, epoch: str, place: int) -> dict[str, Any]:
        """Return the ids that arrived since `place` of `epoch`.

        If the epoch is empty, return no ids; if it is that of another process, return all ids of this process. `more`
        says whether there are more ids than fit into an answer.
        """
        begin = place if epoch == self.epoch else self._begin if epoch else self._end
        end = max(begin, min(begin + MOST_ARRIVALS, self._end))
        keys = (self._blocks[at // PAGE].keys[at % PAGE] for at in range(begin, end))
        ids = [self._id(key) for key in keys if key is not None]
        return {"epoch": self.epoch, "next": end, "ids": ids, "more": end < self._end}

    def _of(self, key: Key) -> dict[Key, bytes]:
        return self._records[hash(key) % _DICTIONARIES]

    def _id(self, key: Key) -> str:
        return unpacked(key)

    def _time(self, key: Key) -> float:
        at: float = _HEAD.unpack_from(self._of(key)[key])[0]
        return at

    def _message(self, key: Key) -> Message:
        record = self._of(key)[key]
        at, length, partition = _HEAD.unpack_from(record)
        rest = record[_HEAD.size :].decode()
        where = None if partition == _NO_PARTITION else partition
        return Message(self._id(key), rest[length:], at, self._name, rest[:length], partition=where)


def _record(message: Message, at: float) -> bytes:
    where = _NO_PARTITION if message.partition is None else message.partition
    return _HEAD.pack(at, len(message.trace), where) + (message.trace + message.text).encode()
