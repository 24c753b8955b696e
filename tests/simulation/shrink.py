"""Makes a failing run smaller: fewer messages, and without the faults that do not matter."""

from __future__ import annotations

from simulation.run import Result, simulate
from simulation.system import Parts

MOST_RUNS = 150
"""Runs that a shrink may take."""


def shrink(found: Result, parts: Parts) -> Result:
    """Return a smaller run of the same seed that breaks the same promise, or `found`."""
    left = MOST_RUNS

    def fails(messages: int | None, skip: frozenset[int]) -> Result | None:
        nonlocal left
        left -= 1
        again = simulate(found.seed, parts, messages, skip)
        return again if again.failure and _kind(again) == _kind(found) else None

    smallest = found
    for messages in range(1, len(found.outcomes)):
        if smaller := fails(messages, frozenset()):
            smallest = smaller
            break
    size = max(1, smallest.faults // 2)
    while size and left > 0:
        for begin in range(1, smallest.faults + 1, size):
            more = frozenset(range(begin, begin + size)) - smallest.skipped
            if more and left > 0 and (smaller := fails(smallest.messages, smallest.skipped | more)):
                smallest = smaller
        size //= 2
    return smallest


def _kind(result: Result) -> str:
    """Return a failure without the names in it."""
    return " ".join(word for word in result.failure.split() if word.isalpha())
