"""A bounded amount, such as the room of a queue, that processes share: they inherit it when they are forked."""

from __future__ import annotations

import contextlib
import multiprocessing
from mmap import mmap

_BYTES = 8
"""Size of one number."""

_TAKEN, _DONE, _LIMIT = range(3)


class Allowance:
    """Counts what is taken, up to a limit. Processes that are forked after it was made share it.

    `taken` is what was taken and not given back. `done` is the part of it that is carried out: an observer sees that
    part, and may or may not see the rest yet.
    """

    def __init__(self, limit: int = 0) -> None:
        self._numbers = memoryview(mmap(-1, 3 * _BYTES)).cast("q")
        self._numbers[_LIMIT] = limit
        self._lock: contextlib.AbstractContextManager[object] = multiprocessing.get_context("fork").Lock()

    @property
    def taken(self) -> int:
        """The amount that was taken and not given back."""
        return self._numbers[_TAKEN]

    @property
    def done(self) -> int:
        """The part of what was taken that is carried out."""
        return self._numbers[_DONE]

    @property
    def left(self) -> int:
        """The amount that may still be taken; negative if the limit was lowered below what is taken."""
        return self._numbers[_LIMIT] - self._numbers[_TAKEN]

    def take(self, amount: int) -> bool:
        """Take an amount if so much is left; return whether it was taken."""
        with self._lock:
            if self.left < amount:
                return False
            self._numbers[_TAKEN] += amount
            return True

    def give_back(self, amount: int) -> None:
        """Give back an amount that was taken."""
        with self._lock:
            self._numbers[_TAKEN] -= amount

    def finish(self, amount: int) -> None:
        """Note that an amount that was taken is carried out."""
        with self._lock:
            self._numbers[_DONE] += amount

    def allow(self, limit: int) -> None:
        """Set the limit."""
        with self._lock:
            self._numbers[_LIMIT] = limit

    def allow_more(self, limit: int) -> None:
        """Raise the limit; a limit that is higher already stays."""
        with self._lock:
            self._numbers[_LIMIT] = max(self._numbers[_LIMIT], limit)
