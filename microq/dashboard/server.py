"""The dashboard's server: it shows the system that runs, or a finished run, at one address."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from microq.config import Address, Config
from microq.dashboard import access, acting, reading
from microq.dashboard.actions import open_actions
from microq.dashboard.page import PAGE, Page
from microq.dashboard.recorder import recording
from microq.dashboard.token import address_of, token_of
from microq.errors import DeadlineError, MachineError, MicroqError, NotRunningError, UsageError
from microq.fleet import Operator
from microq.plotlyjs import script

STATIC = Path(__file__).parent / "static"

END_SECONDS = 0.5
"""How long requests under way may take when the server ends."""

STATUS: tuple[tuple[type[MicroqError], int], ...] = (
    (UsageError, 400),
    (NotRunningError, 503),
    (DeadlineError, 504),
    (MicroqError, 500),
)
"""What an error of ours is in HTTP; the first that fits."""


def make_app(page: Page) -> web.Application:
    """Return the application that shows a page."""
    app = web.Application(middlewares=[access.guard(page.config.dashboard.address.host), _errors])
    app[PAGE] = page
    app.on_response_prepare.append(access.add_policy)
    app.router.add_get("/", _index)
    app.router.add_get("/static/plotly.min.js", _plotly)
    app.router.add_static("/static", STATIC)
    reading.add_routes(app)
    acting.add_routes(app)
    return app


@web.middleware
async def _errors(request: web.Request, handler: access.Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except MicroqError as error:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        return web.json_response({"message": str(error)}, status=status)


async def _index(_request: web.Request) -> web.StreamResponse:
    return web.FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


async def _plotly(_request: web.Request) -> web.StreamResponse:
    return web.FileResponse(script(), headers={"Cache-Control": "max-age=86400"})


@asynccontextmanager
async def show_system(
    config: Config, operator: Operator, run: Path, environment: Mapping[str, str]
) -> AsyncIterator[str]:
    """Record a system that runs and show it at `[dashboard] address`; yield the page's address, token included.

    `environment` is that of the system's children. Raises `MachineError` if the address cannot be had.
    """
    token = token_of(config)
    async with (
        open_actions(config, operator, environment) as actions,
        recording(operator, run) as recorder,
        _serving(make_app(Page(config, run, recorder, actions, token)), config.dashboard.address),
    ):
        yield address_of(config)


@asynccontextmanager
async def show_run(config: Config, run: Path, address: Address) -> AsyncIterator[str]:
    """Show a finished run at an address; yield the page's. Raises `UsageError` and `MachineError`."""
    from microq.dashboard.recording import load  # noqa: PLC0415 - a running system has nothing to replay

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
