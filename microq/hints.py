"""The commands that messages suggest: each works in any folder, with the options that select this system."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path

from microq.config import NAME_VARIABLE

OF_A_SYSTEM = frozenset({"-C", "--config", "--name"})
"""The options of every command that works on a system."""

OTHERS: dict[str, frozenset[str]] = {
    "ls": frozenset(),
    "help": frozenset(),
    "chaos list": frozenset(),
    "report": frozenset({"-C"}),
    "verify": frozenset({"-C"}),
    "fetch": frozenset({"-C", "--config"}),
    **dict.fromkeys(("send", "read", "dead"), OF_A_SYSTEM | {"--url"}),
}
"""Command -> those of the options that it needs, if they are not `OF_A_SYSTEM`."""

VARIABLE = "MICROQ_HINTS"
"""The environment variable that has the options of the process that started this one."""

_COMMAND = re.compile(r"`microq (?P<words>[^`]*)`")

_GIVEN: ContextVar[dict[str, str]] = ContextVar("given", default={})  # noqa: B039 - it is replaced, never changed
"""Option -> its value: the options that the user gave to this process."""


def lead(option: str, value: str) -> Callable[[], None]:
    """Add `-C`, `--config` or `--url` to commands that are suggested from now on; return a function that ends it."""
    token = _GIVEN.set({**_GIVEN.get(), option: value})
    return lambda: _GIVEN.reset(token)


def moved() -> bool:
    """Return whether the user's shell is in another folder: a path relative to this folder is wrong there."""
    return "-C" in _GIVEN.get()


def variables() -> dict[str, str]:
    """Return the environment with which a child suggests commands as this process does, readable in any folder."""
    options, given = _inherited(), _GIVEN.get()
    if "-C" in given:
        options["-C"] = str(Path.cwd())
    if "--config" in given:
        options["--config"] = str(Path(given["--config"]).absolute())
    return {VARIABLE: json.dumps(options)}


def _inherited() -> dict[str, str]:
    found: dict[str, str] = json.loads(os.environ.get(VARIABLE, "{}"))
    return found


def pasteable(text: str) -> str:
    """Return a text with the options added to its commands that select the system of this process."""
    name = os.environ.get(NAME_VARIABLE)
    options = {**_inherited(), **_GIVEN.get(), **({"--name": name} if name else {})}
    return _COMMAND.sub(lambda command: _led(command["words"], options), text) if options else text


def _led(words: str, options: Mapping[str, str]) -> str:
    given = words.split()
    needed = OTHERS.get(" ".join(given[:2]), OTHERS.get(given[0], OF_A_SYSTEM))
    before, after = "", ""
    for option, value in options.items():
        if option in given or option not in needed:
            continue
        if option == "-C":
            before = f"-C {shlex.quote(value)} "
        else:
            after += f" {option} {shlex.quote(value)}"
    return f"`microq {before}{words}{after}`"
