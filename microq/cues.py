"""What the figures of a system do not say by themselves, in words: the honesty cues of a look."""

from __future__ import annotations

from collections.abc import Mapping

from microq.figures import Figures
from microq.fleet import Snapshot


def cues(now: Snapshot, last: Mapping[str, Figures]) -> list[str]:
    """Return what must be known to read a snapshot right; `last` is what each server said last."""
    return []
