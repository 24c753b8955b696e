"""What a messages-service holds: messages in the order of their arrival, each id once, in little memory.

A message of 100 characters takes 260 to 290 bytes: its record, its id of 16 bytes as the key of a dictionary, and a
reference to that key in the order. As objects of Python it would take 700. No method but `arrange` takes longer the
more is held: there are many dictionaries, so that none is large when it grows, and pages instead of lists of all.
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
"""Places of one page."""

MOST_ARRIVALS = 2000
"""Ids in one answer of `/arrivals`: more would keep the event loop for too long."""

_DICTIONARIES = 251
"""How many there are: a prime, for the dictionaries themselves use the lowest bits of a hash."""

_HEAD = struct.Struct("=dB")
"""What a record begins with: the time, and the length of the trace that stands before the text."""

_UUID_BYTES = 16

Key = bytes | str
"""An id as it is kept: one that is a UUID in its usual spelling as 16 bytes, any other as it is."""


def packed(message_id: str) -> Key:
    """Return what an id is kept as."""
    if len(message_id) == 36 and message_id[8:24:5] == "----":  # noqa: PLR2004 - 32 digits and 4 hyphens
        digits = message_id.replace("-", "")
        try:
            key = bytes.fromhex(digits)
        except ValueError:
            return message_id
        if len(key) == _UUID_BYTES and key.hex() == digits:  # else it is spelled in another way, which is another id
            return key
    return message_id


def unpacked(key: Key) -> str:
    """Return the id that is kept as `key`."""
    if isinstance(key, str):
        return key
    digits = key.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@dataclass(slots=True)
class _Block:
    """The messages of one page: their keys, None where one was given up, and the time of the latest."""

    keys: list[Key | None] = field(default_factory=list)
    latest: float = -math.inf


class Held:
    """The memory of the messages-service called `name`.

    Each message has a place, from 0 on, which no other gets after it. What has arrived in this process can be asked
    for by place, within one `epoch`, the life of a process. Times never fall from place to place.
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
        """Hold messages after all others, unless their ids are held; return for each whether it is new.

        One that is older than the last before it gets its time: whoever asks for what is later than that misses none.
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
        """Hold what was held before, in any order: `arrange` gives it places. For the start of a process only."""
        for message in messages:
            key = packed(message.id)
            self._of(key)[key] = _record(message, message.at)

    def arrange(self) -> None:
        """Give what was restored its places, the oldest first. It takes a second or two for a million."""
        keys = [key for records in self._records for key in records]
        keys.sort(key=self._time)
        pages = (keys[begin : begin + PAGE] for begin in range(0, len(keys), PAGE))
        self._blocks = [_Block([*page], self._time(page[-1])) for page in pages] or [_Block()]
        self._count = self._begin = self._end = len(keys)

    def discard(self, place: int) -> None:
        """Give up the message at a place, if it is still there."""
        keys = self._blocks[place // PAGE].keys
        key = keys[place % PAGE]
        if key is not None:
            keys[place % PAGE] = None
            del self._of(key)[key]
            self._count -= 1

    def pages(self, after: float = -math.inf, limit: int | None = None) -> Iterator[dict[int, Message]]:
        """Yield what is later than `after`, by place: what is held now and not given up until it is yielded.

        Of that the first `limit`, and those that have the time of the last of them.
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
        """Return the ids that arrived since `place`, all of this epoch if that was another's; without one none at all.

        `more` says whether there is more than one answer holds.
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
        at, length = _HEAD.unpack_from(record)
        rest = record[_HEAD.size :].decode()
        return Message(self._id(key), rest[length:], at, self._name, rest[:length])


def _record(message: Message, at: float) -> bytes:
    return _HEAD.pack(at, len(message.trace)) + (message.trace + message.text).encode()
