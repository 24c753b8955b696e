"""A snapshot as the page gets it: with what follows from it, and with what a silent server said last."""

from __future__ import annotations

import dataclasses
from typing import Any

from microq.figures import Figures
from microq.fleet import Snapshot


class Memory:
    """What each server said last."""

    def __init__(self) -> None:
        self.last: dict[str, Figures] = {}

    def dress(self, snapshot: Snapshot) -> dict[str, Any]:
        """Take a snapshot in, and return it as JSON has it, with what follows from it and the last figures."""
        self.last |= {each.name: each for each in snapshot.figures}
        return {
            **snapshot.to_json(),
            "owner": snapshot.owner,
            "owners": sorted(snapshot.owners),
            "safe": snapshot.safe,
            "last": {name: dataclasses.asdict(figures) for name, figures in self.last.items()},
        }
