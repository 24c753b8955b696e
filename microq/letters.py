"""What is known of messages that the queue did not deliver at once: redeliveries and dead letters."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Self

from microq.errors import MessageError


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item that no consumer will get: `reason` says why, `by` who gave it up, `at` when (seconds since the epoch).

    `text` is the message's text, or the item itself if it was text and no message of ours; `replayable` says which.
    """

    id: str
    text: str
    reason: str
    by: str
    at: float
    replayable: bool

    def to_json(self) -> str:
        """Return the letter as one line of JSON text."""
        return _to_json(self)

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read what `to_json` wrote; raises `MessageError` for anything else."""
        return cls(**_fields(cls, raw))


@dataclass(frozen=True, slots=True)
class Redelivery:
    """A message that was put into the queue again: `tries` times, the last time at `at` (seconds since the epoch)."""

    id: str
    tries: int
    at: float

    def to_json(self) -> str:
        """Return the record as one line of JSON text."""
        return _to_json(self)

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read what `to_json` wrote; raises `MessageError` for anything else."""
        return cls(**_fields(cls, raw))


_TYPES: dict[str, Any] = {"str": str, "float": (int, float), "int": int, "bool": bool}


def _to_json(record: Any) -> str:
    return json.dumps(dataclasses.asdict(record), ensure_ascii=False)


def _fields(kind: Any, raw: object) -> dict[str, Any]:
    if not isinstance(raw, str):
        raise MessageError(f"not text but {type(raw).__name__}")
    try:
        found = json.loads(raw)
        fields = {field.name: found[field.name] for field in dataclasses.fields(kind)}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MessageError(f"no record of microq ({type(error).__name__})") from error
    wrong = [f.name for f in dataclasses.fields(kind) if not isinstance(fields[f.name], _TYPES[str(f.type)])]
    if wrong:
        raise MessageError(f"no record of microq ({', '.join(wrong)})")
    return fields
