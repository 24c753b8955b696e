"""The history of a run: its events, one JSON object a line, append only.

Every event has its wall time (`wall`, seconds since the epoch, comparable between processes) and its monotonic time
(`mono`, seconds, for durations within one process).

A history of format 2 (the fact `format` of its event `begin`) also has the facts of `OPTIONAL` if they apply. An older
history can still be read; checks whose facts it lacks are not made.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from microq.errors import UsageError
from microq.message import Outcome

FILE = "history.jsonl"
"""The name of the file in the folder of a run."""

FORMAT = 2
"""The newest format, which `begin` names."""

LONGEST_TEXT = 80
"""The number of characters of a wrong value that an error shows."""

MOST = 1e15
"""An upper bound of the times (in seconds) and counts in a history."""

Kind = Literal[
    "begin", "earlier", "send", "outcome", "copies", "fault", "struck", "step", "drained", "read", "logged", "shown",
    "agreed", "claims", "restarted", "absent", "combined", "foreign", "doubt", "redelivered", "dead", "state", "took",
    "end",
]  # fmt: skip

PUBLISHED: frozenset[Kind] = frozenset({"begin", "copies", "fault", "struck", "step", "drained", "doubt", "end"})
"""The kinds that a scenario sends to all watchers of the system: those about the system, not about single messages."""


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST


def _count(value: Any) -> bool:
    return _number(value) and value == int(value) and value >= 1


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _reading(value: Any) -> bool:
    return value == 0 or _count(value)


def _by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_text, value.values()))


def _lists(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_texts, value.values()))


def _bounds(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() <= BOUNDS.keys() and all(map(_number, value.values()))


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_count, value))  # noqa: PLR2004 - the two before


def _outcome(value: Any) -> bool:
    return value in list(Outcome)


def _copies(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(_number, pair))  # noqa: PLR2004 - owned, backups
        for pair in value.values()
    )


BOUNDS = {
    "accepted": "min-accepted",
    "p99": "max-p99",
    "gap": "max-gap",
    "availability": "min-availability",
}
"""Bound of a run -> the option that sets it.

The smallest share of acknowledged messages, the 99th percentile of the time until an acknowledgement and the longest
time without one (seconds), the smallest share of seconds with an acknowledgement.
"""

FACTS: dict[Kind, dict[str, Callable[[Any], bool]]] = {
    # the parameters of the run are noted here too
    "begin": {"scenario": _text, "queue": _text, "backup_count": _number},
    # messages that the system already held
    "earlier": {"ids": _texts},
    "send": {"id": _text},
    "outcome": {"id": _text, "outcome": _outcome},
    # when: before or after; members: name -> [owned, backups]
    "copies": {"when": _text, "members": _copies},
    # owner: is the target the primary owner; noted when the fault begins
    "fault": {"fault": _text, "target": _text, "owner": _flag},
    # the effect of the fault on it was observed
    "struck": {"target": _text},
    # since: seconds since the fault
    "step": {"what": _text, "since": _number},
    # complete: was the queue empty and quiet; if not, the reason
    "drained": {"complete": _flag, "reason": _text},
    # an instance that answered; it may show no message
    "read": {"instance": _text, "role": _text},
    # instance: who showed it; by: who stored it
    "logged": {"instance": _text, "id": _text, "by": _text},
    "shown": {"instance": _text, "id": _text},
    # an instance that should have been read and did not answer
    "absent": {"instance": _text},
    # the last two readings, and whether they are equal
    "agreed": {"readings": _pair, "agreed": _flag},
    # the cluster's map of what is stored: id -> messages-service
    "claims": {"stored": _by_name},
    # messages-services that were restarted on purpose, after a reading
    "restarted": {"instances": _texts},
    # ids that the facade showed; met: did the reads reach every messages-service
    "combined": {"logs": _texts, "messages": _texts, "met": _flag},
    # messages that the facade accepted from other clients during the run
    "foreign": {"ids": _texts},
    # why this run proves nothing
    "doubt": {"reason": _text},
    # messages that were put into the queue again, because the consumer that had taken them died
    "redelivered": {"ids": _texts},
    # messages that were given up during the run
    "dead": {"ids": _texts},
    # what the facade says of a missing message: stored, pending, dead or unknown
    "state": {"id": _text, "state": _text},
    # missing messages that an instance says it took from the queue; lines: how many such lines it wrote in all
    "took": {"instance": _text, "ids": _texts, "lines": _number},
    "end": {},
}
"""Kind of event -> its required facts, each with its check. An event may have more facts."""

OPTIONAL: dict[Kind, dict[str, Callable[[Any], bool]]] = {
    # consumers, loggers: the instances that each reading must read; skewed: those whose clock is wrong on purpose;
    # ordered: whether the queue promises the order of one sender's messages in this run; partitioned: only within each
    # of its partitions; by_text: ids are texts, because services are external; shared_log: each logging-service shows
    # the whole log
    "begin": {
        "format": _count,
        "form": _text,
        "bounds": _bounds,
        "consumers": _texts,
        "loggers": _texts,
        "skewed": _texts,
        "ordered": _flag,
        "partitioned": _flag,
        "by_text": _flag,
        "shared_log": _flag,
        "seed": _number,
        "messages": _number,
        "defects": _by_name,
        "folder": _text,
    },
    # texts: id -> hash; shown: messages-service -> the ids that it showed
    "earlier": {"texts": _by_name, "shown": _lists},
    # attempt: the number of this send of its id; hash: of the text; sender: who sends one message after another
    "send": {"attempt": _count, "hash": _text, "sender": _text},
    "outcome": {"attempt": _count},
    # reading: its number; all instances are read once in each. like: the reading (0: `earlier`) in which the instance
    # showed the same in the same order, except the items that are gone and those noted after this event
    "read": {"reading": _count, "like": _reading, "gone": _texts},
    "absent": {"reading": _count},
    "logged": {"reading": _count, "hash": _text, "at": _number},
    # at: wall time of its storing, if the instance tells it; partition: where the queue had it, if it has several
    "shown": {"reading": _count, "hash": _text, "at": _number, "partition": _number},
    # unseen: the sets that the answers of the facade do not have
    "combined": {"reading": _count, "unseen": _texts},
    # known: false if the facade did not answer
    "foreign": {"known": _flag},
    "redelivered": {"known": _flag},
    "dead": {"known": _flag},
}
"""Kind of event -> its optional facts, each with its check."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of a history."""

    kind: Kind
    wall: float
    mono: float
    facts: dict[str, Any] = field(default_factory=dict)


class History:
    """A history that is being written, in memory and in its file. `record` makes it.

    A full disk does not end the run: an event that cannot be written now is written with later events, in order. So the
    file is always the history up to some moment, without a gap.
    """

    def __init__(self, file: BinaryIO, hear: Callable[[Entry], None] | None = None) -> None:
        self._file, self._hear = file, hear
        self._unwritten = bytearray()
        self.entries: list[Entry] = []

    def note(self, kind: Kind, **facts: Any) -> Entry:
        """Append an event that happens now."""
        entry = Entry(kind, time.time(), time.monotonic(), facts)
        self.entries.append(entry)
        line = {"kind": kind, "wall": entry.wall, "mono": entry.mono, **facts}
        # Escaped: a planted id may contain a line break, or a letter that no encoding can represent.
        self._unwritten += json.dumps(line).encode() + b"\n"
        self._write()
        if self._hear:
            self._hear(entry)
        return entry

    @property
    def written(self) -> bool:
        """Whether everything noted so far is in the file."""
        return not self._unwritten

    def end(self) -> None:
        """Note the end of the run; and a doubt if the file is incomplete: then it could not be judged again."""
        if why := self._write():
            self.note("doubt", reason=f"the history could not be written completely ({why})")
        self.note("end")

    def _write(self) -> str:
        """Write the events that are not in the file yet; return why that failed, empty if it did not."""
        try:
            while self._unwritten:
                del self._unwritten[: self._file.write(self._unwritten)]
        except OSError as error:
            return error.strerror or str(error)
        return ""


@contextmanager
def record(path: Path, hear: Callable[[Entry], None] | None = None) -> Iterator[History]:
    """Write a new history to `path`, and call `hear` with each event; raises `FileExistsError` if the file exists."""
    # No buffer: closing it would raise the error of a failed write.
    with path.open("xb", buffering=0) as file:
        yield History(cast("BinaryIO", file), hear)


def read(path: Path) -> Sequence[Entry]:
    """Read a history; raises `UsageError` with the line that is not an event, or is in a wrong place.

    A history that was cut off is read up to there: an incomplete line at its end is left out.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path} cannot be read as a history ({why})") from error
    lines = text.removesuffix("\n").split("\n")
    if lines == [""]:
        raise UsageError(f"{path} is empty; a history has one JSON object a line")
    if len(lines) > 1 and not text.endswith("\n") and not _whole(lines[-1]):
        lines.pop()
    course = _Course()
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = _entry(line)
            course.check(entry)
        except _BrokenError as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
        entries.append(entry)
    return entries


class _BrokenError(Exception):
    """A line that is not an event of a history, or is in a wrong place."""


def _whole(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _object(line: str) -> dict[str, Any]:
    """Return a line as an object that has what every event has."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _BrokenError("not an event of a history: it is not JSON") from error
    if not isinstance(found, dict):
        raise _BrokenError(f"not an event of a history: it is not a JSON object but {_shown(found)}")
    for name in ("kind", "wall", "mono"):
        if name not in found:
            raise _BrokenError(f"not an event of a history: {name!r} is missing")
    return found


def _entry(line: str) -> Entry:
    facts = _object(line)
    kind, wall, mono = (facts.pop(name) for name in ("kind", "wall", "mono"))
    if kind not in list(FACTS):
        raise _BrokenError(f"no event is called {_shown(kind)}")
    for name, time_of_it in (("wall", wall), ("mono", mono)):
        if not _number(time_of_it) or time_of_it < 0:
            raise _BrokenError(f"not an event of a history: {name!r} is not a time in seconds but {_shown(time_of_it)}")
    for name, fits in FACTS[kind].items():
        if not fits(facts.get(name)):
            found = f"cannot be {_shown(facts[name])}" if name in facts else "is missing"
            raise _BrokenError(f"{name!r} of the event {kind!r} {found}")
    for name, fits in OPTIONAL.get(kind, {}).items():
        if facts.get(name) is not None and not fits(facts[name]):
            raise _BrokenError(f"{name!r} of the event {kind!r} cannot be {_shown(facts[name])}")
    return Entry(kind, float(wall), float(mono), {name: fact for name, fact in facts.items() if fact is not None})


def _shown(value: Any) -> str:
    """Return a value for an error message: in one line, and not too long."""
    text = repr(value)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


ONCE: frozenset[Kind] = frozenset({"begin", "earlier", "end"})
"""The events that a history has at most once."""


class _Course:
    """Checks the order of events: which ones each may follow."""

    def __init__(self) -> None:
        self._seen: set[Kind] = set()
        self._mono = 0.0
        self._in_flight: Counter[tuple[str, Any]] = Counter()
        self._attempts: set[tuple[str, int]] = set()
        self._read: set[tuple[str, int]] = set()

    def check(self, entry: Entry) -> None:
        """Raise `_BrokenError` if an event cannot follow those before it."""
        kind, facts = entry.kind, entry.facts
        if not self._seen and kind != "begin":
            raise _BrokenError(f"a history must begin with the event 'begin', not with {kind!r}")
        if "end" in self._seen:
            raise _BrokenError(f"the event {kind!r} follows the end")
        if kind in ONCE & self._seen:
            raise _BrokenError(f"the event {kind!r} occurs for the second time")
        if entry.mono < self._mono:
            raise _BrokenError(f"its time {entry.mono:g} is before that of the line above, {self._mono:g}")
        if kind in {"send", "outcome"}:
            self._check_attempt(kind, facts)
        elif kind == "read" and self._twice(self._read, (facts["instance"], facts.get("reading", 1))):
            raise _BrokenError(f"{_shown(facts['instance'])} is read for the second time in one reading")
        self._seen.add(kind)
        self._mono = entry.mono

    def _check_attempt(self, kind: Kind, facts: dict[str, Any]) -> None:
        message, number = facts["id"], facts.get("attempt")
        if kind == "outcome":
            if not self._in_flight[message, number]:
                raise _BrokenError(f"an outcome of {_shown(message)}, which has no unfinished send")
            self._in_flight[message, number] -= 1
            return
        if number is not None and self._twice(self._attempts, (message, number)):
            raise _BrokenError(f"the attempt {number} of {_shown(message)} begins for the second time")
        self._in_flight[message, number] += 1

    @staticmethod
    def _twice(seen: set[tuple[str, int]], one: tuple[str, int]) -> bool:
        known = one in seen
        seen.add(one)
        return known
