"""What every service has: health, readiness, metrics, errors as JSON, a graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from microq import log as lines
from microq import loops, tracing
from microq.client import BrokenOffError
from microq.config import Address, Config, Limits
from microq.errors import (
    MachineError,
    MessageError,
    MicroqError,
    QueueAwayError,
    QueueFullError,
    QueueUncertainError,
    StoreAwayError,
    StoreUncertainError,
)
from microq.log import quoted
from microq.services import limits, workers
from microq.services.health import Health

log = logging.getLogger(__name__)

DRAIN_SECONDS = 8.0
"""How long requests under way may take after SIGTERM."""

END_SECONDS = 2.0
"""How long a worker may take for the rest of its end."""

STATUS: dict[type[MicroqError], int] = {
    MessageError: 400,
    QueueFullError: 503,
    QueueAwayError: 503,
    StoreAwayError: 503,
    BrokenOffError: 503,
    QueueUncertainError: 504,
    StoreUncertainError: 504,
}
"""What an error of ours is in HTTP: 503 says certainly not accepted, 504 that nobody knows."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CONFIG = web.AppKey("config", Config)
HEALTH = web.AppKey("health", Health)
TRACING = web.AppKey("tracing", tracing.Tracing)
LIMITS = web.AppKey("limits", Limits)


def make_app(config: Config, name: str, max_body: int = 0, workers: int = 1) -> web.Application:
    """Return an application with what every service has; `max_body` is the configured one unless told.

    Served, it becomes so many `workers`, each a process.
    """
    app = web.Application(middlewares=[_errors], client_max_size=max_body or config.limits.max_body)
    app[CONFIG], app[LIMITS], app[HEALTH] = config, config.limits, Health(name, workers)

    async def traces(app: web.Application) -> AsyncIterator[None]:
        app[TRACING] = tracing.start(config.tracing.endpoint, name)
        yield
        await app[TRACING].close()

    # The first, so that it ends last: what the others do at their end is traced too.
    app.cleanup_ctx.append(traces)
    app.on_startup.append(_note_start)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    return app


def serve(app: web.Application, name: str, address: Address) -> None:
    """Listen until SIGTERM or SIGINT, then finish the requests under way. Raises `MachineError` on a taken port."""
    lines.setup(name, form=app[CONFIG].logs.format, trace_id=tracing.trace_id)
    ready = f"{name} is ready, listening on {address}"
    limits.allow_files(app[LIMITS])
    count = app[HEALTH].workers
    # Before anything else: a service that found its port taken only at the end would have consumed meanwhile.
    with _bound(name, address) as listener:
        if count == 1:
            _work(app, listener, functools.partial(log.info, "%s", ready))
    if count > 1:
        workers.check()
        with contextlib.ExitStack() as stack:
            # Shared from the beginning, which the first one could not be: it was to find a port that others share.
            listeners = [stack.enter_context(_bound(name, address, shared=True)) for _ in range(count)]
            workers.share(app[HEALTH], listeners, functools.partial(_work, app), ready, DRAIN_SECONDS + END_SECONDS)
    log.info("stopped")


def _bound(name: str, address: Address, *, shared: bool = False) -> socket.socket:
    """Return a socket with this address, which others may share if they are of this user and say so as well."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address.host, address.port))
    except OSError as error:
        listener.close()
        raise MachineError(f"{name} cannot listen on {address}: {error.strerror}") from error
    return listener


def _work(app: web.Application, listener: socket.socket, started: Callable[[], None], leash: int | None = None) -> None:
    """Serve on a socket, and call `started` once it can; end as told, or when the pipe `leash` ends."""

    async def tell(_app: web.Application) -> None:
        started()

    app.on_startup.append(tell)
    loops.run(_until_ended(app, listener, leash))


async def _until_ended(app: web.Application, listener: socket.socket, leash: int | None) -> None:
    loop, work = asyncio.get_running_loop(), asyncio.current_task()
    assert work is not None  # noqa: S101 - a coroutine runs in a task
    for number in workers.ENDS:
        loop.add_signal_handler(number, _end, work)
    # A worker begins with these blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, workers.ENDS)
    if leash is not None:
        loop.add_reader(leash, _cut, loop, leash, work)
    with contextlib.suppress(asyncio.CancelledError):
        async with limits.serving(app, listener, app[LIMITS], DRAIN_SECONDS):
            await asyncio.Event().wait()


def _cut(loop: asyncio.AbstractEventLoop, leash: int, work: asyncio.Task[None]) -> None:
    loop.remove_reader(leash)
    _end(work)


def _end(work: asyncio.Task[None]) -> None:
    # Once: a second time would cut off the requests that are being finished.
    if not work.cancelling():
        work.cancel()


async def _note_start(app: web.Application) -> None:
    app[HEALTH].start()


def failure(status: int, message: str, /, **more: Any) -> web.Response:
    """Return the one shape of an error: what was wrong and what to do."""
    return reply({"status": "failure", "message": message, **more}, status)


def reply(body: Any, status: int = 200) -> web.Response:
    """Return a JSON response that keeps text readable; 503 asks for another try a little later."""
    text = json.dumps(body, ensure_ascii=False)
    headers = {"Retry-After": limits.RETRY_AFTER} if status == 503 else None  # noqa: PLR2004 - HTTP's "unavailable"
    return web.Response(text=text, status=status, headers=headers, content_type="application/json")


async def read_json(request: web.Request) -> Any:
    """Return the request's body as decoded JSON; raises `MessageError`."""
    raw = await limits.body(request, request.app[LIMITS])
    try:
        return json.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise MessageError("the body is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise MessageError('the body is not JSON; send {"msg": "text"}') from error


def traced(config: Config, handler: Handler) -> Handler:
    """Return a handler whose requests are traced, as parts of the traces that their clients name, if any is traced."""
    if not config.tracing.endpoint:
        return handler

    async def wrapped(request: web.Request) -> web.StreamResponse:
        name, parent = f"{request.method} {request.path}", request.headers.get(tracing.HEADER)
        with request.app[TRACING].entry(name, parent) as span:
            response = await handler(request)
            span.set("http.response.status_code", response.status)
            return response

    return wrapped


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        limit = request.client_max_size
        return failure(413, f"the body is larger than {limit} bytes; send less, or raise [limits] max-body")
    except web.HTTPException as error:
        answer = failure(error.status, f"{error.reason}: {request.method} {request.path}")
        if isinstance(error, web.HTTPRequestTimeout):
            answer.force_close()
        return answer
    except MicroqError as error:
        status = STATUS.get(type(error), 500)
        if status >= 500:  # noqa: PLR2004 - HTTP's server errors
            log.warning("%s %s answered %d: %s", request.method, quoted(request.path), status, error)
        return failure(status, str(error))


async def _healthz(request: web.Request) -> web.Response:
    health = request.app[HEALTH]
    latency = {"latency": took.counts} if (took := health.latency) else {}
    known = {"service": health.name, "ready": health.ready(), "held": health.held(), "full": health.full()}
    return reply({"status": "success", **known, "counters": health.counters, **latency})


async def _readyz(request: web.Request) -> web.Response:
    health = request.app[HEALTH]
    if health.ready() and health.started:
        return reply({"status": "success", "service": health.name})
    return failure(503, f"{health.name} is starting, or has no connection to the cluster; try again")


async def _metrics(request: web.Request) -> web.Response:
    from microq.services import metrics  # noqa: PLC0415 - 30 ms that a start need not wait for

    body, content_type = metrics.exposition(request.app[HEALTH], request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})
