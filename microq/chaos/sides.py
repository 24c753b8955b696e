"""One socket of a connection through a link: what comes in is sent on by the other one, now or when it is due."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import Protocol, cast

from microq.chaos.conditions import Conditions, Lane

MOST_QUEUED = 256 << 10
"""Bytes under way in one direction above which nothing more is read from the sender."""

END = b""
"""What a side takes when its sender sends no more."""

_RESET = struct.pack("ii", 1, 0)


class Middle(Protocol):
    """What connects two sides, and hears of what happens at them."""

    conditions: Conditions
    held: bool

    def other(self, side: Side) -> Side:
        """Return the side that sends on what `side` takes."""
        ...

    def heard(self, side: Side, data: bytes) -> None:
        """Hear what came in at a side."""
        ...

    def ended(self, side: Side) -> None:
        """Hear that nothing follows from a side."""
        ...

    def shut(self) -> None:
        """Hear that a side was told the end."""
        ...

    def reset(self) -> None:
        """Break both sides at once."""
        ...

    def closed(self) -> None:
        """Hear that a side is closed."""
        ...


class Side(asyncio.Protocol):
    """One socket of a connection: what comes in here is sent on by the other side, in order, when it is due."""

    def __init__(self, middle: Middle, lane: Lane) -> None:
        self._middle, self._lane = middle, lane
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._queue: deque[tuple[float, bytes]] = deque()
        self._queued = 0
        self._timer: asyncio.TimerHandle | None = None
        self._pauses: set[str] = set()
        self.shut = False
        """Whether the other end was told that nothing follows."""

    # -- what the event loop says -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be connected."""
        self._transport = cast("asyncio.Transport", transport)
        if self._pauses:
            self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Hear what comes in."""
        self._middle.heard(self, data)

    def eof_received(self) -> bool:
        """Hear that nothing follows; what goes the other way still does."""
        self._middle.ended(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear that the socket is closed: by us, in which case the other one is too, or because it broke."""
        if exc:
            self._middle.reset()
        self._middle.closed()

    def pause_writing(self) -> None:
        """Hear that the receiver is slower than the sender."""
        self._middle.other(self).pause("a slow receiver")

    def resume_writing(self) -> None:
        """Hear that the receiver has caught up."""
        self._middle.other(self).proceed("a slow receiver")

    # -- what the middle asks for ------------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether the socket is connected and nobody has closed it."""
        return self._transport is not None and not self._transport.is_closing()

    def pause(self, reason: str) -> None:
        """Read no more, for a reason that is told again when it is gone."""
        if not self._pauses and self._transport:
            self._transport.pause_reading()
        self._pauses.add(reason)

    def proceed(self, reason: str) -> None:
        """Read again, unless there is another reason not to."""
        if reason in self._pauses:
            self._pauses.discard(reason)
            if not self._pauses and self.open:
                cast("asyncio.Transport", self._transport).resume_reading()

    def take(self, data: bytes) -> None:
        """Let what came in here go its way."""
        self._lane.taken += len(data)
        slowness = self._middle.conditions.slowness
        if not self._queue and not slowness and not self._middle.held:
            self._middle.other(self).write(data)
            return
        due = self._lane.due(slowness, len(data), self._loop.time())
        self._middle.conditions.counts.delayed += len(data) if slowness else 0
        # Whatever the jitter, nothing overtakes.
        self._queue.append((max(due, self._queue[-1][0]) if self._queue else due, data))
        self._queued += len(data)
        if self._queued > MOST_QUEUED:
            self.pause("a long queue")
        self.flow()

    def flow(self) -> None:
        """Send on what is due."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        other, now = self._middle.other(self), self._loop.time()
        while self._queue and self._queue[0][0] <= now and not self._middle.held:
            data = self._queue.popleft()[1]
            self._queued -= len(data)
            other.write(data)
        if self._queued <= MOST_QUEUED // 2:
            self.proceed("a long queue")
        if self._queue and not self._middle.held:
            self._timer = self._loop.call_at(self._queue[0][0], self.flow)

    def write(self, data: bytes) -> None:
        """Send what the other side took; nothing is its end."""
        if self.open and not self.shut:
            transport = cast("asyncio.Transport", self._transport)
            if data:
                transport.write(data)
            else:
                self.shut = True
                transport.write_eof()
                self._middle.shut()

    def close(self) -> None:
        """Close the socket once everything is sent."""
        if self._transport:
            self._transport.close()

    def reset(self) -> None:
        """Close the socket at once, so that its peer hears of an error."""
        if self._timer:
            self._timer.cancel()
        self._queue.clear()
        if self.open:
            transport = cast("asyncio.Transport", self._transport)
            found: socket.socket = transport.get_extra_info("socket")
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
