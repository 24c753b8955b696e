"""The dashboard's HTTP server: the page of a running system or of a finished run, its requests and its actions.

A request that changes something needs the token.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp_sse import sse_response

from microq import __version__, metrics, trace
from microq.backends import described
from microq.config import Address, Config, without_secrets
from microq.dashboard.access import address_of, may_act, token_of
from microq.dashboard.actions import Actions, open_actions
from microq.dashboard.recorder import Recorder, recording
from microq.errors import DeadlineError, MachineError, MicroqError, NotRunningError, UsageError
from microq.fleet import Operator
from microq.hints import pasteable
from microq.report.html import plotly_js
from microq.trace import Trails
from microq.web import STYLE, Handler, add_policy, json_response, own_names, refusal, wrong_call

if TYPE_CHECKING:  # it imports the checker, which a running system does not need
    from microq.dashboard.replay import Replay

STATIC = Path(__file__).parent / "static"

END_SECONDS = 0.5
"""Seconds that open requests may take when the server ends."""

STATUS: tuple[tuple[type[MicroqError], int], ...] = (
    (UsageError, 400),
    (NotRunningError, 503),
    (DeadlineError, 504),
    (MicroqError, 500),
)
"""The HTTP status of each microq error; the first that matches."""


def make_app(page: Page) -> web.Application:
    """Return the application that shows a page."""
    app = web.Application(middlewares=[_guard(page.config.dashboard.address.host), _errors])
    app[PAGE] = page
    app.on_response_prepare.append(add_policy)
    app.router.add_get("/", _index)
    app.router.add_get("/static/plotly.min.js", _plotly)
    app.router.add_static("/static", STATIC)
    app.router.add_static("/style", STYLE)
    add_routes(app)
    return app


def _guard(configured: str) -> Any:
    """Return the middleware that refuses requests that may come from a foreign page, even if they only read."""
    names = own_names([configured])

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        if problem := refusal(request, names):
            return json_response({"message": problem}, 403)
        return await handler(request)

    return refuse


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        message, headers = wrong_call(request, error)
        return json_response({"message": message}, error.status, headers)
    except MicroqError as error:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        return json_response({"message": pasteable(str(error))}, status)


async def _index(_request: web.Request) -> web.StreamResponse:
    return web.FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


async def _plotly(_request: web.Request) -> web.StreamResponse:
    return web.FileResponse(plotly_js(), headers={"Cache-Control": "max-age=86400"})


@asynccontextmanager
async def show_system(config: Config, operator: Operator, run: Path) -> AsyncIterator[str]:
    """Record a running system and serve its page at `[dashboard] address`; yield the page's address with the token.

    Raises `MachineError` if it cannot listen there.
    """
    token = token_of(config)
    async with (
        open_actions(config, operator) as actions,
        recording(operator, run) as recorder,
        _serving(make_app(Page(config, run, recorder, actions, token)), config.dashboard.address),
    ):
        yield address_of(config)


@asynccontextmanager
async def show_run(config: Config, run: Path, address: Address) -> AsyncIterator[str]:
    """Serve the page of a finished run; yield the page's address. Raises `UsageError` and `MachineError`."""
    from microq.dashboard.replay import load  # noqa: PLC0415 - a running system has nothing to replay

    async with _serving(make_app(Page(config, run, load(run))), address):
        yield address.url


@asynccontextmanager
async def _serving(app: web.Application, address: Address) -> AsyncIterator[None]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=END_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, address.host, address.port).start()
    except OSError as error:
        await runner.cleanup()
        raise MachineError(f"the dashboard cannot listen on {address}: {error.strerror}") from error
    try:
        yield
    finally:
        await runner.cleanup()


# -- the requests of the page -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Page:
    """A running system, with the actions on it, or a finished run; `run` is its folder."""

    config: Config
    run: Path
    source: Recorder | Replay
    actions: Actions | None = None
    token: str = ""
    logs: Path = field(init=False)
    """The folder of the run that has the logs."""
    messages: Trails = field(init=False)
    """The newest messages; each request reads only new lines of the logs."""

    def __post_init__(self) -> None:
        self.logs = self.source.folder
        self.messages = Trails(self.logs)


PAGE = web.AppKey("page", Page)


Body = Mapping[str, Any]
Act = Callable[[Actions, Body], Awaitable[Any]]

LINES = 200
"""The number of last lines of a log that the page gets."""

MOST_ROWS = 500
"""The largest number of messages in one answer."""


def add_routes(app: web.Application) -> None:
    """Add all requests: any user of this machine may read; the others need the token."""
    app.router.add_get("/api/state", _state)
    app.router.add_get("/api/frames", _frames)
    app.router.add_get("/api/stream", _stream)
    app.router.add_get("/api/logs/{name}", _logs)
    app.router.add_get("/api/messages", _messages)
    app.router.add_get("/api/message", _message)
    app.router.add_get("/api/dead", _dead)
    app.router.add_get("/report/{run}", _report)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/api/access", _acting(_may_act))
    app.router.add_post("/api/send", _acting(_send))
    app.router.add_post("/api/process", _acting(_process))
    app.router.add_post("/api/fault", _acting(_fault, status=202))
    app.router.add_post("/api/dead", _acting(_change_dead))


async def _state(request: web.Request) -> web.Response:
    page = request.app[PAGE]
    if isinstance(page.source, Recorder):
        await page.source.refresh()
    queue, name = page.config.queue, page.config.name
    return json_response(
        {
            "project": page.config.project.name + (f" (name {name})" if name else ""),
            "run": page.run.name,
            "microq": __version__,
            "backend": queue.backend,
            "partitioned": described(queue.backend).partitioned,
            "queue": {"name": queue.name, "backup_count": queue.backup_count, "max_size": queue.max_size},
            "config": without_secrets(page.config.to_toml()),
            "faults": await asyncio.to_thread(_faults, page.config),
            **page.source.state(),
        }
    )


def _faults(config: Config) -> list[dict[str, Any]]:
    from microq.workflows.trial import offered  # noqa: PLC0415 - a system starts without its faults

    return offered(config)


async def _frames(request: web.Request) -> web.Response:
    source = request.app[PAGE].source
    if isinstance(source, Recorder):
        raise UsageError("this run is not finished; `microq dashboard RUN` replays a finished one")
    return json_response(source.frames())


async def _stream(request: web.Request) -> web.StreamResponse:
    source = request.app[PAGE].source
    if not isinstance(source, Recorder):
        raise UsageError("a finished run has no more events")
    async with sse_response(request) as response:
        with contextlib.suppress(ConnectionError):
            async for name, body in source.watchers.listen():
                await response.send(json.dumps(body), event=name)
    return response


async def _logs(request: web.Request) -> web.StreamResponse:
    from microq.terminal import logs  # noqa: PLC0415 - it brings the terminal's library, which nothing else here needs

    page, name = request.app[PAGE], request.match_info["name"]
    snapshot = page.source.snapshot
    if not snapshot or name not in {process.name for process in snapshot.processes}:
        raise UsageError(f"no process is called {name!r}")
    folder = page.logs / "logs"
    fresh = logs.follow(folder, [name])
    lines = await asyncio.to_thread(logs.last, logs.files_of(folder, [name]), LINES)
    async with sse_response(request) as response:
        with contextlib.suppress(ConnectionError):
            for _, line in lines:
                await response.send(json.dumps({"name": name, "line": line}), event="line")
            if isinstance(page.source, Recorder):
                async for _, line in fresh:
                    await response.send(json.dumps({"name": name, "line": line}), event="line")
    return response


async def _messages(request: web.Request) -> web.Response:
    limit, text = request.query.get("limit", "50"), request.query.get("q", "").strip()
    if not (limit.isascii() and limit.isdigit() and int(limit) <= MOST_ROWS):
        raise UsageError(f'"limit" must be a whole number up to {MOST_ROWS}')
    page = request.app[PAGE]
    if text:
        rows = await asyncio.to_thread(trace.search, page.logs, text, int(limit))
    else:
        rows = await asyncio.to_thread(page.messages.newest, int(limit))
    return json_response({"messages": [dataclasses.asdict(row) for row in rows]})


async def _message(request: web.Request) -> web.Response:
    trail = await asyncio.to_thread(trace.find, request.app[PAGE].logs, request.query.get("id", ""))
    return json_response(dataclasses.asdict(trail))


async def _dead(request: web.Request) -> web.Response:
    """Return the dead letters, or an empty list and the reason while they are unknown."""
    actions = request.app[PAGE].actions
    try:
        return json_response({"letters": await actions.dead_letters() if actions else []})
    except (NotRunningError, DeadlineError) as error:
        return json_response({"letters": None, "message": str(error)})


async def _report(request: web.Request) -> web.Response:
    """Make the report of a scenario of this project, or of the run that is shown, from its history."""
    from microq.chaos.history import FILE  # noqa: PLC0415 - the report is asked for rarely

    page, name = request.app[PAGE], request.match_info["run"]
    folder = page.run if name == page.run.name else page.config.folder / "runs" / name
    if folder.name != name or not (folder / FILE).is_file():
        raise UsageError(f"no run called {name!r} has a history")
    text = await asyncio.to_thread(_rendered, folder / FILE, page.config)
    # The report has its own policy, which allows only its own scripts.
    own = {"Content-Security-Policy": "frame-ancestors 'none'"}
    return web.Response(text=text, content_type="text/html", headers=own)


def _rendered(path: Path, config: Config) -> str:
    from microq.chaos.history import read  # noqa: PLC0415 - the report is asked for rarely
    from microq.report.run import render  # noqa: PLC0415

    return render(read(path), path.name, config_toml=without_secrets(config.to_toml()))


async def _metrics(request: web.Request) -> web.Response:
    source = request.app[PAGE].source
    if not isinstance(source, Recorder):
        raise UsageError("a finished run has no metrics; its figures are in its timeline")
    body, content_type = metrics.of_system(await source.refresh(), request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


# -- actions ----------------------------------------------------------------------------------------------------------


def _acting(act: Act, status: int = 200) -> Handler:
    """Return a handler that acts only if the request has the token."""

    async def handler(request: web.Request) -> web.StreamResponse:
        page = request.app[PAGE]
        if page.actions is None:
            return json_response({"message": "a finished run is read-only"}, status=403)
        if not may_act(request.headers, page.token):
            message = pasteable("actions need the token: open the address that `microq dashboard` prints")
            return json_response({"message": message}, status=403)
        body = await _body(request) if request.method == "POST" else {}
        return json_response(await act(page.actions, body), status=status)

    return handler


async def _body(request: web.Request) -> Body:
    try:
        body = json.loads((await request.read()).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is not JSON") from error
    if not isinstance(body, dict):
        raise UsageError("the body must be a JSON object")
    return body


async def _may_act(_actions: Actions, _body: Body) -> Any:
    return {"actions": True}


async def _send(actions: Actions, body: Body) -> Any:
    return await actions.send(_number(body, "count") or 1, _text(body, "text"))


async def _process(actions: Actions, body: Body) -> Any:
    return {"names": await actions.operate(_text(body, "verb"), _texts(body, "names"))}


async def _fault(actions: Actions, body: Body) -> Any:
    quiet, options = body.get("quiet"), body.get("options") or {}
    if quiet not in (None, True, False) or not isinstance(options, dict):
        raise UsageError('"quiet" must be true, false or null, and "options" an object')
    await actions.break_it(_text(body, "name"), _number(body, "messages"), quiet, options)
    return {}


async def _change_dead(actions: Actions, body: Body) -> Any:
    verb = _text(body, "verb")
    if verb not in ("replay", "drop"):
        raise UsageError('"verb" must be replay or drop')
    await actions.change_dead_letters(verb, _texts(body, "ids"))
    return {}


def _text(body: Body, key: str) -> str:
    value = body.get(key) or ""
    if not isinstance(value, str):
        raise UsageError(f'"{key}" must be a text')
    return value


def _texts(body: Body, key: str) -> list[str]:
    value = body.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise UsageError(f'"{key}" must be a list of texts')
    return value


def _number(body: Body, key: str) -> int | None:
    value = body.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise UsageError(f'"{key}" must be a whole number')
    return value
