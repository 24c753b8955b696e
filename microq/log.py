"""The log: one line format for every process (time, level, process, text, or one JSON object a line), and its events.

Only `setup` touches handlers; every other module has `log = logging.getLogger(__name__)`. `parse` reads log files in
both formats. A line about a message that programs read back is a `LogEvent`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from string import Formatter
from typing import Any, ClassVar, Self, TextIO, TypeVar

from microq.fleet import Role

K = TypeVar("K", bound="LogEvent")

_SHOWN = 200
"""The number of characters of a message's text that a log line shows."""

_TEXT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}) ([A-Z]+) +(\S+) +(.*)")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log: its time (seconds since the epoch), level, process and text.

    `trace` is the id of its trace, if any; `traceback` has an error's lines, only in a JSON line.
    """

    at: float
    level: str
    name: str
    text: str
    trace: str = ""
    traceback: str = ""

    def __str__(self) -> str:
        """Return it in the text format, with the lines of an error and without the other fields that only JSON has."""
        milliseconds = round(self.at * 1000)
        first = _text_line(_stamp(milliseconds // 1000, milliseconds % 1000), self.level, self.name, self.text)
        more = (f"  {line}" for line in self.traceback.split("\n")) if self.traceback else ()
        return "\n".join(map(escaped, (first, *more)))


def parse(line: str) -> Line | None:
    """Read a line of a log file in either format; None if it is in neither: part of a traceback, or cut off."""
    line = line.rstrip("\r\n")
    try:
        if line.startswith("{"):
            fields = json.loads(line)
            # All must be texts: else another program wrote the line.
            at, *words = (fields[key] + "" for key in ("at", "level", "process", "message"))
            more = (fields.get(key, "") + "" for key in ("trace", "traceback"))
            return Line(datetime.fromisoformat(at).timestamp(), *words, *more)
        if found := _TEXT.fullmatch(line):
            return Line(datetime.fromisoformat(found[1]).timestamp(), found[2], found[3], found[4])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return None


def readable(line: str) -> str:
    """Return a line of either format in the text format; one with a traceback becomes several lines."""
    parsed = parse(line) if line.startswith("{") else None
    return str(parsed) if parsed else line


def _stamp(seconds: float, milliseconds: int) -> str:
    """Return the local time in the form of the members' log lines."""
    return f"{_second(int(seconds))}.{milliseconds:03d}"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))


def _text_line(stamp: str, level: str, name: str, text: str) -> str:
    return f"{stamp} {level:<7} {name:<16} {text}"


class _Formatter(logging.Formatter):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Return a record as exactly one line."""
        stamp = _stamp(record.created, int(record.msecs))
        return _text_line(stamp, record.levelname, self._name, escaped(record.message))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        """Return a traceback, indented: none of its lines looks like a line of the log."""
        return "\n".join(f"  {escaped(line)}" for line in super().formatException(ei).split("\n"))


class _JsonFormatter(logging.Formatter):
    def __init__(self, name: str, trace_id: Callable[[], str]) -> None:
        super().__init__()
        self._name, self._trace_id = name, trace_id

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a JSON object in one line; its message is exactly that of the text format."""
        zone = time.strftime("%z", time.localtime(record.created))  # such as +0100
        fields = {
            "at": f"{_stamp(record.created, int(record.msecs))}{zone[:3]}:{zone[3:]}",
            "level": record.levelname,
            "process": self._name,
            "message": escaped(record.getMessage()),
        }
        if trace := self._trace_id():
            fields["trace"] = trace
        if record.exc_info:
            fields["traceback"] = "\n".join(map(escaped, self.formatException(record.exc_info).split("\n")))
        return json.dumps(fields, ensure_ascii=False)


class _Handler(logging.Handler):
    """Writes the lines of one turn of the event loop together at its end; at once a warning, or without a loop.

    A separate write for each line costs a fifth of a service's time for a message. A line that cannot be written,
    because the disk is full or the reader is gone, is dropped and counted by `lost`: no service ends because of it.
    """

    def __init__(self, stream: TextIO, name: str, lost: Callable[[int], None]) -> None:
        super().__init__()
        self._file, self._encoding, self._errors = stream.fileno(), stream.encoding, stream.errors or "strict"
        self._name, self._count_lost = name, lost
        self._lines: list[str] = []
        self._missing, self._torn = 0, False

    def emit(self, record: logging.LogRecord) -> None:
        """Accept a line; it is written now or at the end of the turn."""
        self._lines.append(self.format(record))
        if len(self._lines) == 1 and record.levelno < logging.WARNING:
            try:
                asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:
                self.flush()
        elif record.levelno >= logging.WARNING:
            self.flush()

    def flush(self) -> None:
        """Write the lines that are not written yet."""
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            if not lines:
                return
            gap = [self._gap_line()] if self._missing else []
            try:
                self._write("\n".join([*gap, *lines, ""]).encode(self._encoding, self._errors))
                self._missing = 0
            except OSError:
                self._missing += len(lines)
                self._count_lost(len(lines))

    def _write(self, data: bytes) -> None:
        """Write all of it without a buffer; if an earlier write was cut off, begin a new line."""
        data = b"\n" + data if self._torn else data
        while data:
            data = data[os.write(self._file, data) :]
            self._torn = bool(data)

    def _gap_line(self) -> str:
        several = f"{self._missing} lines are" if self._missing > 1 else "1 line is"
        values = (self._name, logging.WARNING, "", 0, f"{several} missing here: they could not be written", (), None)
        return self.format(logging.LogRecord(*values))


def flush() -> None:
    """Write every line that is not written yet, before this process may end."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def setup(
    name: str,
    level: int = logging.INFO,
    *,
    form: str = "text",
    trace_id: Callable[[], str] = str,
    lost: Callable[[int], None] = lambda _lines: None,
) -> None:
    """Send every logger's lines to standard output in the format `form`, `text` or `json`, under this process's `name`.

    A JSON line contains the result of `trace_id`, unless it is empty. `lost` is called with the number of lines that
    could not be written.
    """
    # Facts that no line shows are not collected, as the documentation of `logging` proposes.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - the documented way
    handler = _Handler(sys.stdout, name, lost)
    handler.setFormatter(_JsonFormatter(name, trace_id) if form == "json" else _Formatter(name))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # The client logs each attempt to reconnect; the services log what matters of it.
    logging.getLogger("hazelcast").setLevel(logging.ERROR)
    # It logs each batch of spans that was not delivered; `tracing` logs it once.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def quoted(text: str) -> str:
    """Return `text` quoted and escaped in one line: it cannot forge a log line or control a terminal."""
    shown = text[:_SHOWN]
    more = f"… ({len(text)} characters)" if len(text) > _SHOWN else ""
    return '"' + escaped(shown).replace('"', r"\"") + '"' + more


def escaped(text: str) -> str:
    """Return `text` in one line, with characters escaped that control a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# -- events: lines that programs read back ----------------------------------------------------------------------------


class LogEvent:
    """An event of a message that a service logs and that programs read back from its log.

    A kind of event is a dataclass. `sentence` is the text of its line, a format string with its fields: it serves to
    write the line and to read it. `words` says the same in the journey of one message. The services of `role` log it.

    A field's name determines its form in every kind: `id` is a message's id; `text` a message's text, as `quoted`
    returns it; `by` the name of a process; `why` any text; `ms` milliseconds.
    """

    role: ClassVar[Role]
    sentence: ClassVar[str]
    words: ClassVar[str]

    def __str__(self) -> str:
        """Return the text of its line."""
        return self.sentence.format(**vars(self))

    def story(self) -> str:
        """Return it in the words of a journey."""
        return self.words.format(**vars(self))


@dataclass(frozen=True)
class Stored(LogEvent):
    """A logging-service wrote a message into the log."""

    role, sentence, words = Role.LOGGING, "stored {id} {text}", "stored"

    id: str
    text: str


@dataclass(frozen=True)
class Removed(LogEvent):
    """A logging-service removed the entry of a message that the queue had refused."""

    role = Role.LOGGING
    sentence = "removed {id}, which the queue refused"
    words = "removed it: the queue refused it"

    id: str


@dataclass(frozen=True)
class Acknowledged(LogEvent):
    """The facade acknowledged a message after `ms` milliseconds; the logging-service `by` had logged it."""

    role = Role.FACADE
    sentence = "acknowledged {id} {text}, logged by {by}, in {ms:.1f} ms"
    words = "acknowledged ({ms:.1f} ms)"

    id: str
    text: str
    by: str
    ms: float


@dataclass(frozen=True)
class Rejected(LogEvent):
    """The facade refused a message and answered with this HTTP status."""

    role, sentence, words = Role.FACADE, "{status} for {id}: {why}", "refused ({status}): {why}"

    status: int
    id: str
    why: str


@dataclass(frozen=True)
class Indeterminate(LogEvent):
    """The facade answered 504: the message may or may not be accepted."""

    role, sentence = Role.FACADE, "504 for {id}: {why}"
    words = "indeterminate (504): {why}"

    id: str
    why: str


@dataclass(frozen=True)
class Took(LogEvent):
    """A messages-service took messages from the queue and is about to store them; `ids` is a JSON list."""

    role, sentence, words = Role.MESSAGES, "took {ids}", "took it from the queue"

    ids: str

    @classmethod
    def of(cls, ids: Sequence[str]) -> Self:
        """Return the event for messages with these ids."""
        return cls(json.dumps(ids))

    @property
    def messages(self) -> list[str] | None:
        """The ids; None if the line was cut off."""
        try:
            return [message_id for message_id in json.loads(self.ids) if isinstance(message_id, str)]
        except ValueError:
            return None


@dataclass(frozen=True)
class Received(LogEvent):
    """A messages-service stored a message and shows it."""

    role, sentence, words = Role.MESSAGES, "received {id} {text}", "received, and stored"

    id: str
    text: str


@dataclass(frozen=True)
class Ignored(LogEvent):
    """A messages-service ignored a second delivery of a message that the messages-service `by` has stored."""

    role = Role.MESSAGES
    sentence = "ignored {id}, which {by} has already"
    words = "ignored a second delivery: {by} has it already"

    id: str
    by: str


@dataclass(frozen=True)
class Yielded(LogEvent):
    """A messages-service stopped showing a message that belongs to `by` since two halves of the cluster merged."""

    role = Role.MESSAGES
    sentence = "gave up {id}, which is {by}'s since the merge"
    words = "gave it up: it is {by}'s since the halves of the cluster merged"

    id: str
    by: str


@dataclass(frozen=True)
class Redelivered(LogEvent):
    """The facade put a message into the queue again: it was not stored within this many seconds."""

    role = Role.FACADE
    sentence = "redelivered {id}: it left the queue and was stored nowhere for {seconds} s"
    words = "put it into the queue again: it left the queue and was stored nowhere for {seconds} s"

    id: str
    seconds: int


@dataclass(frozen=True)
class NotRedelivered(LogEvent):
    """The facade could not put a message into the queue again; it will try again later."""

    role = Role.FACADE
    sentence = "{id} is not redelivered yet: {why}"
    words = "could not put it into the queue again: {why}"

    id: str
    why: str


@dataclass(frozen=True)
class GivenUp(LogEvent):
    """The facade made a dead letter of a message that was delivered this many times and not stored."""

    role = Role.FACADE
    sentence = "{id} is a dead letter now: not stored after {deliveries} deliveries"
    words = "gave it up, a dead letter now: not stored after {deliveries} deliveries"

    id: str
    deliveries: int


@dataclass(frozen=True)
class Replayed(LogEvent):
    """The facade sent a dead letter again."""

    role, sentence, words = Role.FACADE, "replayed the dead letter {id}", "replayed the dead letter"

    id: str


@dataclass(frozen=True)
class Foreign(LogEvent):
    """A messages-service made a dead letter of an item that is not a message; `id` is the dead letter's."""

    role = Role.MESSAGES
    sentence = "an item of the queue is a dead letter now, {id}: {why}"
    words = "took an item that is no message from the queue, a dead letter now: {why}"

    id: str
    why: str


EVENTS: tuple[type[LogEvent], ...] = (
    Stored,
    Removed,
    Acknowledged,
    Rejected,
    Indeterminate,
    Took,
    Received,
    Ignored,
    Yielded,
    Redelivered,
    NotRedelivered,
    GivenUp,
    Replayed,
    Foreign,
)
"""Every kind, in the order in which events of the same millisecond happened."""

_FIELDS = {
    "id": ".*?",
    # In a quoted text a backslash precedes each inner quote, and a blank the opening one: so the end of an id
    # is certain for every id.
    "text": r'"(?:[^"]|(?<=\\)")*"(?:… \(\d+ characters\))?',
    "by": r"\S+",
    "why": ".*",
    "ms": r"[\d.]+",
    "status": r"(?!504)\d{3}",
    "ids": r"\[.*\]",
    "seconds": r"\d+",
    "deliveries": r"\d+",
}
"""Field of an event -> its regular expression."""

_NUMBERS: dict[str, Callable[[str], float]] = {"ms": float, "status": int, "seconds": int, "deliveries": int}


def read_event(kind: type[K], text: str) -> K | None:
    """Return the event of this kind in the text of a line, if there is one."""
    return _read(kind, _pattern(kind.sentence), text)


class About:
    """Reads the events of one message; its id may contain any printable characters."""

    def __init__(self, message_id: str) -> None:
        self._id = message_id
        self._patterns = {
            kind: re.compile(_expression(kind.sentence, re.escape(escaped(message_id)))) for kind in EVENTS
        }

    def read(self, kind: type[LogEvent], text: str) -> LogEvent | None:
        """Return the event of this kind and this message in the text of a line, if there is one."""
        event = _read(kind, self._patterns[kind], text)
        return None if isinstance(event, Took) and self._id not in (event.messages or ()) else event


def _expression(sentence: str, message_id: str = _FIELDS["id"]) -> str:
    fields = {**_FIELDS, "id": message_id}
    return "".join(
        re.escape(literal) + (f"(?P<{name}>{fields[name]})" if name else "")
        for literal, name, _, _ in Formatter().parse(sentence)
    )


@cache
def _pattern(sentence: str) -> re.Pattern[str]:
    return re.compile(_expression(sentence))


def _read(kind: type[K], pattern: re.Pattern[str], text: str) -> K | None:
    match = pattern.fullmatch(text)
    return (
        kind(**{name: _NUMBERS.get(name, str)(value) for name, value in match.groupdict().items()}) if match else None
    )
