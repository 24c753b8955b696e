"""The dashboard's HTTP server: serves the page of a running system or of a finished run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from microq.config import Address, Config
from microq.dashboard.access import address_of, token_of
from microq.dashboard.actions import open_actions
from microq.dashboard.recorder import recording
from microq.dashboard.routes import PAGE, Page, add_routes
from microq.errors import DeadlineError, MachineError, MicroqError, NotRunningError, UsageError
from microq.fleet import Operator
from microq.hints import pasteable
from microq.report.html import plotly_js
from microq.web import STYLE, Handler, add_policy, json_response, own_names, refusal, wrong_call

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
