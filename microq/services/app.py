"""What every service has: health, readiness, metrics, errors as JSON, a graceful end."""

from __future__ import annotations

import asyncio
import contextlib
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
from microq.services import limits
from microq.services.health import Health

log = logging.getLogger(__name__)

DRAIN_SECONDS = 8.0
"""How long requests under way may take after SIGTERM."""

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


def make_app(config: Config, name: str, max_body: int = 0) -> web.Application:
    """Return an application with what every service has; `max_body` is the configured one unless told."""
    app = web.Application(middlewares=[_errors], client_max_size=max_body or config.limits.max_body)
    app[CONFIG], app[LIMITS], app[HEALTH] = config, config.limits, Health(name)

    async def traces(app: web.Application) -> AsyncIterator[None]:
        app[TRACING] = tracing.start(config.tracing.endpoint, name)
        yield
        await app[TRACING].close()

    # The first, so that it ends last: what the others do at their end is traced too.
    app.cleanup_ctx.append(traces)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    return app


def serve(app: web.Application, name: str, address: Address) -> None:
    """Listen until SIGTERM or SIGINT, then finish the requests under way. Raises `MachineError` on a taken port."""
    lines.setup(name, form=app[CONFIG].logs.format, trace_id=tracing.trace_id)
    app.on_startup.append(_announce(name, address))
    # Before anything else: a service that found its port taken only at the end would have consumed meanwhile.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address.host, address.port))
        except OSError as error:
            raise MachineError(f"{name} cannot listen on {address}: {error.strerror}") from error
        limits.allow_files(app[LIMITS])
        loops.run(_until_ended(app, listener))
    log.info("stopped")


async def _until_ended(app: web.Application, listener: socket.socket) -> None:
    loop, work = asyncio.get_running_loop(), asyncio.current_task()
    assert work is not None  # noqa: S101 - a coroutine runs in a task
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _end, work)
    with contextlib.suppress(asyncio.CancelledError):
        async with limits.serving(app, listener, app[LIMITS], DRAIN_SECONDS):
            await asyncio.Event().wait()


def _end(work: asyncio.Task[None]) -> None:
    # Once: a second time would cut off the requests that are being finished.
    if not work.cancelling():
        work.cancel()


def _announce(name: str, address: Address) -> Callable[[web.Application], Awaitable[None]]:
    async def say(_app: web.Application) -> None:
        log.info("%s is ready, listening on %s", name, address)

    return say


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
    latency = {"latency": health.latency.counts} if health.latency else {}
    known = {"service": health.name, "ready": health.ready(), "held": health.held(), "full": health.full()}
    return reply({"status": "success", **known, "counters": health.counters, **latency})


async def _readyz(request: web.Request) -> web.Response:
    health = request.app[HEALTH]
    if health.ready():
        return reply({"status": "success", "service": health.name})
    return failure(503, f"{health.name} has no connection to the cluster; try again")


async def _metrics(request: web.Request) -> web.Response:
    from microq.services import metrics  # noqa: PLC0415 - 30 ms that a start need not wait for

    body, content_type = metrics.exposition(request.app[HEALTH], request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})
