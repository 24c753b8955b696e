"""facade: accepts messages by POST, and shows both sets by GET."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from aiohttp import web

from microq import tracing
from microq.aio import running, task_group
from microq.allowance import Allowance
from microq.backends import QueueOpener, open_queue
from microq.backends.base import MessageQueue
from microq.client import open_session
from microq.config import Config
from microq.errors import MessageError, QueueError, StoreError
from microq.log import Acknowledged, Indeterminate, Rejected, quoted
from microq.message import MAX_ID, Message, check_id
from microq.replicas import Replicas, ReplicasUnavailableError, Stream, open_replicas
from microq.services import dead_letters, ingest
from microq.services.acceptance import INDETERMINATE, SIZE_SECONDS, Acceptance, UnacknowledgedError
from microq.services.app import CONFIG, HEALTH, LIMITS, STATUS, TRACING, check_coding, reply, traced
from microq.services.app import make_app as make_service
from microq.services.dead_letters import DEAD_LETTERS, DeadLetters
from microq.services.limits import Budget, pieces
from microq.services.page import add_page
from microq.services.paging import LIST, PARAMETERS, Part, write
from microq.services.redelivery import Watch
from microq.services.room import Room
from microq.services.routes import LINES, TEXT, Media, Parameter, Route, add, as_json, listed, record
from microq.services.takeover import Absences
from microq.store import StoreOpener, open_store

log = logging.getLogger(__name__)

BATCH_WINDOW = 512
"""How many messages of one batch are in flight at the same time."""

REACH_SECONDS = 0.8
"""Seconds for the queue to answer; after that the facade reports that it is not ready."""

LONG = 1 << 16
"""Bytes of an unfinished line above which the budget must have room for the whole line before more of it is read."""

Answered = tuple[int, dict[str, Any]]
"""The HTTP status and the body of an answer."""

_END = b"\n"
"""The last byte of a service's answer, which contains no other line break; it is left out of the facade's answer."""


class Sets:
    """Both groups of services that show messages; `absences` knows which messages are hidden."""

    def __init__(self, logging: Replicas, messages: Replicas, absences: Absences, merging: Callable[[], bool]) -> None:
        self._logging, self._messages, self._absences = logging, messages, absences
        self._merging = merging
        """Whether a merge of the cluster may be in progress, also one that begins during an answer."""

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Answer with both sets, or the requested part of them, and with the instances that they came from.

        The answers of the services are passed on in pieces and not decoded: if one is cut off, the connection of this
        answer is closed too.
        """
        query = Part.of(request).to_query()
        before = self._merging()
        (logs, absent), (messages, missing) = await asyncio.gather(
            _open(self._logging, "/log", query), _open(self._messages, "/messages", query)
        )
        try:
            began = lambda: self._merging() and not before  # noqa: E731 - asked when the lists have ended
            more = self._more(sorted({*absent, *missing}))
            return await write(request, _together(logs, messages, more, began))
        finally:
            for stream in (logs, messages):
                if stream:
                    stream.close()

    def _more(self, away: list[str]) -> dict[str, Any]:
        """Return the other fields of the answer."""
        hidden = self._absences.hidden
        return {"away": away, **({"hidden": hidden} if hidden else {})}


async def _open(group: Replicas, path: str, query: dict[str, str]) -> tuple[Stream | None, list[str]]:
    """Return the answer of a replica of the group, or, if none answers, the names of those that did not."""
    try:
        return await group.open(path, query), []
    except ReplicasUnavailableError as error:
        return None, list(error.reasons)


async def _together(
    logs: Stream | None, messages: Stream | None, more: dict[str, Any], began: Callable[[], bool]
) -> AsyncIterator[bytes]:
    sources = {
        "logging-service": str(logs.address) if logs else "",
        "messages-service": str(messages.address) if messages else "",
        **more,
    }

    def end() -> bytes:
        merging = began() or any(stream is not None and stream.merging for stream in (logs, messages))
        return b", " + json.dumps({**sources, "merging": merging})[1:].encode()

    if all(stream is None or stream.whole for stream in (logs, messages)):
        # Most answers are short: one write, and one packet.
        yield b'{"logs": %b, "message": %b%b' % (_first(logs), _first(messages), end())
        return
    yield b'{"logs": '
    async for piece in _pieces(logs):
        yield piece
    yield b', "message": '
    async for piece in _pieces(messages):
        yield piece
    yield end()


def _first(stream: Stream | None) -> bytes:
    return stream.first.rstrip(_END) if stream else b"[]"


async def _pieces(stream: Stream | None) -> AsyncIterator[bytes]:
    if stream is None:
        yield b"[]"
        return
    async for piece in stream.pieces():
        if inner := piece.rstrip(_END):
            yield inner


BUDGET = web.AppKey("budget", Budget)

SETS = web.AppKey("sets", Sets)

ACCEPTANCE = web.AppKey("acceptance", Acceptance)

WATCH = web.AppKey("watch", Watch)

ABSENCES = web.AppKey("absences", Absences)


def make_app(
    config: Config,
    name: str,
    queue_opener: QueueOpener | None = None,
    store_opener: StoreOpener = open_store,
    watch_type: type[Watch] = Watch,
) -> web.Application:
    """Return the facade; its workers share one bound of the queue, and one room in the members' memory."""
    app = make_service(config, name, workers=config.facade.workers)
    ips, room, bound = config.service_ips, Room(config), Allowance()
    opener = queue_opener or functools.partial(open_queue, bound=bound)
    app[BUDGET] = Budget(config.limits)

    async def parts(app: web.Application) -> AsyncIterator[None]:
        async with (
            open_session() as session,
            opener(config, name) as queue,
            store_opener(config, name) as store,
            open_replicas(session, "logging-service", ips.logging_service) as loggers,
            open_replicas(session, "messages-service", ips.messages_service) as consumers,
            task_group() as tasks,
        ):
            watch = app[WATCH] = watch_type(config, session, queue, store, app[HEALTH])
            app[DEAD_LETTERS] = DeadLetters(queue, store, watch)
            absences = app[ABSENCES] = Absences(store, app[HEALTH].clock)
            app[SETS] = Sets(loggers, consumers, absences, lambda: watch.merges.in_progress)
            app[ACCEPTANCE] = Acceptance(tasks, queue, watch, loggers, room, config.limits.max_body)
            watch.on_settle, watch.on_find = room.leave, room.owe
            app[HEALTH].full = lambda: room.refusing
            app[HEALTH].ready = lambda: store.connected
            app[HEALTH].reaches = functools.partial(_answers, queue)
            beside = [watch.run, absences.run]
            if not app[HEALTH].worker:
                await room.look(session)
                beside.append(functools.partial(room.watch, session))
            async with running(*(each() for each in beside)):
                yield

    app.cleanup_ctx.append(parts)
    add(app, dataclasses.replace(_POST, handler=traced(config, _post)), *_ROUTES, *dead_letters.ROUTES)
    add_page(app)
    return app


async def _answers(queue: MessageQueue) -> bool:
    """Return whether the servers of the queue answer."""
    try:
        async with asyncio.timeout(REACH_SECONDS):
            await queue.size()
    except (QueueError, TimeoutError):
        return False
    return True


async def _post(request: web.Request) -> web.Response:
    most, announced = request.client_max_size, request.content_length
    # A body without a length may be of any length.
    async with request.app[BUDGET].share(most if announced is None else min(most, announced)):
        return await _post_one(request)


async def _post_one(request: web.Request) -> web.Response:
    fields = await ingest.read(request)
    if "Idempotency-Key" in request.headers:
        fields = {"msg": fields} if isinstance(fields, str) else fields
        if isinstance(fields, dict):
            check_id(fields.get("uuid", ""))
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
    message = app[WATCH].stamped(dataclasses.replace(message, id=message.id or str(uuid.uuid4())))
    tracing.current().set("messaging.message.id", message.id)
    try:
        service = await app[ACCEPTANCE].accept(message)
    except UnacknowledgedError as error:
        health.count("messages_indeterminate" if error.status == INDETERMINATE else "messages_rejected")
        if error.status == INDETERMINATE:
            log.warning(Indeterminate(message.id, str(error)))
        else:
            log.warning(Rejected(error.status, message.id, str(error)))
        return error.status, {"status": "failure", "message": str(error), "uuid": message.id}
    took = time.perf_counter() - began
    health.count("messages_acknowledged")
    health.observe(took)
    log.info(Acknowledged(message.id, quoted(message.text), service, took * 1000))
    return 200, {"status": "success", "uuid": message.id, "logging-service": service}


async def _post_batch(request: web.Request) -> web.StreamResponse:
    """Answer each line of the body with a line, in order, while later lines are still coming in."""
    check_coding(request)
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    # Their sender may be gone; the lines that came are carried out nevertheless.
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
    window: asyncio.Queue[asyncio.Task[Answered] | None] = asyncio.Queue(BATCH_WINDOW)

    async def answer() -> None:
        while task := await window.get():
            status, body = await task
            with contextlib.suppress(ConnectionError):
                await response.write(json.dumps({"code": status, **body}, ensure_ascii=False).encode() + b"\n")

    async with asyncio.TaskGroup() as tasks:
        writer = tasks.create_task(answer())
        try:
            async with contextlib.aclosing(_lines(request)) as lines:
                async for line, taken in lines:
                    await window.put(await _begin(request.app, tasks, line, taken))
        except web.HTTPException as error:
            await window.put(tasks.create_task(_broken_off(error)))
        await window.put(None)
        await writer
    return response  # the server writes its end if the client is still there


async def _begin(app: web.Application, tasks: asyncio.TaskGroup, line: bytes, taken: int) -> asyncio.Task[Answered]:
    """Start to accept a line as soon as the budget has room for it; `taken` is its part of the budget so far."""
    budget = app[BUDGET]
    try:
        taken = taken or await budget.take(len(line), app[LIMITS].read_timeout)
    except web.HTTPServiceUnavailable as error:
        return tasks.create_task(_broken_off(error))
    work = tasks.create_task(_accept_line(app, line))
    work.add_done_callback(lambda _done: budget.give_back(taken))
    return work


async def _lines(request: web.Request) -> AsyncGenerator[tuple[bytes, int], None]:
    """Yield the lines of a body of any length, each with its part of the budget, which the receiver gives back.

    A line longer than the limit is cut off, and therefore refused.
    """
    rest, taken = b"", 0
    limit, budget = request.client_max_size, request.app[BUDGET]
    try:
        async for chunk in pieces(request, request.app[LIMITS]):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                mine, taken = taken, 0
                if line.strip():
                    yield line[: limit + 1], mine
                else:
                    budget.give_back(mine)
            rest = rest[: limit + 1]
            if len(rest) > LONG and not taken:
                taken = await budget.take(limit + 1, request.app[LIMITS].read_timeout)
        if rest.strip():
            mine, taken = taken, 0
            yield rest, mine
    finally:
        budget.give_back(taken)


async def _broken_off(error: web.HTTPException) -> Answered:
    return error.status, {"status": "failure", "message": error.reason}


async def _accept_line(app: web.Application, line: bytes) -> Answered:
    limit = app[CONFIG].limits.max_body
    if len(line) > limit:
        return 413, {"status": "failure", "message": f"the line is longer than {limit} bytes"}
    try:
        fields = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return 400, {"status": "failure", "message": 'the line is not JSON; send {"msg": "text"}'}
    # Each line is a separate trace: a batch may be endless.
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
        "take_over_after": queue.take_over_after,
        "hidden": request.app[ABSENCES].hidden,
    }
    # Concurrently: during a failover each of them waits for its whole time.
    view, counts = await asyncio.gather(request.app[ACCEPTANCE].queue_view(), _counts(request.app[DEAD_LETTERS]))
    return reply({**known, **view, **counts})


async def _counts(known: DeadLetters) -> dict[str, int | None]:
    """Return the counts that are shown with the queue; None if they take too long, as during a failover."""
    with contextlib.suppress(TimeoutError, StoreError):
        async with asyncio.timeout(SIZE_SECONDS):
            return {**await known.counts()}
    return {"pending": None, "redelivered": None, "dead": None}


_ACCEPTED = record({"status": {"const": "success"}, "uuid": TEXT, "logging-service": TEXT})
_NUMBER = {"type": ["integer", "null"]}
_HIDDEN = {
    "type": "object",
    "additionalProperties": {"type": "integer"},
    "description": "Silent messages-service: about how many messages it stored that no other one shows.",
}

_POST = Route(
    "POST",
    "/facade",
    _post,
    "Send a message: accepted once it is in the log and in the queue, each with its copies.",
    as_json(_ACCEPTED, {"status": "success", "uuid": "8f31c2d0", "logging-service": "logging-5003"}),
    [
        Parameter(
            "Idempotency-Key",
            "header",
            "The id of the message, up to 200 printable characters: sent again under the same id, it is shown once.",
            {"type": "string", "maxLength": MAX_ID, "format": "visible"},
        )
    ],
    ingest.TAKES,
    errors=[422, 504],
    example="""curl -d '{"msg": "hello"}' URL/facade""",
)
_ROUTES = (
    Route(
        "GET",
        "/facade",
        _get,
        "Read both sets: those of one logging-service and one messages-service, chosen at random.",
        as_json(
            record(
                {
                    "logs": LIST,
                    "message": LIST,
                    "logging-service": TEXT,
                    "messages-service": TEXT,
                    "away": listed(TEXT),
                    "merging": {"type": "boolean"},
                },
                hidden=_HIDDEN,
            )
        ),
        PARAMETERS,
    ),
    Route(
        "POST",
        "/facade/batch",
        _post_batch,
        "Send many messages, each a line of JSON; each gets a line as its answer, in order.",
        {LINES: Media(TEXT, '{"code": 200, "status": "success", "uuid": "8f31c2d0"}\n')},
        takes={LINES: Media(TEXT, '{"msg": "one"}\n{"msg": "two"}\n')},
        example="""printf '{"msg": "one"}\\n{"msg": "two"}\\n' | curl --data-binary @- URL/facade/batch""",
        may_be_empty=True,
    ),
    Route(
        "GET",
        "/queue",
        _queue,
        "The queue: its size and primary owner, and how many messages are pending, redelivered, dead.",
        as_json(
            record(
                {"backend": TEXT, "name": TEXT, "max_size": _NUMBER, "backup_count": _NUMBER},
                size=_NUMBER,
                owner={"type": ["string", "null"]},
                oldest_at={"type": ["number", "null"]},
                pending=_NUMBER,
                redelivered=_NUMBER,
                dead=_NUMBER,
                take_over_after=_NUMBER,
                hidden=_HIDDEN,
            )
        ),
    ),
)
