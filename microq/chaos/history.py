"""The history of a run: what was seen, one JSON line an event, appended and never changed.

Every event has its wall time (`wall`, seconds since the epoch: what processes have in common) and its monotonic time
(`mono`, seconds: for spans within one process).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, get_args

from microq.errors import UsageError

Kind = Literal[
    "begin",  # scenario, queue, messages, backup_count, and what the run was made of
    "earlier",  # ids: messages that the system already held
    "send",  # id
    "outcome",  # id, outcome, seconds, logged_by, reason
    "copies",  # when (before, after), members: name -> [owned, backups], owner
    "fault",  # fault, target, pid, owner: is it the primary owner; noted when the fault begins
    "struck",  # target: the fault was seen to happen to it
    "step",  # what, since: seconds since the fault
    "drained",  # complete: was the queue empty and quiet, reason
    "logged",  # instance: who showed it, id, by: who stored it
    "shown",  # instance, id, at: wall time of its storing
    "absent",  # instance: one that should have been read and did not answer
    "end",
]


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of a history."""

    kind: Kind
    wall: float
    mono: float
    facts: dict[str, Any] = field(default_factory=dict)


class History:
    """A history that is being written, in memory and in its file. Made by `record`."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.entries: list[Entry] = []

    def note(self, kind: Kind, **facts: Any) -> Entry:
        """Append what was seen just now."""
        entry = Entry(kind, time.time(), time.monotonic(), facts)
        self.entries.append(entry)
        line = {"kind": kind, "wall": entry.wall, "mono": entry.mono, **facts}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        return entry


@contextmanager
def record(path: Path) -> Iterator[History]:
    """Write a new history to `path`; raises `FileExistsError` rather than change one."""
    with path.open("x", encoding="utf-8") as file:
        yield History(file)


def read(path: Path) -> Sequence[Entry]:
    """Read a history back; raises `UsageError` that names the line which is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a history ({error})") from error
    if not lines:
        raise UsageError(f"{path} is empty; a history has one JSON object a line")
    return [_entry(path, number, line) for number, line in enumerate(lines, 1)]


def _entry(path: Path, number: int, line: str) -> Entry:
    try:
        facts = json.loads(line)
        kind, wall, mono = facts.pop("kind"), float(facts.pop("wall")), float(facts.pop("mono"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path}, line {number}: no event of a history ({type(error).__name__})") from error
    if kind not in get_args(Kind):
        raise UsageError(f"{path}, line {number}: no event is called {kind!r}")
    return Entry(kind, wall, mono, facts)
