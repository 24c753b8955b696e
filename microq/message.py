"""The message: its id, its text, and its form in the queue and in the maps."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, Self

from microq import tracing
from microq.errors import MessageError

MAX_ID = 200
"""Length of the longest id that is accepted, in characters."""


_encode = json.JSONEncoder(ensure_ascii=False).encode
"""Made once: `json.dumps` would make an encoder for each message."""


class Outcome(StrEnum):
    """What a sender knows about a message after the send."""

    ACKNOWLEDGED = "acknowledged"
    REJECTED = "rejected"
    INDETERMINATE = "indeterminate"


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `at` is when it was accepted or, in a map, when it was written: seconds since the epoch.

    `by` is the instance that wrote it to a map (a logging-service to the `log` map, a messages-service to the `stored`
    map), and empty before. `trace` is the `traceparent` of the writer, if it is traced.

    In the queue it also has `since`: the monotonic time at which it was accepted, within `epoch`, one life of a facade.
    `since` orders messages even if a clock is set; `at` does not.

    `partition` is its partition of the queue, if the queue has partitions: only the process that received it knows it.

    `delivery` is the number of this copy in the queue: 1 at first, and one more for each further put, so that no two
    copies have the same. `places` says for each store journal how many slots it had when the message was accepted, as
    far as known; the message is in none of these. `era` is the number of joins of members known by then.
    """

    id: str
    text: str
    at: float = 0.0
    by: str = ""
    trace: str = ""
    since: float = 0.0
    epoch: str = ""
    partition: int | None = field(default=None, compare=False)
    delivery: int = 1
    era: int = 0
    places: Mapping[str, int] = field(default_factory=dict, compare=False)

    def to_json(self) -> str:
        """Return the message as one line of JSON, its only form in the cluster."""
        fields: dict[str, Any] = {"id": self.id, "text": self.text, "at": self.at, "by": self.by}
        if self.trace:
            fields["trace"] = self.trace
        if self.epoch:
            fields |= {"since": self.since, "epoch": self.epoch}
        if self.delivery > 1:
            fields["delivery"] = self.delivery
        if self.era:
            fields["era"] = self.era
        if self.places:
            fields["places"] = dict(self.places)
        return _encode(fields)

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read the output of `to_json`.

        Raises `MessageError` for anything else: other programs may put items into the queue.
        """
        if not isinstance(raw, str):
            raise MessageError("not text, but a serialized object")
        try:
            fields = json.loads(raw)
            return cls(
                id=_text(fields["id"]),
                text=_text(fields["text"]),
                at=_time(fields["at"]),
                by=_text(fields["by"]),
                trace=tracing.checked(fields.get("trace")),
                since=_time(fields.get("since", 0.0)),
                epoch=_text(fields.get("epoch", "")),
                delivery=_count(fields.get("delivery", 1)),
                era=_count(fields.get("era", 0)),
                places={_text(name): _count(place) for name, place in fields.get("places", {}).items()},
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, AttributeError) as error:
            raise MessageError("not an envelope of microq") from error

    def to_wire(self) -> dict[str, Any]:
        """Return the message in the form of the HTTP API."""
        fields = {"uuid": self.id, "msg": self.text, "at": self.at, "by": self.by}
        return fields if self.partition is None else {**fields, "partition": self.partition}

    @classmethod
    def from_wire(cls, fields: Any) -> Self:
        """Read a message from a client's decoded JSON: `{"msg": text, "uuid"?: id}`, or only the text.

        `message` is another name for `msg`. Raises `MessageError` with what is missing or wrong.
        """
        if isinstance(fields, str):
            fields = {"msg": fields}
        if not isinstance(fields, dict):
            raise MessageError(f'a message is a JSON object such as {{"msg": "text"}}, not {kind(fields)}')
        name = "message" if "message" in fields and "msg" not in fields else "msg"
        if name not in fields:
            raise MessageError('"msg" is missing; send {"msg": "text"}')
        text = fields[name]
        if not isinstance(text, str):
            raise MessageError(f'"{name}" must be text, not {kind(text)}; send {{"{name}": "text"}}')
        if not text:
            raise MessageError(f'"{name}" is empty; write some text')
        check_unicode(name, text)
        return cls(id=check_id(fields.get("uuid", "")), text=text)


def text_hash(text: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a text in UTF-8: texts are compared by it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def check_id(value: Any) -> str:
    """Return `value` if it is a valid id of a message (empty: none was given), else raise `MessageError`."""
    if not isinstance(value, str):
        raise MessageError(f'"uuid" must be text, not {kind(value)}')
    if len(value) > MAX_ID:
        raise MessageError(f'"uuid" is longer than {MAX_ID} characters')
    if not value.isprintable():
        raise MessageError('"uuid" must have printable characters only')
    check_unicode("uuid", value)
    return value


def kind(value: Any) -> str:
    """Return the name of a decoded JSON value's type, as users of JSON call it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), "not JSON")


def check_unicode(name: str, text: str) -> None:
    """Raise `MessageError` if `text` contains half a surrogate pair, which no encoding can represent."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MessageError(f'"{name}" contains half a surrogate pair, which is not a character') from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # half a surrogate pair can be neither stored nor shown
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise TypeError
    return value


def _time(value: Any) -> float:
    at = float(value)
    if not math.isfinite(at):
        raise ValueError
    return at


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the client knows after a send: the outcome, the duration in seconds and the reason of a failure.

    `logged_by` is the logging-service that logged the message; `retry_after` is the pause in seconds that the facade
    asked for when it rejected the message.
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
    """One GET of the facade: both sets, and the instances that they came from (empty: none was up; None: unknown)."""

    logs: tuple[Message, ...]
    messages: tuple[Message, ...]
    logging_service: str | None
    messages_service: str | None
    hidden: Mapping[str, int] = field(default_factory=dict)
    """Silent messages-service -> about how many messages it stored that no other one shows."""
    merging: bool = False
    """Whether it may show only some of the messages: the halves of a cluster may be merging."""


def union(readings: Sequence[Reading]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Return the logs and the messages that several GETs of the facade showed together, each id once."""
    logs = {message.id: message for got in readings for message in got.logs}
    messages = {message.id: message for got in readings for message in got.messages}
    return tuple(logs.values()), tuple(messages.values())


# -- records of messages that the queue did not deliver at once --------------------------------------------------------

_NEEDED = dataclasses.MISSING
"""The default of a field that every record must contain."""

_TYPES: dict[str, Any] = {"str": str, "float": (int, float), "int": int, "bool": bool}


class Record(Protocol):
    """A value of a map, under an id, as one line of JSON."""

    @property
    def id(self) -> str:
        """The key."""

    @property
    def at(self) -> float:
        """When it was written, in seconds since the epoch."""

    def to_json(self) -> str:
        """Return it as one line of JSON."""

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read the output of `to_json`; raises `MessageError` for anything else."""


@dataclass(frozen=True, slots=True)
class JsonRecord:
    """A dataclass of plain values that is kept in a map as one line of JSON."""

    def to_json(self) -> str:
        """Return the record as one line of JSON."""
        return _encode({field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read what `to_json` wrote; raises `MessageError` for anything else."""
        listed = dataclasses.fields(cls)
        if not isinstance(raw, str):
            raise MessageError(f"not text but {type(raw).__name__}")
        try:
            found = json.loads(raw)
            fields = {f.name: found[f.name] for f in listed if f.name in found or f.default is _NEEDED}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise MessageError(f"not a record of microq ({type(error).__name__})") from error
        types = {f.name: _TYPES[str(f.type)] for f in listed}
        wrong = [name for name, value in fields.items() if not isinstance(value, types[name])]
        if wrong:
            raise MessageError(f"not a record of microq ({', '.join(wrong)})")
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class DeadLetter(JsonRecord):
    """An item that no consumer will get: `reason` says why, `by` is the process that made it a dead letter.

    `at` is when that happened (seconds since the epoch). `text` is the text of a message, which is `replayable`, or an
    item of the queue that is text but not a microq message, which is not.
    """

    id: str
    text: str
    reason: str
    by: str
    at: float
    replayable: bool


@dataclass(frozen=True, slots=True)
class Redelivery(JsonRecord):
    """A message that was put into the queue again: `tries` times, the last time at `at` (seconds since the epoch).

    `since` is the same moment on the facade's monotonic clock, within its life `epoch`.
    """

    id: str
    tries: int
    at: float
    since: float = 0.0
    epoch: str = ""
