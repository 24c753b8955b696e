"""The clocks of a process, of which a test can pass others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """The clocks: `wall` time since the epoch, which jumps when it is set, and `monotonic`, which never does.

    The time of an event loop is no substitute: uvloop reads it once a turn, so a process that was paused within a turn
    would not notice.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


REAL = Clock()
"""The clocks of this machine."""
