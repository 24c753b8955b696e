"""The timeline of a run: what its system looked like and what happened to it, one JSON line a moment, only appended.

It lies in the run's folder and is what a finished run is looked at with. Times are seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from microq.fleet import Event, Snapshot

FILE = "timeline.jsonl"
"""The name of the file in the folder of a run."""

MOST_BYTES = 64 << 20
"""Where the file of a run that goes on and on ends; what comes later is seen live only."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A snapshot that the timeline has, still as JSON has it: most are only passed on."""

    at: float
    body: Mapping[str, Any]

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot itself."""
        return Snapshot.from_json(self.body)


class Writer:
    """Appends to the timeline of a run, until it is full."""

    def __init__(self, folder: Path, most: int = MOST_BYTES) -> None:
        self._path, self._most = folder / FILE, most
        self._file: IO[str] | None = None

    def look(self, snapshot: Snapshot) -> None:
        """Append what the system looks like."""
        self._append({"snapshot": snapshot.to_json()})

    def tell(self, event: Event) -> None:
        """Append what happened."""
        self._append({"event": event.to_json()})

    def _append(self, body: Mapping[str, Any]) -> None:
        if self._file is None:
            self._file = self._path.open("a", encoding="utf-8")
        if self._file.tell() < self._most:
            self._file.write(json.dumps(body) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


def read(folder: Path) -> Iterator[Frame | Event]:
    """Yield what the timeline in a run's folder has, in order; nothing if there is none.

    A line that was cut off by a crash, or that is of another version, is left out.
    """
    try:
        file = (folder / FILE).open(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return
    with file:
        for line in file:
            try:
                body = json.loads(line)
                if "event" in body:
                    yield Event.from_json(body["event"])
                else:
                    yield Frame(float(body["snapshot"]["taken_at"]), body["snapshot"])
            except (ValueError, LookupError, TypeError, AttributeError):
                continue
