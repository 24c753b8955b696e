"""config-service: answers requests for configured addresses by the name of their key."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from aiohttp import web

from microq.config import PRIVATE, Address, Config, kebab
from microq.log import quoted
from microq.services.app import CONFIG, failure, reply
from microq.services.app import make_app as make_service
from microq.services.routes import Parameter, Route, add, as_json


def make_app(config: Config, name: str) -> web.Application:
    """Return the config-service."""
    app = make_service(config, name)
    add(app, _route(config))
    return app


def _tables(config: Config) -> dict[str, Any]:
    """Return the tables whose keys can be requested; if two have a key, the first one counts."""
    return {"service_ips": config.service_ips, **config.backends}


def _keys(table: Any) -> Iterator[tuple[str, str]]:
    """Yield each public key of a table and the name of its field."""
    yield from ((kebab(each.name), each.name) for each in dataclasses.fields(table) if kebab(each.name) not in PRIVATE)


async def _get(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    tables = _tables(request.app[CONFIG])
    for table in tables.values():
        for key, field in _keys(table):
            if key == name:
                return reply({name: _plain(getattr(table, field))})
    return failure(404, f"{quoted(name)} is not a key of {_listed(tables)}")


def _listed(tables: Iterable[str]) -> str:
    *first, last = (f"[{name}]" for name in tables)
    return f"{', '.join(first)} or {last}"


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return str(value) if isinstance(value, Address) else value


def _route(config: Config) -> Route:
    tables = _tables(config)
    keys = [key for table in tables.values() for key, _ in _keys(table)]
    return Route(
        "GET",
        "/config/{name}",
        _get,
        f"The value of a key of {_listed(tables)}.",
        as_json({"type": "object", "minProperties": 1, "maxProperties": 1}, {"messages-service": ["127.0.0.1:5001"]}),
        parameters=[Parameter("name", "path", "The key.", {"enum": keys}, "messages-service", required=True)],
        errors=[404],
        example="curl URL/config/messages-service",
    )
