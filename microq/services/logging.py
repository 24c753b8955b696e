"""logging-service: writes each message under its id into the cluster's `log` map."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from microq import tracing
from microq.aio import task_group
from microq.backends.hazelcast.maps import LogMap
from microq.config import Config
from microq.errors import MessageError
from microq.log import Removed, Stored, quoted
from microq.message import Message
from microq.services.app import HEALTH, read_json, reply, traced
from microq.services.app import make_app as make_service
from microq.services.health import Health
from microq.services.merges import Mark
from microq.services.paging import LIST, PARAMETERS, Part, in_order, stream, time_of
from microq.services.routes import ID, MSG, TEXT, Parameter, Route, add, as_json, listed, record
from microq.store import StoreOpener, open_store

log = logging.getLogger(__name__)

MAP = web.AppKey("map", LogMap)

MARK = web.AppKey("mark", Mark)

_NO_TIME = '"at" must be the time from the answer to POST /log, in seconds since the epoch'

ENVELOPE = 4096
"""Bytes that the facade adds to a client's message: the id and the time."""


def make_app(config: Config, name: str, opener: StoreOpener = open_store) -> web.Application:
    """Return the logging-service called `name`."""
    app = make_service(config, name, config.limits.max_body + ENVELOPE)

    async def cluster(app: web.Application) -> AsyncIterator[None]:
        health = app[HEALTH]
        async with opener(config, name) as store:
            app[MAP] = store.log
            mark = app[MARK] = Mark(store.log, store.joined)
            health.ready = lambda: store.connected
            health.held = lambda: health.counters["messages_logged"]
            health.merging = lambda: mark.in_doubt
            async with task_group() as tasks:
                following = [tasks.create_task(mark.follow()), tasks.create_task(mark.merges.follow(mark.missing))]
                yield
                for task in following:
                    task.cancel()

    app.cleanup_ctx.append(cluster)
    add(
        app,
        replace(_POST, handler=traced(config, _post)),
        _LIST,
        replace(_DELETE, handler=traced(config, _delete)),
    )
    return app


async def _post(request: web.Request) -> web.Response:
    fields = await read_json(request)
    listed = fields if isinstance(fields, list) else [fields]
    messages = [_read(item) for item in listed]
    if trace := tracing.traceparent():
        # Written with its trace: a redelivery from the log continues it.
        messages = [replace(message, trace=trace) for message in messages]
    status, body = await write(request.app[MAP], request.app[HEALTH], messages)
    return reply(body, status)


async def write(entries: LogMap, health: Health, messages: Sequence[Message]) -> tuple[int, dict[str, Any]]:
    """Write messages into the log; return the HTTP status and the body of the answer. Raises `StoreError`."""
    kept = await entries.add(messages)
    conflicts = [m.id for m, k in zip(messages, kept, strict=True) if k.message.text != m.text]
    for entry in kept:
        if entry.new:
            health.count("messages_logged")
            log.info(Stored(entry.message.id, quoted(entry.message.text)))
    known = {"service": health.name, "new": [e.new for e in kept], "at": [e.message.at for e in kept]}
    if conflicts:
        # The other messages of the request are written.
        problem = "an id is in use for another text; send it under a new id"
        return 422, {"status": "failure", "message": problem, "uuids": conflicts, **known}
    return 200, {"status": "success", **known}


def _read(fields: object) -> Message:
    message = Message.from_wire(fields)
    if not message.id:
        raise MessageError('"uuid" is missing; send {"uuid": "id", "msg": "text"}')
    return message


async def _list(request: web.Request) -> web.StreamResponse:
    part = Part.of(request)
    return await stream(request, part, in_order(request.app[MAP].scan(), part))


async def _delete(request: web.Request) -> web.Response:
    """Remove the entry of a message that the queue refused: a rejected message must be nowhere.

    Only an entry with the given time is removed: meanwhile the id may have been sent again and accepted.
    """
    # Not in the path: an id such as ".." would change the path.
    uuid = request.query.get("uuid", "")
    if not uuid:
        raise MessageError('"uuid" is missing; send the id of the entry')
    at = time_of(request.query.get("at", ""), _NO_TIME)
    status, body = await take_back(request.app[MAP], uuid, at)
    return reply(body, status)


async def take_back(entries: LogMap, message_id: str, at: float) -> tuple[int, dict[str, Any]]:
    """Remove the entry of this time; return the HTTP status and the body of the answer. Raises `StoreError`."""
    removed = await entries.take_back(message_id, at)
    if removed:
        log.info(Removed(message_id))
    elif await entries.get(message_id):
        return 409, {"status": "failure", "message": "the id was sent again meanwhile, or redelivered; the entry stays"}
    return 200, {"status": "success", "removed": removed}


_ENTRY = record({"uuid": {**ID, "minLength": 1}, "msg": MSG})
_WRITTEN = {"service": TEXT, "new": listed({"type": "boolean"}), "at": listed({"type": "number"})}

_POST = Route(
    "POST",
    "/log",
    _post,
    "Write a message into the log, or several of them.",
    as_json(record({"status": {"const": "success"}, **_WRITTEN})),
    takes=as_json({"oneOf": [_ENTRY, listed(_ENTRY)]}, {"uuid": "8f31c2d0", "msg": "hello"}),
    errors=[422, 504],
    example="""curl -d '{"uuid": "8f31c2d0", "msg": "hello"}' URL/log""",
)
_LIST = Route(
    "GET",
    "/log",
    _list,
    "The texts of the log.",
    as_json(LIST, ["hello"]),
    PARAMETERS,
    example="curl 'URL/log?full=true'",
)
_DELETE = Route(
    "DELETE",
    "/log",
    _delete,
    "Remove a message that the queue refused: the entry with this id and this time.",
    as_json(record({"status": {"const": "success"}, "removed": {"type": "boolean"}})),
    [
        Parameter("uuid", "query", "The id.", {"type": "string", "minLength": 1}, "8f31c2d0", required=True),
        Parameter("at", "query", "Its time in the log.", {"type": "number"}, 1795773731.5, required=True),
    ],
    errors=[409, 504],
    example="curl -X DELETE 'URL/log?uuid=8f31c2d0&at=1795773731.5'",
)
