"""Why a child ended, from what it logged: its last error, or its last lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from microq import log

TAIL = 3
"""The number of last lines that are shown of a log without an error."""

_EXCEPTION = re.compile(
    r"(?:[ |]*|Caused by: |Terminating due to |Exception in thread \".*\" )"
    r"((?:[\w$]+\.)*[A-Z][\w$]*(?:Error|Exception)(?:: .*)?)"
)
"""An exception in the form of a JVM or of Python. The last of several causes is the root."""

_FRAME = re.compile(r"\s+(?:at |\.\.\. \d+ |File \").*|[\s|+~^-]*|Traceback .*")

_OURS = re.compile(r"microq: (.*)")

_ERROR_LEVELS = frozenset({"ERROR", "CRITICAL", "SEVERE", "FATAL"})

_BOILERPLATE = frozenset(
    {
        "Error occurred during initialization of VM",
        "Error: Could not create the Java Virtual Machine.",
        "Error: A fatal exception has occurred. Program will exit.",
    }
)
"""Lines that a JVM prints beside the reason why it cannot start."""


def cause_of(text: str) -> str:
    """Return the last error of a child's log, or its last lines, as the end of a sentence; empty if there is none."""
    lines = [line for raw in text.splitlines() for line in log.readable(raw).split("\n")]
    last = next(_errors(reversed(lines)), None)
    if last is not None:
        return f"; its last error: {log.escaped(last)}"
    rest = [line.strip() for line in lines if line not in _BOILERPLATE and not _FRAME.fullmatch(line)][-TAIL:]
    if len(rest) == 1:
        return f": {log.escaped(rest[0])}"
    return "; its last lines:" + "".join(f"\n  {log.escaped(line)}" for line in rest) if rest else ""


def _errors(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    for line in lines:
        if found := _OURS.fullmatch(line) or _EXCEPTION.fullmatch(line):
            yield found[1]
        elif (parsed := log.parse(line)) and parsed.level in _ERROR_LEVELS:
            yield parsed.text
