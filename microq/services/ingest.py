"""The bodies of a POST that are accepted as a message: JSON, a form, or plain text."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from microq.errors import MessageError
from microq.services.app import decoded, read_text
from microq.services.routes import FORM, ID, JSON, MSG, Media

ANYHOW = """send {"msg": "text"}, "text", a form msg=text, or plain text"""

_FIELDS = ("msg", "message", "uuid")

_IS_FORM = re.compile(r"\s*[\w.-]+=")
"""The beginning of a form. `curl -d hello` declares its body as a form, too."""

_MOST_FIELDS = 10

TAKES = {
    JSON: Media(
        {
            "anyOf": [
                {"type": "object", "required": ["msg"], "properties": {"msg": MSG, "uuid": ID}},
                {
                    "type": "object",
                    "required": ["message"],
                    "properties": {"msg": False, "message": MSG, "uuid": ID},
                },
                MSG,
            ]
        },
        {"msg": "hello"},
    ),
    FORM: Media(
        {
            "type": "object",
            "properties": {"msg": MSG, "message": MSG, "uuid": ID},
            "oneOf": [{"required": ["msg"]}, {"required": ["message"]}],
            "additionalProperties": False,
        },
        {"msg": "hello"},
    ),
    "text/plain": Media({"type": "string", "pattern": r'^\s*[^\s{\["]'}, "hello"),
}
"""The bodies that are accepted as a message."""


async def read(request: web.Request) -> Any:
    """Return the content of a body: decoded JSON, or `{"msg": text}`. Raises `MessageError`.

    A body that begins with `{`, `[` or `"` is JSON, whatever its content type. A body is a form if its content type
    says so and it begins like one. Any other body is the text itself, unless its content type is JSON or not a text.
    """
    text, kind = await read_text(request), request.content_type
    begin = text.lstrip()[:1]
    if kind == JSON or kind.endswith("+json") or (begin and begin in '{["'):
        return _checked(decoded(text))
    if kind.startswith("text/") or kind in {FORM, _NO_TYPE}:
        if not begin:
            raise MessageError(f"the body is empty; {ANYHOW}")
        return _form(text) if kind == FORM and _IS_FORM.match(text) else {"msg": text}
    raise web.HTTPUnsupportedMediaType(reason=f"{kind} is not accepted; {ANYHOW}")


_NO_TYPE = "application/octet-stream"
"""The content type that aiohttp assumes if a request has none."""


def _checked(value: Any) -> Any:
    if isinstance(value, list):
        raise MessageError('a list is not a message; send one {"msg": "text"} a line to POST /facade/batch')
    return value


def _form(text: str) -> dict[str, str]:
    try:
        fields = parse_qs(text.strip(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except UnicodeDecodeError as error:
        raise MessageError("the form is not UTF-8 text") from error
    except ValueError as error:
        raise MessageError(f"the form has more than {_MOST_FIELDS} fields; send msg=text") from error
    if len(fields.keys() & {"msg", "message"}) != 1 or any(len(values) > 1 for values in fields.values()):
        raise MessageError("a form must have one field msg; send msg=text, or the text as text/plain")
    if unknown := fields.keys() - set(_FIELDS):
        raise MessageError(f"a form has no field {min(unknown)[:40]!r}; send msg=text, with & as %26")
    return {name: values[0] for name, values in fields.items()}
