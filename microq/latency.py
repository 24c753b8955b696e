"""How long something took, counted in buckets: what adds up over processes and can be subtracted between two looks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

BOUNDS = tuple(0.00025 * 2 ** (step / 2) for step in range(34))
"""Upper bounds of the buckets in seconds, from 0.25 ms to 23 s, each 1.41 times the one before."""


CELLS = len(BOUNDS) + 2
"""Numbers that `Latencies` are kept in."""


class Latencies:
    """Counts of what took how long, one for each of `BOUNDS` and one for what took longer, and the sum of it.

    They are kept in `cells`, the sum in nanoseconds as the last of them: memory that processes may share.
    """

    def __init__(self, cells: list[int] | memoryview | None = None) -> None:
        self._cells = [0] * CELLS if cells is None else cells

    @property
    def counts(self) -> list[int]:
        """How many there were in each bucket."""
        return list(self._cells[:-1])

    @property
    def sum(self) -> float:
        """How long all of them took together, in seconds."""
        return self._cells[-1] / 1e9

    def observe(self, seconds: float) -> None:
        """Count one more."""
        self._cells[bisect_left(BOUNDS, seconds)] += 1
        self._cells[-1] += round(seconds * 1e9)


def between(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Return the counts of what happened between two looks; all of the later ones if the process began anew."""
    if len(before) != len(after) or any(late < early for early, late in zip(before, after, strict=True)):
        return list(after)
    return [late - early for early, late in zip(before, after, strict=True)]


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Return in seconds what this share of the counted did not exceed, interpolated within its bucket.

    None if nothing was counted. What took longer than the last bound counts as that.
    """
    rank = share * sum(counts)
    if not rank:
        return None
    place, reached = next((place, reached) for place, reached in enumerate(accumulate(counts)) if reached >= rank)
    if place == len(BOUNDS):
        return BOUNDS[-1]
    lower = BOUNDS[place - 1] if place else 0.0
    return lower + (BOUNDS[place] - lower) * (rank - (reached - counts[place])) / counts[place]
