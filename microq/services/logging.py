"""logging-service: keeps each message under its id in the cluster's `log` map."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import AsyncIterator

from aiohttp import web

from microq import tracing
from microq.config import Config
from microq.errors import MessageError
from microq.log import quoted
from microq.maps import LogMap
from microq.message import Message
from microq.services.app import HEALTH, failure, read_json, reply, traced
from microq.services.app import make_app as make_service
from microq.services.listing import Part, in_order, stream
from microq.store import StoreOpener, open_store

log = logging.getLogger(__name__)

MAP = web.AppKey("map", LogMap)

ENVELOPE = 4096
"""Bytes that the facade adds to what its client sent: the id and the time."""


def make_app(config: Config, name: str, opener: StoreOpener = open_store) -> web.Application:
    """Return the logging-service called `name`."""
    app = make_service(config, name, config.limits.max_body + ENVELOPE)

    async def cluster(app: web.Application) -> AsyncIterator[None]:
        health = app[HEALTH]
        async with opener(config, name) as store:
            app[MAP] = store.log
            health.ready = lambda: store.connected
            health.held = lambda: health.counters["messages_logged"]
            yield

    app.cleanup_ctx.append(cluster)
    app.router.add_post("/log", traced(config, _post))
    app.router.add_get("/log", _list)
    app.router.add_delete("/log", traced(config, _delete))
    return app


async def _post(request: web.Request) -> web.Response:
    fields = await read_json(request)
    listed = fields if isinstance(fields, list) else [fields]
    messages = [_read(item) for item in listed]
    if trace := tracing.traceparent():
        # Kept with its trace: one that is redelivered from here goes on with it.
        messages = [dataclasses.replace(message, trace=trace) for message in messages]
    health = request.app[HEALTH]
    kept = await request.app[MAP].add(messages)
    conflicts = [m.id for m, k in zip(messages, kept, strict=True) if k.message.text != m.text]
    for entry in kept:
        if entry.new:
            health.count("messages_logged")
            log.info("stored %s %s", entry.message.id, quoted(entry.message.text))
    known = {"service": health.name, "new": [e.new for e in kept], "at": [e.message.at for e in kept]}
    if conflicts:
        # Of several the others are kept.
        return failure(422, "an id is in use for another text; send it under a new id", uuids=conflicts, **known)
    return reply({"status": "success", **known})


def _read(fields: object) -> Message:
    message = Message.from_wire(fields)
    if not message.id:
        raise MessageError('"uuid" is missing; send {"uuid": "id", "msg": "text"}')
    return message


async def _list(request: web.Request) -> web.StreamResponse:
    part = Part.of(request)
    return await stream(request, part, in_order(request.app[MAP].scan(), part))


async def _delete(request: web.Request) -> web.Response:
    """Take back what the queue refused: a message that was answered with failure must be nowhere.

    Only the entry that was written at that time goes: by now the id may have been sent again, and accepted.
    """
    # Not a part of the path: an id of dots would change where the path leads.
    uuid = request.query.get("uuid", "")
    try:
        at = float(request.query.get("at", ""))
    except ValueError as error:
        raise MessageError('"at" is missing; send the time that the answer to POST /log had') from error
    removed = await request.app[MAP].take_back(uuid, at)
    if removed:
        log.info("removed %s, which the queue refused", quoted(uuid))
    elif await request.app[MAP].get(uuid):
        return failure(409, "the id was sent again meanwhile, or redelivered; the entry stays")
    return reply({"status": "success", "removed": removed})
