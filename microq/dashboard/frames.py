"""A snapshot as the page gets it: with what follows from it, and with what a silent server said last."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from microq.figures import Figures
from microq.fleet import Snapshot


def dressed(snapshot: Snapshot, last: Mapping[str, Figures]) -> dict[str, Any]:
    """Return a snapshot as JSON has it, with its owners, whether it is safe, and every server's last known figures."""
    return {
        **snapshot.to_json(),
        "owner": snapshot.owner,
        "owners": sorted(snapshot.owners),
        "safe": snapshot.safe,
        "last": {name: dataclasses.asdict(figures) for name, figures in last.items()},
    }


class Memory:
    """What each server said last."""

    def __init__(self) -> None:
        self.last: dict[str, Figures] = {}

    def dress(self, snapshot: Snapshot) -> dict[str, Any]:
        """Take a snapshot in, and return it as the page gets it."""
        self.last.update({each.name: each for each in (*snapshot.members, *snapshot.brokers)})
        return dressed(snapshot, self.last)
