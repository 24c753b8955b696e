"""The wire: how one talks to the services over HTTP, and where the texts of messages are in their answers.

Pure: it makes requests and reads answers, and sends nothing. The default is the wire of microq's own services.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, quote_plus

from microq.errors import UnreadableError
from microq.message import Outcome, kind
from microq.settings import check_placeholders, filled, flag, key, one_line, one_of

TEXT, ID = "text", "id"
"""The placeholders of a request: the text of the message, and an id made for it."""

RAW, NOWHERE = "~", "-"
"""The first letter of a place that is a regular expression; the place of texts that an answer does not have."""

MOST_SHOWN = 80
"""Characters of a value that a problem shows."""


@dataclass(frozen=True, slots=True)
class Call:
    """A method and a path; an empty method: there is no such call."""

    method: str = ""
    path: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path}".strip()

    def __bool__(self) -> bool:
        return bool(self.method)


def call(value: Any) -> Call:
    """Read a call, such as `GET /messages`; an empty text is no call."""
    if isinstance(value, Call) or value == "":
        return value or Call()
    method, _, path = one_line(value).strip().partition(" ")
    path = path.strip()
    if method not in {"GET", "POST", "PUT"} or not path.startswith("/") or " " in path:
        raise ValueError(f'must be a method and a path such as "POST /facade", not {value!r}')
    check_placeholders(path, (TEXT, ID))
    return Call(method, path)


def template(value: Any) -> str:
    """Read the template of a body; it may have several lines."""
    if not isinstance(value, str):
        raise ValueError(f'must be a text such as \'{{"msg": "{{text}}"}}\', not {value!r}')
    check_placeholders(value, (TEXT, ID))
    return value


def statuses(value: Any) -> str:
    """Read a list of statuses such as `200 201` or `2xx`."""
    text = one_line(value).strip()
    if not all(re.fullmatch(r"[1-5](\d\d|xx)", each) for each in text.split()):
        raise ValueError(f'must be statuses such as "2xx" or "200 202", not {value!r}')
    return text


def pattern(value: Any) -> str:
    """Read a regular expression; an empty one is valid too."""
    if not isinstance(value, str):
        raise ValueError(f"must be a regular expression, not {value!r}")
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from error
    return value


def place(value: Any) -> str:
    """Read a place: names and `*` with dots between them, a regular expression after `~`, or `-`."""
    if not isinstance(value, str):
        raise ValueError(f'must be a place such as "logs" or "*.msg", not {value!r}')
    if value.startswith(RAW):
        pattern(value.removeprefix(RAW))
    elif value and not all(value.split(".")):
        raise ValueError(f'must be names with single dots between them, such as "logs" or "*.msg", not {value!r}')
    return value


NAMES = ("microq", "message", "uuid", "string", "text", "form")
"""The names of the ready wires."""


@dataclass(frozen=True, slots=True)
class Wire:
    """Table `[wire]`: how to talk to external services.

    `send` is the call that sends a message, with a `body` of a `content_type`. An answer with one of the statuses
    `acknowledged`, in which `acknowledged_text` is found, is an acknowledgement; one of the statuses `refused` says
    that the message was certainly not accepted; any other answer leaves that open.

    `read` is the call of the facade that reads both sets; they are at `read_logs` and `read_messages` of its answer.
    `logging` and `messages` are the calls of one instance, whose texts are at `logging_texts` and `messages_texts`.
    What has no call, or is at `-`, cannot be seen.

    `shared_log` says whether each logging-service shows the whole log, not only what it was sent itself.
    """

    like: str = key(one_of(*NAMES), "microq")
    send: Call = key(call, Call("POST", "/facade"))
    content_type: str = key(one_line, "application/json")
    body: str = key(template, '{"msg": "{text}"}')
    acknowledged: str = key(statuses, "2xx")
    acknowledged_text: str = key(pattern, "")
    refused: str = key(statuses, "4xx")
    read: Call = key(call, Call("GET", "/facade"))
    read_logs: str = key(place, "logs")
    read_messages: str = key(place, "message")
    logging: Call = key(call, Call("GET", "/log"))
    logging_texts: str = key(place, "")
    messages: Call = key(call, Call("GET", "/messages"))
    messages_texts: str = key(place, "")
    shared_log: bool = key(flag, default=True)

    @classmethod
    def made(cls, **rows: Any) -> Wire:
        """Return the wire with these values; the others are those of the ready wire that it is like."""
        return replace(READY[rows.get("like", cls().like)], **rows)

    # -- the request ---------------------------------------------------------------------------------------------------

    def path(self, text: str, message_id: str) -> str:
        """Return the path of the call that sends a message."""
        return _filled(self.send.path, text, message_id, lambda value: quote(value, safe=""))

    def request(self, text: str, message_id: str) -> str:
        """Return the body of the call that sends a message."""
        return _filled(self.body, text, message_id, self._escape())

    def _escape(self) -> Callable[[str], str]:
        if "json" in self.content_type:
            return lambda value: json.dumps(value, ensure_ascii=False)[1:-1]
        return quote_plus if "urlencoded" in self.content_type else str

    # -- the answer ----------------------------------------------------------------------------------------------------

    def outcome(self, status: int, answer: str) -> tuple[Outcome, str]:
        """Return what an answer says about a message, and, unless it acknowledges, what was expected and what came."""
        if _is_one_of(status, self.acknowledged):
            if re.search(self.acknowledged_text, answer):
                return Outcome.ACKNOWLEDGED, ""
            expected = f"an answer that contains {self.acknowledged_text!r} ([wire] acknowledged-text)"
        else:
            expected = f"the status {self.acknowledged} ([wire] acknowledged)"
        refused = _is_one_of(status, self.refused)
        came = f"{status} with {_shown(answer)}"
        return Outcome.REJECTED if refused else Outcome.INDETERMINATE, f"expected {expected}, came {came}"


def _filled(template: str, text: str, message_id: str, escape: Callable[[str], str]) -> str:
    return filled(template, {TEXT: escape(text), ID: escape(message_id)})


def _is_one_of(status: int, listed: str) -> bool:
    return any(each in {str(status), f"{status // 100}xx"} for each in listed.split())


def texts_at(place: str, answer: str) -> list[str]:
    """Return the texts at a place of an answer; raises `UnreadableError`."""
    if place.startswith(RAW):
        found = list(re.finditer(place.removeprefix(RAW), answer, re.DOTALL))
        if not found:
            raise UnreadableError(f"expected text that matches {place.removeprefix(RAW)!r}, came {_shown(answer)}")
        return [hit[1] if hit.re.groups else hit[0] for hit in found]
    try:
        body = json.loads(answer)
    except (ValueError, RecursionError):
        if place:
            raise UnreadableError(f"expected JSON with {place!r}, came {_shown(answer)}") from None
        return [answer]
    return list(_leaves(_at(body, place.split(".") if place else [], place)))


def _at(body: Any, names: list[str], place: str) -> Any:
    for number, name in enumerate(names):
        if name == "*":
            if not isinstance(body, list | dict):
                raise UnreadableError(f"expected a list or an object at the * of {place!r}, came {_shown(body)}")
            listed = body if isinstance(body, list) else list(body.values())
            return [_at(each, names[number + 1 :], place) for each in listed]
        if not isinstance(body, dict):
            raise UnreadableError(f"expected an object with {name!r} ({place!r}), came {_shown(body)}")
        if name not in body:
            came = ", ".join(map(repr, body)) or "an empty object"
            raise UnreadableError(f"expected {name!r} ({place!r}), came an object with {came}")
        body = body[name]
    return body


def _leaves(body: Any) -> Iterator[str]:
    """Yield every text in a decoded JSON value, except the names of an object."""
    if isinstance(body, list | dict):
        for each in body if isinstance(body, list) else body.values():
            yield from _leaves(each)
    elif body is not None:
        yield body if isinstance(body, str) else json.dumps(body)


def _shown(value: Any) -> str:
    """Return a value for a problem: in one line, and not too long."""
    what = "" if isinstance(value, str) else f"{kind(value)}: "
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    short = text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
    return f"{what}{short!r}" if short else "an empty answer"


# -- known texts -------------------------------------------------------------------------------------------------------


def spotted(answers: Iterable[str], known: Collection[str]) -> list[str]:
    """Return the known texts that occur in some texts, in their order, as often as each occurs.

    Several may be joined in one text: in "msg1msg10" are msg1 and msg10, each once. So texts that differ only in their
    numbers are found, however they are joined.
    """
    if not known:
        return []
    shapes = {re.sub(r"\d+", "0", text) for text in known}
    alternatives = (re.escape(shape).replace("0", r"\d+") for shape in sorted(shapes, key=len, reverse=True))
    finder = re.compile("|".join(alternatives))
    wanted = known if isinstance(known, set | frozenset | dict) else set(known)
    return [found for answer in answers for found in finder.findall(answer) if found in wanted]


def count(answers: Iterable[str], known: Collection[str]) -> Counter[str]:
    """Return how often each known text occurs in some texts, as `spotted` finds them."""
    return Counter(spotted(answers, known))


_MICROQ = Wire()

READY: dict[str, Wire] = {
    "microq": _MICROQ,
    "message": replace(_MICROQ, like="message", body='{"message": "{text}"}'),
    "uuid": replace(_MICROQ, like="uuid", body='{"uuid": "{id}", "msg": "{text}"}'),
    "string": replace(_MICROQ, like="string", body='"{text}"'),
    "text": replace(_MICROQ, like="text", content_type="text/plain", body="{text}"),
    "form": replace(_MICROQ, like="form", content_type="application/x-www-form-urlencoded", body="msg={text}"),
}
"""The ready wires, by name: each sends a message in another form; the rest is as in microq's own."""
