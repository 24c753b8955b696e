"""A connection through a link: two sockets, and the bytes that go from each to the other."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

from microq.chaos.conditions import Conditions, Ends, Lane
from microq.chaos.wire import GREETING, Dialogue, Reply, dialogue_of

MOST_QUEUED = 256 << 10
"""Bytes under way in one direction above which nothing more is read from the sender."""

_RESET = struct.pack("ii", 1, 0)

_END = b""


class Side(asyncio.Protocol):
    """One socket of a connection: what comes in here is sent on by the other side, in order, when it is due."""

    def __init__(self, pipe: Pipe, lane: Lane) -> None:
        self._pipe, self._lane = pipe, lane
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
        self._pipe.heard(self, data)

    def eof_received(self) -> bool:
        """Hear that nothing follows; what goes the other way still does."""
        self._pipe.ended(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear that the socket is closed: by us, in which case the other one is too, or because it broke."""
        if exc:
            self._pipe.reset()
        self._pipe.closed(self)

    def pause_writing(self) -> None:
        """Hear that the receiver is slower than the sender."""
        self._pipe.other(self).pause("a slow receiver")

    def resume_writing(self) -> None:
        """Hear that the receiver has caught up."""
        self._pipe.other(self).proceed("a slow receiver")

    # -- what the pipe asks for ---------------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether the socket is connected and nobody has closed it."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def peer(self) -> tuple[str, int]:
        """The host and the port of whoever is connected."""
        return cast("asyncio.Transport", self._transport).get_extra_info("peername")[:2]  # type: ignore[no-any-return]

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
        slowness = self._pipe.conditions.slowness
        if not self._queue and not slowness and not self._pipe.held:
            self._pipe.other(self).write(data)
            return
        due = self._lane.due(slowness, len(data), self._loop.time())
        self._pipe.conditions.counts.delayed += len(data) if slowness else 0
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
        other, now = self._pipe.other(self), self._loop.time()
        while self._queue and self._queue[0][0] <= now and not self._pipe.held:
            data = self._queue.popleft()[1]
            self._queued -= len(data)
            other.write(data)
        if self._queued <= MOST_QUEUED // 2:
            self.proceed("a long queue")
        if self._queue and not self._pipe.held:
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
                self._pipe.shut()

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


class Pipe:
    """One connection: the side that was opened to us, and the one that we open to the target.

    `lead` is called when the first bytes have told what will be spoken, and calls `opened` when the target is reached.
    `gone` is called when both sides are closed.
    """

    def __init__(
        self,
        conditions: Conditions,
        lanes: Sequence[Lane],
        lead: Callable[[Pipe], None],
        gone: Callable[[Pipe], None],
    ) -> None:
        self.conditions = conditions
        self.front, self.back = Side(self, lanes[0]), Side(self, lanes[1])
        self.first = b""
        self.ends: Ends | None = None
        self.held = False
        self.left_by_target = False
        """Whether the target was the first to close."""
        self._lead, self._gone = lead, gone
        self._dialogue: Dialogue | None = None
        self._open = False

    def other(self, side: Side) -> Side:
        """Return the side that sends on what `side` takes."""
        return self.back if side is self.front else self.front

    def opened(self, ends: Ends) -> None:
        """Begin to carry, both sides being connected."""
        self._open, self._dialogue = True, dialogue_of(ends.kind)
        if not self.front.open:
            self.reset()
            return
        first, self.first = self.first, b""
        self.heard(self.front, first)
        self.front.proceed("the way")

    def heard(self, side: Side, data: bytes) -> None:
        """Hear what came in at a side."""
        if not self._open:
            self.first += data
            if len(self.first) >= GREETING:
                self.front.pause("the way")
                self._lead(self)
            return
        try:
            self._carry(side, data)
        except ValueError:
            # Not what it began with: the member would close it as well.
            self.reset()

    def _carry(self, side: Side, data: bytes) -> None:
        if self._dialogue is None:
            side.take(data)
        elif side is self.front:
            self._dialogue.asked(data)
            side.take(data)
        else:
            self._answer(*self._dialogue.answered(data))

    def _answer(self, ready: bytes, replies: list[tuple[int, Reply]]) -> None:
        for offset, reply in replies:
            if self.ends and self.conditions.loses(reply, self.ends):
                if offset:  # what came before it is the receiver's
                    self.back.take(ready[:offset])
                self.front.close()
                self.reset()
                return
        if ready:
            self.back.take(ready)

    def ended(self, side: Side) -> None:
        """Hear that nothing follows from a side."""
        self.left_by_target |= side is self.back and not self.back.shut
        if self._open:
            side.take(_END)
        else:
            self.reset()

    def shut(self) -> None:
        """Close both sides if nothing follows from either."""
        if self.front.shut and self.back.shut:
            self.front.close()
            self.back.close()

    def hold(self) -> None:
        """Let nothing pass, and nobody notice."""
        self.held = True
        self.front.pause("a silence")
        self.back.pause("a silence")

    def release(self) -> None:
        """Let pass what was held."""
        self.held = False
        for side in (self.front, self.back):
            side.proceed("a silence")
            side.flow()

    def reset(self) -> None:
        """Break both sides at once."""
        self.front.reset()
        self.back.reset()

    def closed(self, _side: Side) -> None:
        """Hear that a side is closed."""
        if not self.front.open and not self.back.open:
            self._gone(self)
