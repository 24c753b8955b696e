"""The faults as the page offers them: their options, and whether they can be done to the system that runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from microq.chaos.faults import CHECKS, FAULTS
from microq.chaos.faults.base import Fault
from microq.chaos.faults.members import KINDS, MemberFault
from microq.config import Config
from microq.errors import UsageError


def offered(config: Config) -> list[dict[str, Any]]:
    """Return every fault as JSON has it."""
    return [_offered(name, kind, config) for name, kind in FAULTS.items()]


def _offered(name: str, kind: type[Fault], config: Config) -> dict[str, Any]:
    why_not = _why_not(kind, config)
    return {
        "name": name,
        "help": (kind.__doc__ or "").split("\n", 1)[0].rstrip("."),
        "quiet": issubclass(kind, MemberFault),
        "quiet_default": kind in CHECKS,
        "runnable": not why_not,
        "why_not": why_not,
        "fields": list(_fields(kind)),
    }


def _why_not(kind: type[Fault], config: Config) -> str:
    """Return why a fault cannot be done to a system with this configuration; empty if it can."""
    needed = [each for each in kind.settings if each != f"queue.backend={config.queue.backend}"]
    if kind.needs_links or needed:
        what = "links between its processes" if kind.needs_links else ", ".join(needed)
        return f"it needs a system of its own, with {what}: `microq down`, then `microq chaos {kind.name}`"
    if config.queue.backend not in kind.backends:
        return f"it is a fault of {' and '.join(kind.backends)}"
    return "" if config.managed else "the servers are not microq's"


def _fields(kind: Any) -> Any:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        yield {
            "name": field.name,
            "help": field.metadata["help"],
            "type": hints[field.name].__name__,
            "choices": list(KINDS) if field.name == "target" else [],
            "least": field.metadata["least"],
            "most": field.metadata["most"],
            "default": field.default,
        }


def words(name: str, messages: int | None, quiet: bool | None, options: Mapping[str, Any]) -> Sequence[str]:  # noqa: FBT001 - what the page sends
    """Return the command line of `microq chaos` for a fault. Raises `UsageError` for what is none of its options."""
    kind: Any = FAULTS.get(name)
    if kind is None:
        raise UsageError(f"no fault is called {name!r}; `microq chaos list` shows them")
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(set(options) - known):
        raise UsageError(f"{name} has no option {', '.join(map(repr, unknown))}")
    found = [name, *(f"--{option}={value}" for option, value in options.items())]
    if messages is not None:
        found.append(f"--messages={messages}")
    if quiet is not None and issubclass(kind, MemberFault):
        found.append("--quiet" if quiet else "--live")
    return found
