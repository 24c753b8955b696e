"""The commands that messages suggest: each works in any folder, with the options that select this system."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from contextvars import ContextVar

from microq.config import NAME_VARIABLE

NAMELESS = ("fetch", "ls", "help", "report", "verify", "chaos list")
"""The commands that do not work on a system."""

TO_THE_FACADE = frozenset({"send", "read", "dead"})
"""The commands that take `--url`."""

_COMMAND = re.compile(rf"`microq (?!(?:{'|'.join(NAMELESS)})\b)(?P<words>[^`]*)`")

_WAY: ContextVar[dict[str, str]] = ContextVar("way", default={})  # noqa: B039 - it is replaced, never changed
"""Option -> its value: the options that select the system of this process."""


def lead(option: str, value: str) -> Callable[[], None]:
    """Add `-C`, `--config` or `--url` to commands that are suggested from now on; return a function that ends it."""
    token = _WAY.set({**_WAY.get(), option: value})
    return lambda: _WAY.reset(token)


def pasteable(text: str) -> str:
    """Return a text with the options added to its commands that select the system of this process."""
    name = os.environ.get(NAME_VARIABLE)
    way = {**_WAY.get(), **({"--name": name} if name else {})}
    return _COMMAND.sub(lambda command: _led(command["words"], way), text) if way else text


def _led(words: str, way: dict[str, str]) -> str:
    before, after = "", ""
    for option, value in way.items():
        given = words.split()
        if option in given or (option == "--url" and given[0] not in TO_THE_FACADE):
            continue
        if option == "-C":
            before = f"-C {shlex.quote(value)} "
        else:
            after += f" {option} {shlex.quote(value)}"
    return f"`microq {before}{words}{after}`"
