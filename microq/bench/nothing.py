"""A handler that does nothing: the most that any facade could answer on this machine, through this client.

Run as a module it serves until its standard input ends, so that it never outlives who started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from microq import loops
from microq.bench.beside import beside
from microq.config import Address
from microq.errors import DeadlineError

START_SECONDS = 20.0
"""How long it may take until it serves."""


@asynccontextmanager
async def doing_nothing() -> AsyncIterator[Address]:
    """Yield the address of such a handler in a process of its own; raises `DeadlineError` if it does not start."""
    async with beside(__name__) as process:
        yield await _address(process)


async def _address(process: asyncio.subprocess.Process) -> Address:
    """Wait until it says at which port it serves."""
    said = b""
    try:
        async with asyncio.timeout(START_SECONDS):
            if process.stdout:
                said = await process.stdout.readline()
    except TimeoutError as error:
        raise DeadlineError(f"the handler that does nothing does not serve after {START_SECONDS:g} s") from error
    if not said:
        raise DeadlineError("the handler that does nothing ended before it served")
    return Address("127.0.0.1", int(said))


async def _nothing(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"status": "success", "uuid": "", "logging-service": ""})


async def _serve() -> None:
    app = web.Application()
    app.router.add_post("/facade", _nothing)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        loops.run(_serve())
