"""The command that makes a run's choices again, from what the run noted when it began."""

from __future__ import annotations

import ast
import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from microq.chaos.faults import FAULTS
from microq.chaos.faults.members import MemberFault
from microq.config import Queue


def command(facts: Mapping[str, Any]) -> str:
    """Return the command, quoted for a shell: who wrote the history may have written anything."""
    return shlex.join(["microq", "chaos", facts["scenario"], *_words(facts)])


def _words(facts: Mapping[str, Any]) -> Iterator[str]:
    yield from ("--queue", facts["queue"])
    kind: Any = FAULTS.get(facts["scenario"])
    if kind:
        if issubclass(kind, MemberFault) and facts.get("form") in {"live", "quiet"}:
            yield f"--{facts['form']}"
        chosen = _fields(str(facts.get("fault", "")))
        for field in dataclasses.fields(kind):
            value = chosen.get(field.name, field.default)
            if value != field.default:
                yield from (f"--{field.name}", str(value))
    for option in ("messages", "connections", "seed"):
        if facts.get(option) is not None:
            yield from (f"--{option}", str(facts[option]))
    if facts["backup_count"] != Queue().backup_count:
        yield from ("--set", f"queue.backup-count={facts['backup_count']}")


def _fields(fault: str) -> dict[str, Any]:
    """Return the values in the text of a fault, such as `BounceOwner(times=3)`; none if it is not one."""
    try:
        call = ast.parse(fault, mode="eval").body
        keywords = call.keywords if isinstance(call, ast.Call) else []
        return {word.arg: ast.literal_eval(word.value) for word in keywords if word.arg}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
