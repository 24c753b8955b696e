"""Merges of a split cluster: after members joined, a service checks the maps until nothing is missing.

A cluster tells its clients that members joined, but not that two halves merge. Then the maps may lack entries, for a
while or for ever: a member that joins the other half empties itself and sends the entries that it owned, and stops at
the first batch that fails. So every join counts as a merge until several checks have found nothing missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from microq.backends.hazelcast.maps import LogMap
from microq.errors import StoreError

log = logging.getLogger(__name__)

QUIET_LOOKS = 2
"""Consecutive checks without a missing entry after which a merge counts as over."""

LOOK_SECONDS = 2.0
"""Seconds between two readings of the size of the log."""


class Merges:
    """Follows the members that join; `joined` is set whenever one does."""

    settle_seconds = 3.0
    """Seconds without a membership change before a check, and between two checks."""

    most_seconds = 120.0
    """Seconds after the last join after which the next check is the last one; a merge of 300,000 entries takes 20 s."""

    def __init__(self, joined: asyncio.Event) -> None:
        self._joined = joined
        self._looking = self._whole = False

    @property
    def in_progress(self) -> bool:
        """Whether a merge may be in progress, so that the maps may lack entries."""
        return self._looking or self._joined.is_set()

    @property
    def in_doubt(self) -> bool:
        """Whether a merge may be in progress and no check has yet found the maps complete."""
        return self._joined.is_set() or (self._looking and not self._whole)

    async def follow(self, look: Callable[[], Awaitable[int | None]]) -> None:
        """After each join, call `look` until nothing is missing; until cancelled.

        `look` returns the number of missing messages, or None if it is unknown.
        """
        while True:
            await self._joined.wait()
            self._looking, self._whole = True, False
            await self._until_whole(look)
            self._looking = False

    async def _until_whole(self, look: Callable[[], Awaitable[int | None]]) -> None:
        loop = asyncio.get_running_loop()
        # A check of many messages can take longer than the merge, and misses what it has passed: so the last check
        # is one that began after the time was over, not one that ended then.
        end, quiet, last = loop.time() + self.most_seconds, 0, False
        while self._joined.is_set() or (quiet < QUIET_LOOKS and not last):
            if self._joined.is_set():
                self._joined.clear()
                self._whole = False
                end, quiet, last = loop.time() + self.most_seconds, 0, False
            await asyncio.sleep(self.settle_seconds)
            if not self._joined.is_set():
                last = loop.time() >= end
                self._whole = await look() == 0
                quiet = quiet + 1 if self._whole else 0


class Mark:
    """The size of the log before members joined, as this service saw it."""

    look_seconds = LOOK_SECONDS

    def __init__(self, entries: LogMap, joined: asyncio.Event) -> None:
        self._entries = entries
        self.merges = Merges(joined)
        self.size = 0

    @property
    def in_doubt(self) -> bool:
        """Whether a merge may have removed entries."""
        return self.size > 0 and self.merges.in_doubt

    async def follow(self) -> None:
        """Read the size while no member joins, until cancelled. An entry that is removed lowers the mark."""
        while True:
            await asyncio.sleep(self.look_seconds)
            if not self.merges.in_progress:
                size = await self._now()
                if size is not None and not self.merges.in_progress:
                    self.size = size

    async def missing(self) -> int | None:
        """Return the number of missing entries, or None if unknown; a `look` for `Merges.follow`."""
        size = await self._now()
        if size is None:
            return None
        if size < self.size:
            log.warning("since members joined the log has %d entries, and it had %d", size, self.size)
        return max(0, self.size - size)

    async def _now(self) -> int | None:
        try:
            return await self._entries.size()
        except StoreError:
            return None
