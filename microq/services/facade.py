"""facade: takes messages by POST, and shows the combined sets by GET."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from microq import tracing
from microq.client import Replicas, open_session
from microq.config import Config
from microq.errors import MessageError, StoreError
from microq.log import quoted
from microq.message import Message, check_id
from microq.queues import QueueOpener, open_queue
from microq.services.app import CONFIG, HEALTH, LIMITS, STATUS, TRACING, read_json, reply, traced
from microq.services.app import make_app as make_service
from microq.services.journey import SIZE_SECONDS, UNCERTAIN, Journey, RefusedError
from microq.services.letters import LETTERS, Letters, add_routes
from microq.services.limits import pieces
from microq.services.redelivery import Watch
from microq.services.sets import Sets
from microq.store import StoreOpener, open_store
from microq.tasks import task_group

log = logging.getLogger(__name__)

BATCH_WINDOW = 512
"""Messages of one batch under way at the same time."""

SETS = web.AppKey("sets", Sets)

JOURNEY = web.AppKey("journey", Journey)


def make_app(
    config: Config,
    name: str,
    queue_opener: QueueOpener = open_queue,
    store_opener: StoreOpener = open_store,
    watch_type: type[Watch] = Watch,
) -> web.Application:
    """Return the facade."""
    app = make_service(config, name, workers=config.facade.workers)
    ips = config.service_ips

    async def journey(app: web.Application) -> AsyncIterator[None]:
        async with (
            open_session() as session,
            queue_opener(config, name) as queue,
            store_opener(config, name) as store,
            task_group() as tasks,
        ):
            watch = watch_type(config, session, queue, store, app[HEALTH])
            app[LETTERS] = Letters(queue, store, watch)
            loggers = Replicas(session, "logging-service", ips.logging_service)
            app[SETS] = Sets(loggers, Replicas(session, "messages-service", ips.messages_service))
            app[JOURNEY] = Journey(tasks, queue, watch, loggers, config.limits.max_body)
            watching = tasks.create_task(watch.run())
            yield
            watching.cancel()

    app.cleanup_ctx.append(journey)
    app.router.add_post("/facade", traced(config, _post))
    app.router.add_post("/facade/batch", _post_batch)
    app.router.add_get("/facade", _get)
    app.router.add_get("/queue", _queue)
    add_routes(app)
    return app


async def _post(request: web.Request) -> web.Response:
    fields = await read_json(request)
    if isinstance(fields, dict) and "Idempotency-Key" in request.headers:
        fields = {**fields, "uuid": check_id(request.headers["Idempotency-Key"])}
    status, body = await _accept(request.app, fields)
    return reply(body, status)


async def _accept(app: web.Application, fields: Any) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the body for one message."""
    health, began = app[HEALTH], time.perf_counter()
    try:
        message = Message.from_wire(fields)
    except MessageError as error:
        health.count("messages_rejected")
        return STATUS[MessageError], {"status": "failure", "message": str(error)}
    message = dataclasses.replace(message, id=message.id or str(uuid.uuid4()), at=time.time())
    tracing.current().set("messaging.message.id", message.id)
    try:
        service = await app[JOURNEY].accept(message)
    except RefusedError as error:
        health.count("messages_uncertain" if error.status == UNCERTAIN else "messages_rejected")
        log.warning("%d for %s: %s", error.status, message.id, error)
        return error.status, {"status": "failure", "message": str(error), "uuid": message.id}
    took = time.perf_counter() - began
    health.count("messages_acknowledged")
    health.observe(took)
    log.info("acknowledged %s %s, logged by %s, in %.1f ms", message.id, quoted(message.text), service, took * 1000)
    return 200, {"status": "success", "uuid": message.id, "logging-service": service}


async def _post_batch(request: web.Request) -> web.StreamResponse:
    """Answer each line of the body with a line, in order, while the rest still comes in."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    # Whoever sent them may be gone; what came is finished all the same.
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
    window: asyncio.Queue[asyncio.Task[tuple[int, dict[str, Any]]] | None] = asyncio.Queue(BATCH_WINDOW)

    async def answer() -> None:
        while task := await window.get():
            status, body = await task
            with contextlib.suppress(ConnectionError):
                await response.write(json.dumps({"code": status, **body}, ensure_ascii=False).encode() + b"\n")

    async with asyncio.TaskGroup() as tasks:
        writer = tasks.create_task(answer())
        try:
            async for line in _lines(request):
                await window.put(tasks.create_task(_accept_line(request.app, line)))
        except web.HTTPException as error:
            await window.put(tasks.create_task(_broken_off(error)))
        await window.put(None)
        await writer
    return response  # the server writes its end, if anybody is still there


async def _lines(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the lines of a body of any length; a line longer than the limit comes cut, and so is refused."""
    rest = b""
    limit = request.client_max_size
    async for chunk in pieces(request, request.app[LIMITS]):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line[: limit + 1]
        rest = rest[: limit + 1]
    if rest.strip():
        yield rest


async def _broken_off(error: web.HTTPException) -> tuple[int, dict[str, Any]]:
    return error.status, {"status": "failure", "message": error.reason}


async def _accept_line(app: web.Application, line: bytes) -> tuple[int, dict[str, Any]]:
    limit = app[CONFIG].limits.max_body
    if len(line) > limit:
        return 413, {"status": "failure", "message": f"the line is longer than {limit} bytes"}
    try:
        fields = json.loads(line.decode())
    except (ValueError, RecursionError):
        return 400, {"status": "failure", "message": 'the line is not JSON; send {"msg": "text"}'}
    # Each a trace of its own: a batch may go on for ever.
    with app[TRACING].entry("POST /facade/batch"):
        return await _accept(app, fields)


async def _get(request: web.Request) -> web.StreamResponse:
    return await request.app[SETS].show(request)


async def _queue(request: web.Request) -> web.Response:
    queue = request.app[CONFIG].queue
    known = {
        "backend": queue.backend,
        "name": queue.name,
        "max_size": queue.max_size,
        "backup_count": queue.backup_count,
    }
    # Side by side: in a failover each of them waits for its whole time.
    view, counts = await asyncio.gather(request.app[JOURNEY].queue_view(), _counts(request.app[LETTERS]))
    return reply({**known, **view, **counts})


async def _counts(letters: Letters) -> dict[str, int | None]:
    """Return the counts beside the queue; unknown if they take long, as in a failover."""
    with contextlib.suppress(TimeoutError, StoreError):
        async with asyncio.timeout(SIZE_SECONDS):
            return {**await letters.counts()}
    return {"pending": None, "redelivered": None, "dead": None}
