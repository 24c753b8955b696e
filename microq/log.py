"""One line format for every process: time, level, process, text; or the same as one JSON object a line.

Only `setup` touches handlers; every other module has `log = logging.getLogger(__name__)`. Whoever reads log
files does so by `parse`, which knows both formats.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import IO, Any

_SHOWN = 200
"""Characters of a text that a log line shows."""

_TEXT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}) ([A-Z]+) +(\S+) +(.*)")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log: when (seconds since the epoch), how grave, which process, what it says.

    `trace` is the id of the trace that it belongs to, if any; `traceback` has an error's lines, in a JSON line only.
    """

    at: float
    level: str
    name: str
    text: str
    trace: str = ""
    traceback: str = ""

    def __str__(self) -> str:
        """Return it in the text format, without what only JSON has but the lines of an error."""
        milliseconds = round(self.at * 1000)
        first = _text_line(_stamp(milliseconds // 1000, milliseconds % 1000), self.level, self.name, self.text)
        more = (f"  {line}" for line in self.traceback.split("\n")) if self.traceback else ()
        return "\n".join(map(escaped, (first, *more)))


def parse(line: str) -> Line | None:
    """Read one line of a log file, in text or in JSON; None if it is neither: a line of a traceback, or cut short."""
    line = line.rstrip("\r\n")
    try:
        if line.startswith("{"):
            fields = json.loads(line)
            # Texts all of them: what a foreign hand wrote is no line of ours.
            at, *words = (fields[key] + "" for key in ("at", "level", "process", "message"))
            more = (fields.get(key, "") + "" for key in ("trace", "traceback"))
            return Line(datetime.fromisoformat(at).timestamp(), *words, *more)
        if found := _TEXT.fullmatch(line):
            return Line(datetime.fromisoformat(found[1]).timestamp(), found[2], found[3], found[4])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return None


def readable(line: str) -> str:
    """Return a line in the text format, whichever it has; one with a traceback becomes several."""
    parsed = parse(line) if line.startswith("{") else None
    return str(parsed) if parsed else line


def _stamp(seconds: float, milliseconds: int) -> str:
    """Return the local time, as the members' log lines have it."""
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
        """Return the one line of a record, whatever was put into it."""
        stamp = _stamp(record.created, int(record.msecs))
        return _text_line(stamp, record.levelname, self._name, escaped(record.message))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        """Return a traceback, indented: none of its lines can pass for a line of the log."""
        return "\n".join(f"  {escaped(line)}" for line in super().formatException(ei).split("\n"))


class _JsonFormatter(logging.Formatter):
    def __init__(self, name: str, trace_id: Callable[[], str]) -> None:
        super().__init__()
        self._name, self._trace_id = name, trace_id

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one JSON object in one line; its message is the text format's, letter by letter."""
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
    """Writes what one turn of the event loop logs in one piece at its end; a warning, or without a loop, at once.

    A write for each line is a fifth of what a message costs a service.
    """

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self._stream = stream
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line, and write it now or soon."""
        self._lines.append(self.format(record))
        if len(self._lines) == 1 and record.levelno < logging.WARNING:
            try:
                asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:
                self.flush()
        elif record.levelno >= logging.WARNING:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            if lines:
                self._stream.write("\n".join([*lines, ""]))
                self._stream.flush()


def flush() -> None:
    """Write every line that is logged and not written yet: what follows may be the end of this process."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def setup(name: str, level: int = logging.INFO, *, form: str = "text", trace_id: Callable[[], str] = str) -> None:
    """Send every logger's lines to standard output in the one format, under this process's `name`.

    The `form` is `text` or `json`; in a JSON line stands what `trace_id` returns, unless it is empty.
    """
    # What no line shows is not looked up either, as the documentation of `logging` proposes.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - the documented way
    handler = _Handler(sys.stdout)
    handler.setFormatter(_JsonFormatter(name, trace_id) if form == "json" else _Formatter(name))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # The client tells each reconnection attempt; what matters of it the services say themselves.
    logging.getLogger("hazelcast").setLevel(logging.ERROR)
    # Nor each batch of spans that was not delivered: `tracing` says it once.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def quoted(text: str) -> str:
    """Return `text` in quotes, in one line, unable to forge a log line or to colour a terminal."""
    shown = text[:_SHOWN]
    more = f"… ({len(text)} characters)" if len(text) > _SHOWN else ""
    return '"' + escaped(shown).replace('"', r"\"") + '"' + more


def escaped(text: str) -> str:
    """Return `text` in one line, without what could move or colour a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
