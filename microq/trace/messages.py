"""The messages of a run, one row each: the newest ones, and those that match a search."""

from __future__ import annotations

import dataclasses
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from pathlib import Path
from threading import Lock

from microq.fleet import Role
from microq.log import Acknowledged, Line, LogEvent, Received, escaped, parse, quoted, read_event

KEPT = 2000
"""How many newest messages are kept in memory."""

EARLY = 10_000
"""How many receptions are kept of messages whose acknowledgement was not read yet."""

_SOUGHT = 40
"""How many characters of a text are used to find it: fewer than the log shows."""

WINDOW = 8 << 20
"""The largest number of bytes of a log file that are read at once: the last ones."""


def _beginning(kind: type[LogEvent]) -> bytes:
    """Return the first words of an event's line, by which such lines are found quickly."""
    return kind.sentence.partition("{")[0].encode()


_ACKNOWLEDGED, _RECEIVED = _beginning(Acknowledged), _beginning(Received)


@dataclass(frozen=True, slots=True)
class Row:
    """One acknowledged message; times are seconds since the epoch. The last two are None until it is received.

    `text` is quoted, shortened and escaped as in the log lines.
    """

    id: str
    text: str
    acknowledged_at: float
    took_s: float
    logged_by: str
    received_by: str | None = None
    received_at: float | None = None


class Trails:
    """The newest messages of a running system. Each call reads only the new lines of the log files.

    Its memory is bounded by `KEPT` and `EARLY`. Several threads may call it.
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
            # The receptions last, so that most of them find their row.
            for file in files(self._folder, Role.FACADE):
                for raw in [raw for raw in self._new(file) if _ACKNOWLEDGED in raw][-KEPT:]:
                    if row := _row(raw):
                        self._add(row)
            for file in files(self._folder, Role.MESSAGES):
                for raw in [raw for raw in self._new(file) if _RECEIVED in raw][-EARLY:]:
                    if receipt := _receipt(raw):
                        self._receive(receipt[0], file.stem, receipt[1])
            return list(islice(reversed(self._rows.values()), limit))

    def _new(self, file: Path) -> list[bytes]:
        """Return the new complete lines of a file."""
        offset = self._offsets.get(file, 0)
        with file.open("rb") as source:
            size = source.seek(0, 2)
            begin = max(offset, size - WINDOW)
            source.seek(begin)
            data = source.read(size - begin)
        whole = data[: data.rfind(b"\n") + 1]
        self._offsets[file] = begin + len(whole)
        lines = whole.split(b"\n")
        # If bytes were skipped, the first line is incomplete.
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
    """Return the newest messages whose id or shown text contains this text, in upper or lower case."""
    found = list(islice(_matching(folder, text), limit))
    return [_received(row, receipts) for receipts in [_receipts(folder, found)] for row in found]


def with_text(folder: Path, text: str, limit: int) -> list[Row]:
    """Return the newest messages that have exactly this text."""
    shown = quoted(text)
    # The log shows only the beginning of a long text, so it is found by its beginning.
    return list(islice((row for row in _matching(folder, text[:_SOUGHT]) if row.text == shown), limit))


def _matching(folder: Path, text: str) -> Iterator[Row]:
    """Yield the messages that match, the newest first."""
    wanted = escaped(text).lower()
    needle = plain(wanted)

    def rows(file: Path) -> Iterator[Row]:
        for raw in backwards(file):
            if needle in raw.lower() and _ACKNOWLEDGED in raw and (row := _row(raw)):
                shown = row.text.replace(r"\"", '"').lower()
                if wanted in row.id.lower() or wanted in shown:
                    yield row

    sources = (rows(file) for file in files(folder, Role.FACADE))
    return merge(*sources, key=lambda row: row.acknowledged_at, reverse=True)


def _receipts(folder: Path, rows: list[Row]) -> dict[str, tuple[str, float]]:
    """Return the instance and time that received these messages; each file is read backwards until all are found."""
    found: dict[str, tuple[str, float]] = {}
    if not rows:
        return found
    wanted = {row.id for row in rows}
    # A consumer may log the message before the facade logs its acknowledgement.
    since = min(row.acknowledged_at - row.took_s for row in rows) - 1
    for file in files(folder, Role.MESSAGES):
        for raw in backwards(file):
            receipt = _receipt(raw) if _RECEIVED in raw else None
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
    event = read_event(Acknowledged, line.text) if line else None
    return Row(event.id, event.text, line.at, event.ms / 1000, event.by) if line and event else None


def _receipt(raw: bytes) -> tuple[str, float] | None:
    line = read(raw)
    event = read_event(Received, line.text) if line else None
    return (event.id, line.at) if line and event else None


# -- the files --------------------------------------------------------------------------------------------------------

BLOCK = 1 << 18


def files(folder: Path, *roles: Role) -> list[Path]:
    """Return the log files of these roles in a run."""
    return sorted(file for role in roles for file in (folder / "logs").glob(f"{role}-*.log"))


def role_of(file: Path) -> Role:
    """Return the role of the process that wrote a log file."""
    return Role(file.stem.partition("-")[0])


def plain(text: str) -> bytes:
    """Return the longest piece of a text that is unchanged in both log formats, by which lines are found quickly."""
    return max(re.findall(r"[0-9A-Za-z_.:/ -]+", text), key=len, default="").encode()


def read(raw: bytes) -> Line | None:
    """Return a line of a log file; None if it is not one."""
    return parse(raw.decode(errors="replace"))


def backwards(file: Path) -> Iterator[bytes]:
    """Yield the lines of a file from the last one to the first."""
    with file.open("rb") as source:
        end, rest = source.seek(0, 2), b""
        while end > 0:
            begin = max(0, end - BLOCK)
            source.seek(begin)
            rest, *lines = (source.read(end - begin) + rest).split(b"\n")
            yield from reversed(lines)
            end = begin
        yield rest
