"""Small histories, built event by event."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microq.chaos.history import Entry, Kind
from microq.message import Outcome


def at(second: float, kind: Kind, **facts: Any) -> Entry:
    return Entry(kind, 1000.0 + second, second, facts)


def begin(**facts: Any) -> Entry:
    return at(0, "begin", **{"scenario": "kill-member", "queue": "hazelcast", "backup_count": 2, **facts})


def sent(
    message: str, outcome: Outcome | None = Outcome.ACKNOWLEDGED, second: float = 1, took: float = 0.1
) -> list[Entry]:
    send = at(second, "send", id=message)
    return [send, at(second + took, "outcome", id=message, outcome=outcome.value)] if outcome else [send]


def fault(second: float = 2, *, owner: bool = True, struck: bool = True, target: str = "hazelcast-1") -> list[Entry]:
    hit = at(second, "fault", fault="kill-member", target=target, pid=1, owner=owner)
    return [hit, at(second, "struck", target=target)] if struck else [hit]


def drained(reason: str = "") -> Entry:
    return at(3, "drained", complete=not reason, reason=reason)


def logged(*messages: str, instance: str = "logging-1", by: str = "logging-1") -> list[Entry]:
    return [
        at(4, "read", instance=instance, role="logging"),
        *(at(4, "logged", instance=instance, id=message, by=by) for message in messages),
    ]


def shown(*messages: str, instance: str = "messages-1", second: float = 2.5) -> list[Entry]:
    return [
        at(4, "read", instance=instance, role="messages"),
        *(at(4, "shown", instance=instance, id=message, at=1000.0 + second) for message in messages),
    ]


def copies(when: str, **members: tuple[int, int]) -> Entry:
    return at(1.5, "copies", when=when, members=members, owner="m1")


def whole(*parts: Entry | list[Entry]) -> list[Entry]:
    """Put parts together into one history, which has its end."""
    entries = [entry for part in parts for entry in (part if isinstance(part, list) else [part])]
    return [*entries, at(max([5.0, *(entry.mono for entry in entries)]), "end")]


def write(path: Path, entries: Sequence[Entry]) -> None:
    """Write a history as it is, in the order of its times."""
    lines = (
        {"kind": entry.kind, "wall": entry.wall, "mono": entry.mono, **entry.facts}
        for entry in sorted(entries, key=lambda entry: entry.mono)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
