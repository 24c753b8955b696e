"""The protocol of a Kafka broker, as far as a fault needs it: which reply answers which request.

All numbers are big-endian. A request begins with its size (4 bytes, not included in it), the key and the version of the
call (2 bytes each), and a correlation id (4 bytes); a reply begins with its size and the id of its request. The rest of
a reply depends on the version, which the client chooses from those that the broker offers. This module reads the
versions without tagged fields: aiokafka 0.14.0 chooses Produce 7, Fetch 11 and OffsetCommit 3 of those that Kafka 4.3.1
offers (0 to 13, 4 to 18, 2 to 10).

The size of the reply to a fetch does not say whether it contains records: 146 bytes contain one record, without value,
from the one partition of the topic `messages`, and 162 bytes contain none from three partitions. So the partitions are
read until one has records (observed on 4.3.1: a partition takes 42 bytes and its records).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from microq.backends.base import Reply, Wire

LARGEST = 100 << 20
"""Bytes of the largest request that a broker accepts (`socket.request.max.bytes`); a fetch has at most 55 MiB."""

_REQUEST = struct.Struct(">hhi")
_INT16, _INT32 = struct.Struct(">h"), struct.Struct(">i")


class MoreNeededError(Exception):
    """The part of a message that has come is too short to read on."""


class Fields:
    """Reads the fields of one message of `size` bytes at an offset of `data`, which may contain only its beginning.

    Raises `MoreNeededError` for a field that has not come yet, and `ValueError` for one beyond the message's end.
    """

    def __init__(self, data: bytes, at: int, size: int) -> None:
        self._data, self._at, self._end = data, at, at + size

    def skip(self, size: int) -> int:
        """Skip some bytes, and return their offset."""
        at = self._at
        if size < 0 or at + size > self._end:
            raise ValueError(f"a field of {size} bytes where {self._end - at} are left")
        if at + size > len(self._data):
            raise MoreNeededError
        self._at += size
        return at

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        """Read some numbers."""
        return form.unpack_from(self._data, self.skip(form.size))

    def int16(self) -> int:
        """Read a number of 2 bytes."""
        return self.unpack(_INT16)[0]

    def int32(self) -> int:
        """Read a number of 4 bytes."""
        return self.unpack(_INT32)[0]

    def count(self) -> int:
        """Read how many elements an array has; -1 is written for no array."""
        return max(0, self.int32())

    def skip_text(self) -> None:
        """Skip a text."""
        self.skip(self.int16())


class Messages:
    """Finds the messages in a stream, however it is divided into chunks.

    `read` returns the kind of a message, if it has one; it is called again, from the start, until enough of the message
    has come. Raises `ValueError` if the stream has no such messages.
    """

    def __init__(self, read: Callable[[Fields], Reply | None]) -> None:
        self._read = read
        self._held = b""
        # The offset of the next message in the held bytes.
        self._next = 0

    def feed(self, chunk: bytes) -> tuple[bytes, list[tuple[int, Reply]]]:
        """Return the bytes that can be passed on, and (offset, reply) for the messages found in them.

        It holds back only the beginning of a message that is still too short to be judged.
        """
        data = self._held + chunk
        found: list[tuple[int, Reply]] = []
        while self._next + _INT32.size <= len(data):
            size = _INT32.unpack_from(data, self._next)[0]
            if not 0 < size <= LARGEST:
                raise ValueError(f"a message of {size} bytes")
            try:
                one = self._read(Fields(data, self._next + _INT32.size, size))
            except MoreNeededError:
                break
            if one is not None:
                found.append((self._next, one))
            self._next += _INT32.size + size
        ready = min(self._next, len(data))
        self._held = data[ready:]
        self._next -= ready
        return data[:ready], found


LOG_START, SESSION, REPLICA = 5, 7, 11
"""Versions since which a partition says where its log starts, a fetch its session, and from which replica to read."""

THROTTLING = 3
"""Version since which the reply to a commit says for how long the broker slows the client down."""


def _errors(fields: Fields) -> Iterator[int]:
    """Yield the error of each partition of each topic, 0 for none; what follows it must be read before the next."""
    for _ in range(fields.count()):
        fields.skip_text()
        for _ in range(fields.count()):
            fields.skip(4)
            yield fields.int16()


def _produced(fields: Fields, version: int) -> bool:
    """Return whether a partition took what was sent to it."""
    for error in _errors(fields):
        if error == 0:
            return True
        fields.skip(8 + 8 + 8 * (version >= LOG_START))  # offset, time
    return False


def _fetched(fields: Fields, version: int) -> bool:
    """Return whether a partition has records."""
    fields.skip(4 + (2 + 4) * (version >= SESSION))  # throttling; error, session
    for _ in _errors(fields):
        fields.skip(8 + 8 + 8 * (version >= LOG_START))  # the last offset, and the last one that is stable
        fields.skip(fields.count() * (8 + 8))  # aborted transactions
        fields.skip(4 * (version >= REPLICA))
        if fields.count():  # bytes of records
            return True
    return False


def _committed(fields: Fields, version: int) -> bool:
    """Return whether the offset of a partition was taken."""
    fields.skip(4 * (version >= THROTTLING))
    return any(error == 0 for error in _errors(fields))


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a broker: the kind of its reply if it `happened`, and the versions whose replies can be read."""

    reply: Reply
    oldest: int
    newest: int
    happened: Callable[[Fields, int], bool]


CALLS = {
    0: Call(Reply.ENQUEUE, 3, 7, _produced),
    1: Call(Reply.DEQUEUE, 4, 11, _fetched),
    8: Call(Reply.DEQUEUE, 2, 7, _committed),
}
"""Key of a call -> Produce, Fetch, OffsetCommit."""


class Exchanges:
    """A `Dialogue` of a client with a broker. A reply that reports a failed request cannot be lost.

    A reply to a call in a version that `CALLS` lacks is passed on unread. A reply is matched by the id of its request,
    so a Produce without a reply (`acks=0`) does no harm.
    """

    def __init__(self) -> None:
        self._requests = Messages(self._hear)
        self._replies = Messages(self._judge)
        self._open: dict[int, tuple[Call, int]] = {}

    def asked(self, data: bytes) -> None:
        """Note the requests of which the reply can be lost."""
        self._requests.feed(data)

    def answered(self, data: bytes) -> tuple[bytes, list[tuple[int, Reply]]]:
        """Match replies to the requests by their correlation ids."""
        return self._replies.feed(data)

    def _hear(self, fields: Fields) -> None:
        key, version, number = fields.unpack(_REQUEST)
        call = CALLS.get(key)
        if call and call.oldest <= version <= call.newest:
            self._open[number] = call, version

    def _judge(self, fields: Fields) -> Reply | None:
        number = fields.int32()
        if number not in self._open:
            return None
        call, version = self._open[number]
        happened = call.happened(fields, version)
        del self._open[number]
        return call.reply if happened else None


WIRE = Wire(Exchanges)
"""A client sends no greeting: its first bytes are the size of a request. Every connection to a broker counts as one,
since the brokers use ports without links among themselves."""
