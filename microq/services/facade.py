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
from urllib.parse import quote
from weakref import WeakValueDictionary

from aiohttp import web

from microq.client import Answer, Replicas, ReplicasAwayError, open_session
from microq.config import Config
from microq.errors import MessageError, MicroqError, QueueAwayError, QueueError, QueueFullError
from microq.log import quoted
from microq.message import Message, check_id
from microq.queues import QueueOpener, open_queue
from microq.queues.base import MessageQueue
from microq.services.app import HEALTH, STATUS, read_json, reply
from microq.services.app import make_app as make_service

log = logging.getLogger(__name__)

BATCH_WINDOW = 64
"""Messages of one batch under way at the same time."""

SIZE_SECONDS = 0.2
"""How long the queue may take to tell its size."""

CONFIG = web.AppKey("config", Config)


class RefusedError(MicroqError):
    """A message was not accepted, or nobody knows; `status` is the HTTP status that says which."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


class Journey:
    """The way in: first the log, then the queue, and the acknowledgement only after both."""

    def __init__(self, queue: MessageQueue, logging_services: Replicas, messages_services: Replicas) -> None:
        self._queue, self._logging, self._messages = queue, logging_services, messages_services
        # Those under way, by id: a send that is refused must not take back the entry of a resend that is accepted.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def accept(self, message: Message) -> str:
        """Carry a message into the log and into the queue; return the logging-service that has it.

        The log comes first because an entry can be taken back, and what is in a queue cannot. Raises `RefusedError`.
        """
        async with self._turns.setdefault(message.id, asyncio.Lock()):
            return await self._accept(message)

    async def _accept(self, message: Message) -> str:
        answer = await self._write_log(message)
        try:
            await self._queue.put([message])
        except (QueueFullError, QueueAwayError) as error:
            if answer.body["new"] == [True]:
                await self._take_back(message, error)
            raise RefusedError(503, f"{error}; the message was not accepted, send it again later") from error
        except QueueError as error:
            raise RefusedError(504, f"{error}; send it again with the same Idempotency-Key") from error
        return str(answer.body["service"])

    async def _write_log(self, message: Message) -> Answer:
        try:
            answer = await self._logging.call("POST", "/log", message.to_wire())
        except ReplicasAwayError as error:
            if error.sent:
                raise RefusedError(504, f"{error}; send it again with the same Idempotency-Key") from error
            raise RefusedError(503, f"{error}; the message was not accepted, send it again later") from error
        if answer.status == 200:  # noqa: PLR2004 - HTTP's "OK"
            return answer
        raise RefusedError(answer.status, answer.body.get("message", "the logging-service refused the message"))

    async def _take_back(self, message: Message, cause: QueueError) -> None:
        try:
            answer = await self._logging.call("DELETE", f"/log?uuid={quote(message.id, safe='')}")
        except ReplicasAwayError as error:
            raise RefusedError(504, f"{cause}, and the log could not be told: {error}") from error
        if answer.status != 200:  # noqa: PLR2004 - HTTP's "OK"
            raise RefusedError(504, f"{cause}, and the log answered {answer.status}") from cause

    async def combined(self, query: str) -> dict[str, Any]:
        """Return what one random logging-service and one random messages-service show."""
        logs, messages = await asyncio.gather(
            self._show(self._logging, "/log", query), self._show(self._messages, "/messages", query)
        )
        return {
            "logs": logs[0],
            "message": messages[0],
            "logging-service": logs[1],
            "messages-service": messages[1],
            "away": sorted({*logs[2], *messages[2]}),
        }

    async def _show(self, group: Replicas, path: str, query: str) -> tuple[list[Any], str, list[str]]:
        try:
            answer = await group.call("GET", path + query)
        except ReplicasAwayError as error:
            return [], "", list(error.reasons)
        return answer.body, str(answer.address), []

    async def queue_view(self) -> dict[str, Any]:
        """Return what the queue's client knows of it; a size that takes long, as in a failover, is unknown."""
        size: int | None = None
        with contextlib.suppress(TimeoutError, QueueError):
            async with asyncio.timeout(SIZE_SECONDS):
                size = await self._queue.size()
        return {"size": size, "owner": await self._queue.owner()}


JOURNEY = web.AppKey("journey", Journey)


def make_app(config: Config, name: str, opener: QueueOpener = open_queue) -> web.Application:
    """Return the facade."""
    app = make_service(config, name)
    app[CONFIG] = config
    ips = config.service_ips

    async def journey(app: web.Application) -> AsyncIterator[None]:
        async with open_session() as session, opener(config, name) as queue:
            app[JOURNEY] = Journey(
                queue,
                Replicas(session, "logging-service", ips.logging_service),
                Replicas(session, "messages-service", ips.messages_service),
            )
            yield

    app.cleanup_ctx.append(journey)
    app.router.add_post("/facade", _post)
    app.router.add_post("/facade/batch", _post_batch)
    app.router.add_get("/facade", _get)
    app.router.add_get("/queue", _queue)
    return app


async def _post(request: web.Request) -> web.Response:
    fields = await read_json(request)
    if isinstance(fields, dict) and "Idempotency-Key" in request.headers:
        fields = {**fields, "uuid": check_id(request.headers["Idempotency-Key"])}
    status, body = await _accept(request.app, fields)
    return reply(body, status)


async def _accept(app: web.Application, fields: Any) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the body for one message."""
    health = app[HEALTH]
    try:
        message = Message.from_wire(fields)
    except MessageError as error:
        health.count("messages_rejected")
        return STATUS[MessageError], {"status": "failure", "message": str(error)}
    message = dataclasses.replace(message, id=message.id or str(uuid.uuid4()), at=time.time())
    try:
        service = await app[JOURNEY].accept(message)
    except RefusedError as error:
        health.count("messages_uncertain" if error.status == 504 else "messages_rejected")  # noqa: PLR2004 - unknown
        log.warning("%d for %s: %s", error.status, message.id, error)
        return error.status, {"status": "failure", "message": str(error), "uuid": message.id}
    health.count("messages_acknowledged")
    log.info("acknowledged %s %s, logged by %s", message.id, quoted(message.text), service)
    return 200, {"status": "success", "uuid": message.id, "logging-service": service}


async def _post_batch(request: web.Request) -> web.StreamResponse:
    """Answer each line of the body with a line, in order, while the rest still comes in."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    window: asyncio.Queue[asyncio.Task[tuple[int, dict[str, Any]]] | None] = asyncio.Queue(BATCH_WINDOW)

    async def answer() -> None:
        while task := await window.get():
            status, body = await task
            await response.write(json.dumps({"code": status, **body}, ensure_ascii=False).encode() + b"\n")

    async with asyncio.TaskGroup() as tasks:
        writer = tasks.create_task(answer())
        async for line in _lines(request):
            await window.put(tasks.create_task(_accept_line(request.app, line)))
        await window.put(None)
        await writer
    await response.write_eof()
    return response


async def _lines(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the lines of a body of any length; a line longer than the limit comes cut, and so is refused."""
    rest = b""
    limit = request.client_max_size
    async for chunk in request.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line[: limit + 1]
        rest = rest[: limit + 1]
    if rest.strip():
        yield rest


async def _accept_line(app: web.Application, line: bytes) -> tuple[int, dict[str, Any]]:
    limit = app[CONFIG].limits.max_body
    if len(line) > limit:
        return 413, {"status": "failure", "message": f"the line is longer than {limit} bytes"}
    try:
        fields = json.loads(line.decode())
    except (ValueError, RecursionError):
        return 400, {"status": "failure", "message": 'the line is not JSON; send {"msg": "text"}'}
    return await _accept(app, fields)


async def _get(request: web.Request) -> web.Response:
    query = "?full=true" if request.query.get("full") == "true" else ""
    return reply(await request.app[JOURNEY].combined(query))


async def _queue(request: web.Request) -> web.Response:
    queue = request.app[CONFIG].queue
    known = {
        "backend": queue.backend,
        "name": queue.name,
        "max_size": queue.max_size,
        "backup_count": queue.backup_count,
    }
    return reply({**known, **await request.app[JOURNEY].queue_view()})
