"""The history of a run: what was seen, one JSON line an event, appended and never changed.

Every event has its wall time (`wall`, seconds since the epoch: what processes have in common) and its monotonic time
(`mono`, seconds: for spans within one process).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from microq.errors import UsageError
from microq.message import Outcome

FILE = "history.jsonl"
"""The name of the file in the folder of a run."""

Kind = Literal[
    "begin", "earlier", "send", "outcome", "copies", "fault", "struck", "step", "drained", "read", "logged", "shown",
    "absent", "combined", "doubt", "redelivered", "dead", "state", "took", "end",
]  # fmt: skip


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _outcome(value: Any) -> bool:
    return value in list(Outcome)


def _copies(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(_number, pair))  # noqa: PLR2004 - owned, backups
        for pair in value.values()
    )


FACTS: dict[Kind, dict[str, Callable[[Any], bool]]] = {
    # what the run was made of is noted here too
    "begin": {"scenario": _text, "queue": _text, "backup_count": _number},
    # messages that the system already held
    "earlier": {"ids": _texts},
    "send": {"id": _text},
    "outcome": {"id": _text, "outcome": _outcome},
    # when: before or after; members: name -> [owned, backups]
    "copies": {"when": _text, "members": _copies},
    # owner: is the target the primary owner; noted when the fault begins
    "fault": {"fault": _text, "target": _text, "owner": _flag},
    # the fault was seen to happen to it
    "struck": {"target": _text},
    # since: seconds since the fault
    "step": {"what": _text, "since": _number},
    # complete: was the queue empty and quiet; if not, the reason
    "drained": {"complete": _flag, "reason": _text},
    # an instance that answered with all it has, be it nothing
    "read": {"instance": _text, "role": _text},
    # instance: who showed it; by: who stored it
    "logged": {"instance": _text, "id": _text, "by": _text},
    # at: wall time of its storing
    "shown": {"instance": _text, "id": _text, "at": _number},
    # an instance that should have been read and did not answer
    "absent": {"instance": _text},
    # ids that the facade showed; met: did the reads reach every messages-service
    "combined": {"logs": _texts, "messages": _texts, "met": _flag},
    # why this run proves nothing
    "doubt": {"reason": _text},
    # messages that somebody put into the queue again, after who had taken them died
    "redelivered": {"ids": _texts},
    # messages that were given up during the run
    "dead": {"ids": _texts},
    # what the facade says of a missing message: stored, pending, dead or unknown
    "state": {"id": _text, "state": _text},
    # missing messages that an instance says it took from the queue; lines: how many such lines it wrote in all
    "took": {"instance": _text, "ids": _texts, "lines": _number},
    "end": {},
}
"""Kind of event -> the facts that the judge rests on, each with what it must be. There may be more."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of a history."""

    kind: Kind
    wall: float
    mono: float
    facts: dict[str, Any] = field(default_factory=dict)


class History:
    """A history that is being written, in memory and in its file. Made by `record`."""

    def __init__(self, file: IO[str], hear: Callable[[Entry], None] | None = None) -> None:
        self._file, self._hear = file, hear
        self.entries: list[Entry] = []

    def note(self, kind: Kind, **facts: Any) -> Entry:
        """Append what was seen just now."""
        entry = Entry(kind, time.time(), time.monotonic(), facts)
        self.entries.append(entry)
        line = {"kind": kind, "wall": entry.wall, "mono": entry.mono, **facts}
        # Escaped: an id that somebody planted may hold what ends a line, or what no encoding can carry.
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._hear:
            self._hear(entry)
        return entry


@contextmanager
def record(path: Path, hear: Callable[[Entry], None] | None = None) -> Iterator[History]:
    """Write a new history to `path`, and let `hear` hear it; raises `FileExistsError` rather than change one."""
    with path.open("x", encoding="utf-8") as file:
        yield History(file, hear)


def read(path: Path) -> Sequence[Entry]:
    """Read a history back; raises `UsageError` that names the line which is none."""
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a history ({error})") from error
    if lines == [""]:
        raise UsageError(f"{path} is empty; a history has one JSON object a line")
    return [_entry(path, number, line) for number, line in enumerate(lines, 1)]


def _entry(path: Path, number: int, line: str) -> Entry:
    try:
        facts = json.loads(line)
        kind, wall, mono = facts.pop("kind"), float(facts.pop("wall")), float(facts.pop("mono"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path}, line {number}: no event of a history ({type(error).__name__})") from error
    if kind not in list(FACTS):
        raise UsageError(f"{path}, line {number}: no event is called {kind!r}")
    for name, fits in FACTS[kind].items():
        if not fits(facts.get(name)):
            found = f"cannot be {facts[name]!r}" if name in facts else "is missing"
            raise UsageError(f"{path}, line {number}: {name!r} of the event {kind!r} {found}")
    return Entry(kind, wall, mono, facts)
