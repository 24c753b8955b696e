"""The timeline of a run: snapshots and events of its system, one JSON object a line, append only.

It is in the run's folder; a finished run is shown from it. Times are seconds since the epoch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from microq.fleet import Event, Snapshot

log = logging.getLogger(__name__)

FILE = "timeline.jsonl"
"""The name of the file in the folder of a run."""

MOST_BYTES = 64 << 20
"""The size at which the file of a long run ends; what happens later is only shown live."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A snapshot of the timeline, still as JSON: most are only passed on."""

    at: float
    body: Mapping[str, Any]

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot itself."""
        return Snapshot.from_json(self.body)


class Writer:
    """Appends to the timeline of a run until it is full."""

    def __init__(self, folder: Path, most: int = MOST_BYTES) -> None:
        self._path, self._most = folder / FILE, most
        self._file: BinaryIO | None = None
        self._torn = False
        self.missing = 0
        """The number of lines that could not be written: the disk is full, or the folder is gone."""

    def look(self, snapshot: Snapshot) -> None:
        """Append a snapshot."""
        self._append({"snapshot": snapshot.to_json()})

    def tell(self, event: Event) -> None:
        """Append an event."""
        self._append({"event": event.to_json()})

    def _append(self, body: Mapping[str, Any]) -> None:
        try:
            # No buffer: a line that could not be written must not appear later inside another one.
            self._file = self._file or cast("BinaryIO", self._path.open("ab", buffering=0))
            if self._file.tell() < self._most:
                self._write(self._file, json.dumps(body).encode() + b"\n")
        except OSError as error:
            if not self.missing:
                log.warning("the timeline lacks what happens from now on: %s", error)
            self.missing += 1

    def _write(self, file: BinaryIO, data: bytes) -> None:
        data = b"\n" + data if self._torn else data
        while data:
            data = data[file.write(data) :]
            self._torn = bool(data)

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


def read(folder: Path) -> Iterator[Frame | Event]:
    """Yield the entries of the timeline in a run's folder, in order; none if there is no timeline.

    A line that a crash cut off, or that another version wrote, is left out.
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
