"""What all services share: health, readiness, metrics, errors as JSON, workers, a graceful end."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import functools
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from aiohttp import web

from microq import aio, tracing
from microq import log as lines
from microq.config import Address, Config, Limits
from microq.errors import (
    MachineError,
    MessageError,
    MicroqError,
    QueueFullError,
    QueueIndeterminateError,
    QueueUnavailableError,
    StoreIndeterminateError,
    StoreUnavailableError,
)
from microq.fleet import LOST_LINES, SERVICES, addresses
from microq.hints import pasteable
from microq.log import quoted
from microq.replicas import MERGING, BrokenOffError
from microq.services import limits
from microq.services.health import Health, exposition
from microq.services.routes import ROUTES, TEXT, Media, Route, add, as_json, document, record
from microq.web import READING, Handler, json_response, own_names, refusal, wrong_call

log = logging.getLogger(__name__)

DRAIN_SECONDS = 8.0
"""The usual `DRAIN` of a service."""

END_SECONDS = 2.0
"""Seconds that a worker may take to end after that."""

STATUS: dict[type[MicroqError], int] = {
    MessageError: 400,
    QueueFullError: 503,
    QueueUnavailableError: 503,
    StoreUnavailableError: 503,
    BrokenOffError: 503,
    QueueIndeterminateError: 504,
    StoreIndeterminateError: 504,
}
"""The HTTP status of each microq error: 503 is certainly not accepted, 504 is indeterminate."""


CONFIG = web.AppKey("config", Config)
HEALTH = web.AppKey("health", Health)
TRACING = web.AppKey("tracing", tracing.Tracing)
LIMITS = web.AppKey("limits", Limits)
DRAIN = web.AppKey("drain", float)
"""Seconds that unfinished requests may take after SIGTERM."""
BESIDE: web.AppKey[tuple[Address, ...]] = web.AppKey("beside", tuple)
"""Addresses of other instances of the same role that start together with this one."""
NAMES = web.AppKey("names", frozenset[str])


def make_app(config: Config, name: str, max_body: int = 0, workers: int = 1) -> web.Application:
    """Return an application with what all services share; 0 for `max_body` means the configured one.

    When it is served, it runs in this number of `workers`, each a process.
    """
    app = web.Application(middlewares=[_errors], client_max_size=max_body or config.limits.max_body)
    app[CONFIG], app[LIMITS], app[HEALTH] = config, config.limits, Health(name, workers)
    app[DRAIN] = DRAIN_SECONDS
    app[NAMES], app[ROUTES] = own_names(a.host for role in SERVICES for a in addresses(config, role)), []

    async def traces(app: web.Application) -> AsyncIterator[None]:
        app[TRACING] = tracing.start(config.tracing.endpoint, name)
        yield
        await app[TRACING].close()

    # The first context, so it ends last: work at the end of the others is traced too.
    app.cleanup_ctx.append(traces)
    app.on_startup.append(_note_start)
    app.on_response_prepare.append(_say_merging)
    add(app, *ROUTES_OF_EVERY_SERVICE)
    return app


def serve(app: web.Application, name: str, address: Address) -> None:
    """Serve until SIGTERM or SIGINT, then finish the open requests. Raises `MachineError` if the port is taken."""
    lines.setup(
        name,
        form=app[CONFIG].logs.format,
        trace_id=tracing.trace_id,
        lost=functools.partial(app[HEALTH].count, LOST_LINES),
    )
    ready = f"{name} is ready, listening on {address}"
    limits.allow_files(app[LIMITS])
    count = app[HEALTH].workers
    # First of all: a service that found its port taken only later would already have consumed messages.
    with _bound(name, address) as listener:
        if count == 1:
            _work(app, listener, functools.partial(log.info, "%s", ready))
    if count > 1:
        check_workers()
        with contextlib.ExitStack() as stack:
            # The socket above was not shared: so it found out whether another process has the port.
            listeners = [stack.enter_context(_bound(name, address, shared=True)) for _ in range(count)]
            share(app[HEALTH], listeners, functools.partial(_work, app), ready, app[DRAIN] + END_SECONDS)
    log.info("stopped")


def _bound(name: str, address: Address, *, shared: bool = False) -> socket.socket:
    """Return a socket bound to this address; with `shared` other such sockets of this user may be bound to it too."""
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
    """Serve on a socket, and call `started` when it is ready; end on a signal, or when the pipe `leash` is closed."""

    async def tell(_app: web.Application) -> None:
        started()

    app.on_startup.append(tell)
    aio.run(_until_ended(app, listener, leash))


async def _until_ended(app: web.Application, listener: socket.socket, leash: int | None) -> None:
    loop, work = asyncio.get_running_loop(), asyncio.current_task()
    assert work is not None  # noqa: S101 - a coroutine runs in a task
    for number in ENDS:
        loop.add_signal_handler(number, _end, work)
    # A worker starts with these signals blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
    if leash is not None:
        loop.add_reader(leash, _cut, loop, leash, work)
    with contextlib.suppress(asyncio.CancelledError):
        async with limits.serving(app, listener, app[LIMITS], app[DRAIN]):
            await asyncio.Event().wait()


def _cut(loop: asyncio.AbstractEventLoop, leash: int, work: asyncio.Task[None]) -> None:
    loop.remove_reader(leash)
    _end(work)


def _end(work: asyncio.Task[None]) -> None:
    # Only once: a second cancellation would cut off requests that are being finished.
    if not work.cancelling():
        work.cancel()


async def _say_merging(request: web.Request, response: web.StreamResponse) -> None:
    if request.app[HEALTH].merging():
        response.headers[MERGING] = "true"


async def _note_start(app: web.Application) -> None:
    app[HEALTH].start()


def failure(status: int, message: str, /, **more: Any) -> web.Response:
    """Return an error response; `message` says what was wrong and what to do."""
    return reply({"status": "failure", "message": message, **more}, status)


def reply(body: Any, status: int = 200) -> web.Response:
    """Return a JSON response; with 503 it asks the client to retry a little later."""
    headers = {"Retry-After": limits.RETRY_AFTER} if status == 503 else None  # noqa: PLR2004 - HTTP's "unavailable"
    return json_response(body, status, headers)


async def read_text(request: web.Request) -> str:
    """Return the request's body as text, without a byte order mark; raises `MessageError` and HTTP errors."""
    check_coding(request)
    raw = await limits.body(request, request.app[LIMITS])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MessageError("the body is not UTF-8 text") from error


async def read_json(request: web.Request) -> Any:
    """Return the request's body as decoded JSON; raises as `read_text` does."""
    return decoded(await read_text(request))


def decoded(text: str) -> Any:
    """Return decoded JSON; raises `MessageError`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MessageError('the body is not JSON; send {"msg": "text"}') from error


def check_coding(request: web.Request) -> None:
    """Raise HTTP's 415 if a body is compressed, or its text encoded, in a way that is not supported."""
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in limits.CODINGS:
        accepted = {"Accept-Encoding": ", ".join(limits.CODINGS)}
        raise web.HTTPUnsupportedMediaType(reason=limits.NO_CODING, headers=accepted)
    if (charset := request.charset) and not _is_utf8(charset):
        raise web.HTTPUnsupportedMediaType(reason="the body's charset is not supported; send UTF-8")


def _is_utf8(charset: str) -> bool:
    """Return whether a charset is UTF-8 or a part of it, such as ASCII."""
    try:
        return codecs.lookup(charset).name in {"utf-8", "ascii"}
    except (LookupError, ValueError):
        return False


def traced(config: Config, handler: Handler) -> Handler:
    """Return a handler whose requests are traced, as parts of their clients' traces; the same one if tracing is off."""
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
        if problem := refusal(request, request.app[NAMES], READING):
            return failure(403, problem)
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        limit = request.client_max_size
        return failure(413, f"the body is larger than {limit} bytes; send less, or raise [limits] max-body")
    except web.HTTPException as error:
        return _refused(request, error)
    except MicroqError as error:
        status = STATUS.get(type(error), 500)
        if status >= 500:  # noqa: PLR2004 - HTTP's server errors
            log.warning("%s %s answered %d: %s", request.method, quoted(request.path), status, error)
        return failure(status, pasteable(str(error)))


def _refused(request: web.Request, error: web.HTTPException) -> web.Response:
    if isinstance(error, web.HTTPNotFound | web.HTTPMethodNotAllowed):
        message, headers = wrong_call(request, error)
        answer = failure(error.status, message)
        answer.headers.update(headers)
        return answer
    answer = failure(error.status, error.reason)
    if isinstance(error, web.HTTPUnsupportedMediaType) and "Accept-Encoding" in error.headers:
        answer.headers["Accept-Encoding"] = error.headers["Accept-Encoding"]
    if isinstance(error, web.HTTPRequestTimeout):
        answer.force_close()
    return answer


async def _healthz(request: web.Request) -> web.Response:
    health = request.app[HEALTH]
    latency = {"latency": took.counts} if (took := health.latency) else {}
    known = {"service": health.name, "ready": health.ready(), "held": health.held(), "full": health.full()}
    known |= {"merging": health.merging()}
    return reply({"status": "success", **known, "counters": health.counters, **latency})


async def _readyz(request: web.Request) -> web.Response:
    health = request.app[HEALTH]
    if health.ready() and health.started and await health.reaches():
        return reply({"status": "success", "service": health.name})
    return failure(503, f"{health.name} is starting, or has no connection to the cluster; try again")


async def _metrics(request: web.Request) -> web.Response:
    body, content_type = exposition(request.app[HEALTH], request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


async def _openapi(request: web.Request) -> web.Response:
    return json_response(document(request.app, request.app[HEALTH].name, f"http://{request.host}"))


_HEALTH = record(
    {"status": {"const": "success"}, "service": TEXT, "ready": {"type": "boolean"}},
    held={"type": ["integer", "null"], "description": "Messages held, or entries written."},
    full={"type": ["boolean", "null"]},
    merging={"type": "boolean", "description": "Whether it may show only some of the messages."},
    counters={"type": "object", "additionalProperties": {"type": "integer"}},
    latency={"type": "array", "items": {"type": "integer"}},
)
_READY = record({"status": {"const": "success"}, "service": TEXT})

ROUTES_OF_EVERY_SERVICE = (
    Route("GET", "/healthz", _healthz, "Whether the service is alive, and its counters.", as_json(_HEALTH)),
    Route("GET", "/health", _healthz, "The same.", as_json(_HEALTH)),
    Route("GET", "/readyz", _readyz, "Whether it can do its work now; 503 if it cannot.", as_json(_READY)),
    Route(
        "GET",
        "/metrics",
        _metrics,
        "The metrics, for Prometheus.",
        {"text/plain": Media(TEXT), "application/openmetrics-text": Media(TEXT)},
    ),
    Route("GET", "/openapi.json", _openapi, "These calls, as OpenAPI 3.1 describes them.", as_json({"type": "object"})),
)


ENDS = frozenset({signal.SIGINT, signal.SIGTERM})

_STARTED = signal.SIGUSR1
"""The signal by which a worker reports to its parent that it is ready."""

_HEARD = ENDS | {_STARTED, signal.SIGCHLD}

Work = Callable[[socket.socket, Callable[[], None], int], None]
"""The work of a worker: serves on a socket, calls the function when it is ready, and ends on a signal or when the pipe
with this file descriptor is closed."""


def check_workers() -> None:
    """Raise `MachineError` if the kernel does not distribute connections over the listeners of a port."""
    if sys.platform != "linux":
        raise MachineError("[facade] workers: several processes can share a port on Linux only; leave it at 1")


def share(health: Health, listeners: Sequence[socket.socket], work: Work, ready: str, seconds: float) -> None:
    """Fork one worker for each listener, and return when they have ended after a signal.

    Call it before there is an event loop or a thread. It logs the line `ready` when all workers are ready. They have
    `seconds` to end. If a worker ends by itself, it ends the others. It raises `MicroqError` for that, and for workers
    that it had to kill.
    """
    # Blocked until there is a handler: no signal may be lost, or end a worker that has just started.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    started = functools.partial(os.kill, os.getpid(), _STARTED)
    # Only the parent has the other end; the kernel closes it, however the parent ends.
    leash, held = os.pipe()
    pids: dict[int, int] = {}
    for worker, listener in enumerate(listeners):
        pid = os.fork()
        if not pid:
            os.close(held)
            # Listeners of other workers would stay open in this one.
            for other in listeners:
                if other is not listener:
                    other.close()
            health.become(worker)
            work(listener, started, leash)
            sys.exit()
        pids[pid] = worker
    for listener in listeners:
        listener.close()
    _watch(health, pids, ready, seconds)


def _watch(health: Health, pids: dict[int, int], ready: str, seconds: float) -> None:
    """Wait until no worker is left; `pids` are their process ids, with their numbers."""
    deadline: float | None = None
    failure: MicroqError | None = None
    said = ending = False
    while pids:
        heard = _hear(deadline)
        asked = heard in ENDS  # a signal to the whole group may have ended a worker already
        for pid, status in _ended(pids):
            worker = pids.pop(pid)
            if not (ending or asked):
                failure = MicroqError(f"worker {worker + 1} of {health.workers} (pid {pid}) ended {_how(status)}")
                failure.exit_code = max(status, 1)
                log.error("%s; the others end with it", failure)
        if heard == _STARTED and health.started and not said:
            said = True
            log.info("%s", ready)
        if heard is None:
            failure = MicroqError(f"{len(pids)} workers did not end in {seconds:g} s, and were killed")
            _tell(pids, signal.SIGKILL)
            deadline = None
        elif not ending and (failure or asked):
            ending, deadline = True, time.monotonic() + seconds
            _tell(pids, signal.SIGTERM)
    if failure:
        raise failure


def _hear(deadline: float | None) -> int | None:
    """Wait for a signal and return it; None if the deadline passed."""
    if deadline is None:
        return signal.sigwait(_HEARD)
    heard = signal.sigtimedwait(_HEARD, max(0.0, deadline - time.monotonic()))
    return heard.si_signo if heard else None


def _ended(pids: Iterable[int]) -> list[tuple[int, int]]:
    """Return the workers that ended since the last call, with their exit status, or minus the number of a signal."""
    looked = [os.waitpid(pid, os.WNOHANG) for pid in pids]
    return [(pid, os.waitstatus_to_exitcode(status)) for pid, status in looked if pid]


def _how(status: int) -> str:
    return f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"


def _tell(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)  # it is not reaped yet, so the pid still belongs to it
