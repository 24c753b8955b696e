"""The message: its id, its text, and how it is written in the queue and in the maps."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from microq import tracing
from microq.errors import MessageError

MAX_ID = 200
"""Longest id accepted, in characters."""


_encode = json.JSONEncoder(ensure_ascii=False).encode
"""Made once: `json.dumps` makes an encoder for each message."""


class Outcome(StrEnum):
    """What a sender knows about a message after sending it."""

    ACKNOWLEDGED = "acknowledged"
    REJECTED = "rejected"
    INDETERMINATE = "indeterminate"


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `at` is when it was accepted, in a map when it was written there: seconds since the epoch.

    `by` is the instance that wrote it down (a logging-service in the `log` map, a messages-service in the
    `stored` map), empty while it is on its way. `trace` is the `traceparent` of what put it there, if that is traced.
    """

    id: str
    text: str
    at: float = 0.0
    by: str = ""
    trace: str = ""

    def to_json(self) -> str:
        """Return the message as one line of JSON text, the only form in which it enters the cluster."""
        fields = {"id": self.id, "text": self.text, "at": self.at, "by": self.by}
        if self.trace:
            fields["trace"] = self.trace
        return _encode(fields)

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read what `to_json` wrote.

        Raises `MessageError` for anything else: the queue may hold what others put there.
        """
        if not isinstance(raw, str):
            raise MessageError(f"not text but {type(raw).__name__}")
        try:
            fields = json.loads(raw)
            return cls(
                id=_text(fields["id"]),
                text=_text(fields["text"]),
                at=_time(fields["at"]),
                by=_text(fields["by"]),
                trace=tracing.checked(fields.get("trace")),
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise MessageError(f"not an envelope of microq ({type(error).__name__})") from error

    def to_wire(self) -> dict[str, Any]:
        """Return the message as the HTTP interfaces show it."""
        return {"uuid": self.id, "msg": self.text, "at": self.at, "by": self.by}

    @classmethod
    def from_wire(cls, fields: Any) -> Self:
        """Read a message from decoded JSON of a client: `{"msg": text, "uuid"?: id}`.

        Raises `MessageError` that says what is missing or wrong.
        """
        if not isinstance(fields, dict):
            raise MessageError('the body must be a JSON object such as {"msg": "text"}')
        if "msg" not in fields:
            raise MessageError('"msg" is missing; send {"msg": "text"}')
        text = fields["msg"]
        if not isinstance(text, str):
            raise MessageError(f'"msg" must be text, not {type(text).__name__}')
        if not text:
            raise MessageError('"msg" is empty; write some text')
        check_unicode("msg", text)
        return cls(id=check_id(fields.get("uuid", "")), text=text)


def check_id(value: Any) -> str:
    """Return `value` if it can be a message's id (empty: none was given), else raise `MessageError`."""
    if not isinstance(value, str):
        raise MessageError(f'"uuid" must be text, not {type(value).__name__}')
    if len(value) > MAX_ID:
        raise MessageError(f'"uuid" is longer than {MAX_ID} characters')
    if not value.isprintable():
        raise MessageError('"uuid" must have printable characters only')
    check_unicode("uuid", value)
    return value


def check_unicode(name: str, text: str) -> None:
    """Raise `MessageError` if `text` holds half a surrogate pair, which no encoding can carry."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MessageError(f'"{name}" holds half a surrogate pair, which is no character') from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # half a surrogate pair could be neither stored nor shown
    return value


def _time(value: Any) -> float:
    at = float(value)
    if not math.isfinite(at):
        raise ValueError
    return at


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the client knows after a send: the outcome, how long it took (seconds) and why it failed.

    `logged_by` names the logging-service that kept the message; `retry_after` is the pause in seconds that the
    facade asked for when it rejected the message.
    """

    id: str
    text: str
    outcome: Outcome
    seconds: float
    logged_by: str = ""
    reason: str = ""
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One GET of the facade: both sets, and which instances they came from (empty: none was up)."""

    logs: tuple[Message, ...]
    messages: tuple[Message, ...]
    logging_service: str
    messages_service: str


def union(readings: Sequence[Reading]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Return what several GETs of the facade showed together, each id once: the logs and the messages."""
    logs = {message.id: message for got in readings for message in got.logs}
    messages = {message.id: message for got in readings for message in got.messages}
    return tuple(logs.values()), tuple(messages.values())
