"""What the page reads: the state, the stream of what happens, logs, messages and their journeys, dead letters."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from pathlib import Path

from aiohttp import web
from aiohttp_sse import sse_response

from microq import __version__, trails
from microq.config import Config
from microq.dashboard.page import PAGE
from microq.dashboard.recorder import Recorder
from microq.errors import DeadlineError, NotRunningError, UsageError

LINES = 200
"""Lines of a log that the page gets at once."""

MOST_ROWS = 500
"""Messages of one answer."""


def add_routes(app: web.Application) -> None:
    """Add the requests that anybody on this machine may make."""
    app.router.add_get("/api/state", _state)
    app.router.add_get("/api/frames", _frames)
    app.router.add_get("/api/stream", _stream)
    app.router.add_get("/api/logs/{name}", _logs)
    app.router.add_get("/api/messages", _messages)
    app.router.add_get("/api/message", _message)
    app.router.add_get("/api/dead", _dead)
    app.router.add_get("/report/{run}", _report)
    app.router.add_get("/metrics", _metrics)


async def _state(request: web.Request) -> web.Response:
    from microq.dashboard.faults import offered  # noqa: PLC0415 - a system starts without its faults

    page = request.app[PAGE]
    if isinstance(page.source, Recorder):
        await page.source.refresh()
    queue = page.config.queue
    return web.json_response(
        {
            "project": page.config.project.name,
            "run": page.run.name,
            "microq": __version__,
            "backend": queue.backend,
            "queue": {"name": queue.name, "backup_count": queue.backup_count, "max_size": queue.max_size},
            "config": page.config.to_toml(),
            "faults": offered(page.config),
            **page.source.state(),
        }
    )


async def _frames(request: web.Request) -> web.Response:
    source = request.app[PAGE].source
    if isinstance(source, Recorder):
        raise UsageError("this run is not over; `microq dashboard RUN` replays one that is")
    return web.json_response(source.frames())


async def _stream(request: web.Request) -> web.StreamResponse:
    source = request.app[PAGE].source
    if not isinstance(source, Recorder):
        raise UsageError("nothing more happens in a finished run")
    async with sse_response(request) as response:
        with contextlib.suppress(ConnectionError):
            async for name, body in source.watchers.watch():
                await response.send(json.dumps(body), event=name)
    return response


async def _logs(request: web.Request) -> web.StreamResponse:
    from microq.views import logs  # noqa: PLC0415 - it brings the terminal's library, which nothing else here needs

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
        rows = await asyncio.to_thread(trails.search, page.logs, text, int(limit))
    else:
        rows = await asyncio.to_thread(page.messages.newest, int(limit))
    return web.json_response({"messages": [dataclasses.asdict(row) for row in rows]})


async def _message(request: web.Request) -> web.Response:
    trail = await asyncio.to_thread(trails.find, request.app[PAGE].logs, request.query.get("id", ""))
    return web.json_response(dataclasses.asdict(trail))


async def _dead(request: web.Request) -> web.Response:
    """Return the dead letters; none and the reason while nobody can tell them."""
    actions = request.app[PAGE].actions
    try:
        return web.json_response({"letters": await actions.facade.dead_letters() if actions else []})
    except (NotRunningError, DeadlineError) as error:
        return web.json_response({"letters": None, "message": str(error)})


async def _report(request: web.Request) -> web.Response:
    """Make the report of a scenario of this project, or of the run that is shown, from its history."""
    from microq.chaos.history import FILE  # noqa: PLC0415 - the report is asked for rarely

    page, name = request.app[PAGE], request.match_info["run"]
    folder = page.run if name == page.run.name else page.config.folder / "runs" / name
    if folder.name != name or not (folder / FILE).is_file():
        raise UsageError(f"no run called {name!r} has a history")
    text = await asyncio.to_thread(_rendered, folder / FILE, page.config)
    # It is closed by a policy of its own, which lets its own scripts run, and those are in it.
    own = {"Content-Security-Policy": "frame-ancestors 'none'"}
    return web.Response(text=text, content_type="text/html", headers=own)


def _rendered(path: Path, config: Config) -> str:
    from microq.chaos.history import read  # noqa: PLC0415 - the report is asked for rarely
    from microq.report.page import render  # noqa: PLC0415

    return render(read(path), path.name, config_toml=config.to_toml())


async def _metrics(request: web.Request) -> web.Response:
    from microq.views.exposition import exposition  # noqa: PLC0415 - its library is needed only where somebody scrapes

    source = request.app[PAGE].source
    if not isinstance(source, Recorder):
        raise UsageError("a finished run has no metrics; its timeline has what there was")
    body, content_type = exposition(await source.refresh(), request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})
