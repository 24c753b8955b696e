"""The protocols of a Hazelcast member, as far as a fault needs them: which reply answers which request.

Clients use Hazelcast's Open Binary Client Protocol 2. A message is a chain of frames; a frame has its length, header
included (4 bytes), and flags (2 bytes), all little-endian; a message's first frame begins with the type of the message
(4 bytes) and a correlation id (8 bytes), which the reply repeats.

A member that connects to another one introduces itself right after the greeting: its first packet contains the address
that it calls and its own address, each with the port (4 bytes, big-endian) and a 4 for IPv4 before the host (observed
on 5.7.0).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from microq.backends.base import GREETING, Reply, Wire

REQUESTS = {
    196864: Reply.ENQUEUE,  # Queue.offer
    197120: Reply.ENQUEUE,  # Queue.put
    200704: Reply.ENQUEUE,  # Queue.addAll
    197888: Reply.DEQUEUE,  # Queue.poll
    198144: Reply.DEQUEUE,  # Queue.take
    199168: Reply.DEQUEUE,  # Queue.drainToMaxSize
    65792: Reply.STORE,  # Map.put
    69120: Reply.STORE,  # Map.putIfAbsent
    69376: Reply.STORE,  # Map.set
    76800: Reply.STORE,  # Map.putAll
}
"""Message type of a request -> the kind of its reply; the message type of the reply is the next number."""

_FRAME = struct.Struct("<iH")
_HEAD = struct.Struct("<iHiq")
_FINAL = 1 << 13
_UNFRAGMENTED = 1 << 15 | 1 << 14

EMPTY = 31
"""Bytes of the longest reply without an item: its first frame and an empty list."""

_PORT = struct.Struct(">iB")


def introduced(said: bytes, called: int, names: Mapping[int, str]) -> str:
    """Return the name of a member that introduces itself, by its port; empty if it has not done so yet.

    `called` is the port of the member that it calls, which is in the introduction too.
    """
    return next((name for port, name in names.items() if port != called and _PORT.pack(port, 4) in said), "")


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a message; `empty`: it is too short to contain an item."""

    type: int
    id: int
    empty: bool


class Scanner:
    """Finds the messages in a stream of frames, however the stream is divided into chunks.

    `skip` is the number of bytes before the first frame. Raises `ValueError` if the stream has no frames.
    """

    def __init__(self, skip: int = 0) -> None:
        self._held = b""
        # Both are offsets in the held bytes; `_began` is None once the message was returned.
        self._next = skip
        self._began: int | None = None
        self._whole = True

    def feed(self, chunk: bytes) -> tuple[bytes, list[tuple[int, Head]]]:
        """Return the bytes that can be passed on, and (offset, head) for the messages that begin in them.

        It holds back only the beginning of a message that is still too short to be read, at most 36 bytes.
        """
        data = self._held + chunk
        heads: list[tuple[int, Head]] = []
        while True:
            if self._take(data, heads):
                self._began = None
            if self._next + _FRAME.size > len(data) or (self._whole and self._began is not None):
                break
            size, flags = _FRAME.unpack_from(data, self._next)
            if size < _FRAME.size:
                raise ValueError(f"a frame of {size} bytes")
            if self._whole and flags & _UNFRAGMENTED == _UNFRAGMENTED:
                self._began = self._next
            self._whole = bool(flags & _FINAL)
            self._next += size
        ready = min(self._next, len(data)) if self._began is None else self._began
        self._held = data[ready:]
        self._next -= ready
        self._began = None if self._began is None else 0
        return data[:ready], heads

    def _take(self, data: bytes, heads: list[tuple[int, Head]]) -> bool:
        """Add the head of the message that began, if enough of it has come; return whether it was added."""
        if self._began is None or len(data) < self._began + _HEAD.size:
            return False
        long = self._next - self._began > EMPTY
        if not long and not self._whole:
            return False
        _, _, message_type, message_id = _HEAD.unpack_from(data, self._began)
        heads.append((self._began, Head(message_type, message_id, not long)))
        return True


class Calls:
    """A `Dialogue` of a client with a member. A reply that reports a failed request cannot be lost."""

    def __init__(self) -> None:
        self._requests, self._replies = Scanner(skip=GREETING), Scanner()
        self._open: dict[int, int] = {}

    def asked(self, data: bytes) -> None:
        """Note the requests of which the reply can be lost."""
        for _, head in self._requests.feed(data)[1]:
            if head.type in REQUESTS:
                self._open[head.id] = head.type

    def answered(self, data: bytes) -> tuple[bytes, list[tuple[int, Reply]]]:
        """Match replies to the requests by their correlation ids."""
        ready, heads = self._replies.feed(data)
        found = []
        for offset, head in heads:
            request = self._open.pop(head.id, None)
            if request is None or head.type != request + 1:
                continue
            reply = REQUESTS[request]
            if reply is not Reply.DEQUEUE or not head.empty:
                found.append((offset, reply))
        return ready, found


WIRE = Wire(Calls, client=b"CP2", peer=b"HZC", introduction=1024, introduced=introduced)
