"""config-service: the addresses in force, for services that ask by name."""

from __future__ import annotations

import dataclasses

from aiohttp import web

from microq.config import Address, Config, kebab
from microq.services.app import CONFIG, failure, reply
from microq.services.app import make_app as make_service


def make_app(config: Config, name: str) -> web.Application:
    """Return the config-service."""
    app = make_service(config, name)
    app.router.add_get("/config/{name}", _get)
    return app


async def _get(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    config = request.app[CONFIG]
    for table in (config.service_ips, config.hazelcast, config.kafka):
        for key in dataclasses.fields(table):
            if kebab(key.name) == name:
                return reply({name: _plain(getattr(table, key.name))})
    return failure(404, f"{name} is no key of [service_ips], [hazelcast] or [kafka]")


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return str(value) if isinstance(value, Address) else value
