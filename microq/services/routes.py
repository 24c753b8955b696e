"""The calls of a service: each is described once, beside its handler, for the router, for people, and for OpenAPI."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from aiohttp import web

from microq import __version__
from microq.message import MAX_ID
from microq.web import Handler

Schema = Mapping[str, Any]
"""A JSON Schema of draft 2020-12, as OpenAPI 3.1 uses it."""

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
LINES = "application/x-ndjson"

TEXT: Schema = {"type": "string"}
MSG: Schema = {"type": "string", "minLength": 1, "description": "The text of a message."}
ID: Schema = {"type": "string", "maxLength": MAX_ID, "format": "printable", "description": "The id of a message."}
FAILURE: Schema = {
    "type": "object",
    "required": ["status", "message"],
    "properties": {
        "status": {"const": "failure"},
        "message": {"type": "string", "description": "What was wrong, and what to do."},
    },
}

ERRORS = {
    400: "The request is not valid; the message says why.",
    403: "The request may come from a page of another origin, or is for another host.",
    404: "Nothing has this name.",
    408: "The headers or the body came too slowly.",
    409: "The entry has changed meanwhile.",
    413: "The body is too large.",
    415: "The body is encoded in a way that is not supported.",
    422: "The id is in use for another text.",
    500: "An internal error of microq; the log of the service has more.",
    503: "Certainly not accepted: something is full or unavailable. Try again after `Retry-After` seconds.",
    504: "Indeterminate: the message may or may not be accepted. Send it again with the same id.",
}
"""The meaning of each status of a failure."""

ALWAYS = (400, 403, 408, 500, 503)
"""The failures of any request: invalid HTTP, foreign origin, too slow, internal error, too many connections."""

WITH_BODY = (413, 415)


@dataclass(frozen=True, slots=True)
class Media:
    """One form of a body: its schema, and an example of it."""

    schema: Schema
    example: Any = None

    def described(self) -> dict[str, Any]:
        """Return it as OpenAPI has it."""
        example = {} if self.example is None else {"example": self.example}
        return {"schema": self.schema, **example}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the query, in the path or in a header."""

    name: str
    place: str
    about: str
    schema: Schema
    example: Any = None
    required: bool = False

    def described(self) -> dict[str, Any]:
        """Return it as OpenAPI has it."""
        example = {} if self.example is None else {"example": self.example}
        return {
            "name": self.name,
            "in": self.place,
            "description": self.about,
            "required": self.required,
            "schema": self.schema,
            **example,
        }


@dataclass(frozen=True, slots=True)
class Route:
    """One call: `path` in the form of OpenAPI, and `pattern` if the router needs another form.

    `takes` and `answers` are bodies by content type; the body of a request may be missing if it `may_be_empty`.
    `errors` are the failures beside `ALWAYS`. `example` is the call for a shell, with URL for the service's URL.
    """

    method: str
    path: str
    handler: Handler
    about: str
    answers: Mapping[str, Media]
    parameters: Sequence[Parameter] = ()
    takes: Mapping[str, Media] = field(default_factory=dict)
    errors: Sequence[int] = ()
    example: str = ""
    pattern: str = ""
    may_be_empty: bool = False

    @property
    def call(self) -> str:
        """The call in the form for people: `POST /facade`."""
        return f"{self.method} {self.path}"

    @property
    def name(self) -> str:
        """Its name, unique in the service: `post_facade_batch`."""
        return "_".join([self.method.lower(), *re.findall(r"\w+", self.path)]) or "root"

    def curl(self, url: str) -> str:
        """Return an example of the call for a shell, of a service at `url`."""
        return (self.example or f"curl URL{self.path}").replace("URL", url)

    def described(self) -> dict[str, Any]:
        """Return its OpenAPI operation."""
        codes = sorted({*ALWAYS, *self.errors, *(WITH_BODY if self.takes else ())})
        body = {
            "required": not self.may_be_empty,
            "content": {kind: media.described() for kind, media in self.takes.items()},
        }
        return {
            "operationId": self.name,
            "summary": self.about,
            "parameters": [parameter.described() for parameter in self.parameters],
            **({"requestBody": body} if self.takes else {}),
            "responses": {
                "200": {
                    "description": "Done.",
                    "content": {kind: media.described() for kind, media in self.answers.items()},
                },
                **{str(code): {"$ref": f"#/components/responses/{code}"} for code in codes},
            },
        }


ROUTES = web.AppKey("routes", list[Route])


def add(app: web.Application, *routes: Route) -> None:
    """Add these calls to an application."""
    app[ROUTES].extend(routes)
    for route in routes:
        app.router.add_route(route.method, route.pattern or route.path, route.handler)
        if route.method == "GET":
            app.router.add_route("HEAD", route.pattern or route.path, route.handler)


def document(app: web.Application, name: str, url: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of the service `name` at `url`."""
    paths: dict[str, dict[str, Any]] = {}
    for route in app[ROUTES]:
        paths.setdefault(route.path, {})[route.method.lower()] = route.described()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"microq {name}",
            "version": __version__,
            "description": "A microservice system around a replicated message queue.",
        },
        "servers": [{"url": url}],
        "paths": paths,
        "components": {"responses": dict(_failures())},
    }


def _failures() -> Iterator[tuple[str, dict[str, Any]]]:
    for code, about in ERRORS.items():
        example = {"status": "failure", "message": f"{HTTPStatus(code).phrase}: what was wrong, and what to do"}
        headers = {"headers": {"Retry-After": {"schema": {"type": "integer"}}}} if code == 503 else {}  # noqa: PLR2004 - HTTP's "unavailable"
        yield str(code), {"description": about, **headers, "content": {JSON: {"schema": FAILURE, "example": example}}}


def listed(of: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": of}


def record(required: Mapping[str, Schema], **optional: Schema) -> Schema:
    """Return the schema of an object with its required and optional fields."""
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def as_json(schema: Schema, example: Any = None) -> dict[str, Media]:
    """Return the content of a body that is always JSON."""
    return {JSON: Media(schema, example)}
