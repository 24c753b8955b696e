"""The ceiling: a handler that does nothing; no facade on this machine can answer more requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from microq.child import child, run, serve
from microq.config import Address

START_SECONDS = 20.0
"""Seconds until it must be ready."""


@asynccontextmanager
async def doing_nothing() -> AsyncIterator[Address]:
    """Yield the address of such a handler in a separate process; raises `MachineError` if it does not start."""
    async with child(__name__, "the handler that does nothing") as started:
        yield Address("127.0.0.1", await started.ask("port", within=START_SECONDS))


async def _nothing(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"status": "success", "uuid": "", "logging-service": ""})


async def _serve() -> None:
    app = web.Application()
    app.router.add_post("/facade", _nothing)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()

    async def port() -> int:
        return int(runner.addresses[0][1])

    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await serve({"port": port})
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    run("microq idle handler", _serve())
