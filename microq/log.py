"""One line format for every process: time, level, process, text.

Only `setup` touches handlers; every other module has `log = logging.getLogger(__name__)`.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

_SHOWN = 200
"""Characters of a text that a log line shows."""


class _Formatter(logging.Formatter):
    def __init__(self, name: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {name:<16} %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - the name and arguments are logging's
        """Return the local time with milliseconds, as the members' log lines have it."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
        return f"{stamp}.{int(record.msecs):03d}"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Return the one line of a record, whatever was put into it."""
        return escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        """Return a traceback, indented: none of its lines can pass for a line of the log."""
        return "\n".join(f"  {escaped(line)}" for line in super().formatException(ei).split("\n"))


def setup(name: str, level: int = logging.INFO) -> None:
    """Send every logger's lines to standard output in the one format, under this process's `name`."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter(name))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # The client tells each reconnection attempt; what matters of it the services say themselves.
    logging.getLogger("hazelcast").setLevel(logging.ERROR)
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
