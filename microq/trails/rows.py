"""The messages of a run, one row each: the newest ones, and those that are sought."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from pathlib import Path
from threading import Lock

from microq.fleet import Role
from microq.log import escaped
from microq.trails.sentences import ACKNOWLEDGED, RECEIVED, backwards, files, plain, read, said

KEPT = 2000
"""The newest messages that are kept at hand."""

EARLY = 10_000
"""Receipts that are kept of messages whose acknowledgement was not read yet."""

WINDOW = 8 << 20
"""Bytes of one log file that are read at once; of more only the last ones are."""


@dataclass(frozen=True, slots=True)
class Row:
    """One acknowledged message; times are seconds since the epoch. The last two are None as long as nobody has it.

    `text` is in quotes, shortened and escaped as the log lines have it.
    """

    id: str
    text: str
    acknowledged_at: float
    took_s: float
    logged_by: str
    received_by: str | None = None
    received_at: float | None = None


class Trails:
    """The newest messages of a run that goes on. Each question reads only what the log files have got since the last.

    What it keeps is bounded by `KEPT` and `EARLY`. It may be asked from several threads.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self._rows: OrderedDict[str, Row] = OrderedDict()
        self._early: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = Lock()

    def newest(self, limit: int) -> list[Row]:
        """Return the messages that were acknowledged last, at most `KEPT`, the newest first."""
        with self._lock:
            # The receipts last, so that most of them find their row. Reading a line is what takes time.
            for file in files(self._folder, Role.FACADE):
                for raw in [raw for raw in self._new(file) if b"acknowledged " in raw][-KEPT:]:
                    if row := _row(raw):
                        self._add(row)
            for file in files(self._folder, Role.MESSAGES):
                for raw in [raw for raw in self._new(file) if b"received " in raw][-EARLY:]:
                    if receipt := _receipt(raw):
                        self._receive(receipt[0], file.stem, receipt[1])
            return list(islice(reversed(self._rows.values()), limit))

    def _new(self, file: Path) -> list[bytes]:
        """Return the whole lines that a file has got."""
        offset = self._offsets.get(file, 0)
        with file.open("rb") as source:
            size = source.seek(0, 2)
            begin = max(offset, size - WINDOW)
            source.seek(begin)
            data = source.read(size - begin)
        whole = data[: data.rfind(b"\n") + 1]
        self._offsets[file] = begin + len(whole)
        lines = whole.split(b"\n")
        # After a jump the first one is the end of a line.
        return lines[1:] if begin > offset else lines

    def _add(self, row: Row) -> None:
        by, at = self._early.pop(row.id, (None, None))
        before = self._rows.pop(row.id, None)  # it was sent again
        if before:
            by, at = before.received_by, before.received_at
        self._rows[row.id] = dataclasses.replace(row, received_by=by, received_at=at)
        if len(self._rows) > KEPT:
            self._rows.popitem(last=False)

    def _receive(self, message_id: str, by: str, at: float) -> None:
        if row := self._rows.get(message_id):
            self._rows[message_id] = dataclasses.replace(row, received_by=by, received_at=at)
            return
        self._early[message_id] = by, at
        if len(self._early) > EARLY:
            self._early.popitem(last=False)


def newest(folder: Path, limit: int) -> list[Row]:
    """Return the messages of a run that were acknowledged last, the newest first."""
    return Trails(folder).newest(limit)


def search(folder: Path, text: str, limit: int) -> list[Row]:
    """Return the newest messages of which the id or the text, as far as it is shown, contains this, in any case."""
    found = list(islice(_matching(folder, text), limit))
    return [_received(row, receipts) for receipts in [_receipts(folder, found)] for row in found]


def _matching(folder: Path, text: str) -> Iterator[Row]:
    """Yield the messages that match, the newest first."""
    wanted = escaped(text).lower()
    needle = plain(wanted)

    def rows(file: Path) -> Iterator[Row]:
        for raw in backwards(file):
            if needle in raw.lower() and b"acknowledged " in raw and (row := _row(raw)):
                shown = row.text.replace(r"\"", '"').lower()
                if wanted in row.id.lower() or wanted in shown:
                    yield row

    sources = (rows(file) for file in files(folder, Role.FACADE))
    return merge(*sources, key=lambda row: row.acknowledged_at, reverse=True)


def _receipts(folder: Path, rows: list[Row]) -> dict[str, tuple[str, float]]:
    """Return who received these messages and when, reading each file back until all are found."""
    found: dict[str, tuple[str, float]] = {}
    if not rows:
        return found
    wanted = {row.id for row in rows}
    # A consumer may be quicker than the line about the acknowledgement.
    since = min(row.acknowledged_at - row.took_s for row in rows) - 1
    for file in files(folder, Role.MESSAGES):
        for raw in backwards(file):
            receipt = _receipt(raw) if b"received " in raw else None
            if receipt and receipt[0] in wanted:
                found[receipt[0]] = file.stem, receipt[1]
            if len(found) == len(wanted) or (receipt and receipt[1] < since):
                break
    return found


def _received(row: Row, receipts: dict[str, tuple[str, float]]) -> Row:
    by, at = receipts.get(row.id, (None, None))
    return dataclasses.replace(row, received_by=by, received_at=at)


def _row(raw: bytes) -> Row | None:
    line = read(raw)
    match = said(ACKNOWLEDGED, line.text) if line else None
    if not line or not match:
        return None
    return Row(match["id"], match["text"], line.at, float(match["ms"]) / 1000, match["by"])


def _receipt(raw: bytes) -> tuple[str, float] | None:
    line = read(raw)
    match = said(RECEIVED, line.text) if line else None
    return (match["id"], line.at) if line and match else None
