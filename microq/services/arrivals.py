"""What a messages-service stored, in order, for the facade that waits for it."""

from __future__ import annotations

import uuid
from typing import Any

MOST_ARRIVALS = 10_000
"""Ids in one answer of `/arrivals`."""


class Arrivals:
    """The ids that this process stored, in order: what the facade asks for to know what has arrived.

    A place in it is good for one `epoch`, the life of a process.
    """

    def __init__(self) -> None:
        self.epoch = uuid.uuid4().hex
        self._ids: list[str] = []

    def add(self, message_id: str) -> None:
        """Note one more."""
        self._ids.append(message_id)

    def after(self, epoch: str, place: int) -> dict[str, Any]:
        """Return what arrived since `place`, all of this epoch if that was another's; without one no ids at all.

        `more` says whether there is more than one answer holds.
        """
        begin = place if epoch == self.epoch else 0 if epoch else len(self._ids)
        ids = self._ids[begin : begin + MOST_ARRIVALS]
        end = begin + len(ids)
        return {"epoch": self.epoch, "next": end, "ids": ids, "more": end < len(self._ids)}
