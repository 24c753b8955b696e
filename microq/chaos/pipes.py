"""A connection through a link: two sockets, and the bytes that go from each to the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from microq.chaos.conditions import Conditions, Ends, Lane
from microq.chaos.dialogues import dialogue_of
from microq.chaos.sides import END, Side
from microq.chaos.wire import GREETING, Dialogue, Reply
from microq.chaos.wire_hazelcast import INTRODUCTION


class Host(Protocol):
    """Where a pipe is: it is told of what happens to it."""

    def lead(self, pipe: Pipe) -> None:
        """Hear that the first bytes are there, and call `opened` once the target is reached."""
        ...

    def opener(self, said: bytes) -> str:
        """Return which member introduces itself so; nothing if that is not to be known yet."""
        ...

    def named(self, pipe: Pipe) -> None:
        """Hear that it is known who opened it."""
        ...

    def gone(self, pipe: Pipe) -> None:
        """Hear that both sides are closed."""
        ...


class Pipe:
    """One connection: the side that was opened to us, and the one that the host opens to the target."""

    def __init__(self, host: Host, conditions: Conditions, lanes: Sequence[Lane]) -> None:
        self._host, self.conditions = host, conditions
        self.front, self.back = Side(self, lanes[0]), Side(self, lanes[1])
        self.first = b""
        self.ends: Ends | None = None
        self.held = False
        self.left_by_target = False
        """Whether the target was the first to close."""
        self._introduction = b""
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
                self._host.lead(self)
            return
        try:
            self._carry(side, data)
        except ValueError:
            # Not what it began with: the member would close it as well.
            self.reset()

    def _carry(self, side: Side, data: bytes) -> None:
        if self._dialogue is None:
            if side is self.front:
                self._introduce(data)
            side.take(data)
        elif side is self.front:
            self._dialogue.asked(data)
            side.take(data)
        else:
            self._answer(*self._dialogue.answered(data))

    def _introduce(self, data: bytes) -> None:
        """Hear who opened the connection, if nobody knows yet: a member says so after its greeting is returned."""
        if self.ends and not self.ends.opener and len(self._introduction) < INTRODUCTION:
            self._introduction += data
            opener = self._host.opener(self._introduction)
            if opener:
                self.ends = replace(self.ends, opener=opener)
                self._host.named(self)

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
            side.take(END)
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

    def closed(self) -> None:
        """Hear that a side is closed."""
        if not self.front.open and not self.back.open:
            self._host.gone(self)
