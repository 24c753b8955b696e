"""One line format for every process: time, level, process, text.

Only `setup` touches handlers; every other module has `log = logging.getLogger(__name__)`.
"""

from __future__ import annotations

import logging
import sys
import time

_SHOWN = 200
"""Characters of a text that a log line shows."""


class _Formatter(logging.Formatter):
    def __init__(self, name: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {name:<16} %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - the name and arguments are logging's
        """Return the local time with milliseconds, as the members' log lines have it."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
        return f"{stamp}.{int(record.msecs):03d}"


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
    safe = "".join(c if c.isprintable() and c != '"' else _escaped(c) for c in shown)
    more = f"… ({len(text)} characters)" if len(text) > _SHOWN else ""
    return f'"{safe}"{more}'


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode() if character != '"' else r"\""
