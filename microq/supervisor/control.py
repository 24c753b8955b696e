"""Control of the supervisor from another process: HTTP over a Unix socket that only this user may open."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from microq.config import Config
from microq.errors import DeadlineError, MachineError, MicroqError, NotRunningError, RemoteError
from microq.fleet import VERBS, Event, Operator, Snapshot
from microq.supervisor import records, runs

VERB_SECONDS = 180.0
"""Maximum seconds of a verb."""

LOOK_SECONDS = 5.0
"""Maximum seconds of a snapshot."""

REFUSED = 409
"""The HTTP status of an answer with a microq error."""


@asynccontextmanager
async def serve(config: Config, operator: Operator, ended: asyncio.Event) -> AsyncIterator[None]:
    """Serve the operator on the project's control socket; `down` from there sets `ended`."""
    path = records.socket_path(config)
    if path.parent != config.folder:
        runs.own_folder(path.parent)
    path.unlink(missing_ok=True)
    runner = web.AppRunner(_app(operator, ended), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, _own_socket(path)).start()
    except OSError as error:
        raise MachineError(f"cannot open the control socket {path}: {error.strerror}") from error
    try:
        yield
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)


def _own_socket(path: Path) -> socket.socket:
    """Return a socket at `path` that another user could not open at any moment."""
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _app(operator: Operator, ended: asyncio.Event) -> web.Application:
    async def verb(request: web.Request) -> web.Response:
        names = (await request.json())["names"]
        try:
            done = await operator.act(request.match_info["verb"], names)
        except MicroqError as error:
            body = {"code": error.code, "exit_code": error.exit_code, "message": str(error)}
            return web.json_response(body, status=REFUSED)
        return web.json_response({"names": done})

    async def sabotage(request: web.Request) -> web.Response:
        await operator.sabotage(**await request.json())
        return web.json_response({})

    async def announce(request: web.Request) -> web.Response:
        await operator.announce(Event.from_json(await request.json()))
        return web.json_response({})

    async def snapshot(_request: web.Request) -> web.Response:
        return web.json_response((await operator.snapshot()).to_json())

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        async for event in operator.events():
            await response.write(json.dumps(event.to_json()).encode() + b"\n")
        return response

    async def down(_request: web.Request) -> web.Response:
        ended.set()
        return web.json_response({})

    app = web.Application()
    app.router.add_post(f"/{{verb:{'|'.join(VERBS)}}}", verb)
    app.router.add_post("/sabotage", sabotage)
    app.router.add_post("/announce", announce)
    app.router.add_get("/snapshot", snapshot)
    app.router.add_get("/events", events)
    app.router.add_post("/down", down)
    return app


class ControlClient(Operator):
    """The operator that asks a supervisor in another process; events end with the supervisor. Made by `connect`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def act(self, verb: str, names: Sequence[str]) -> list[str]:
        """Let the supervisor do one of `VERBS`."""
        body = await self._call("POST", f"/{verb}", {"names": list(names)})
        return list(body["names"])

    async def sabotage(self, role: str, defect: str) -> None:
        """Let the supervisor run a role with a defect."""
        await self._call("POST", "/sabotage", {"role": role, "defect": defect})

    async def announce(self, event: Event) -> None:
        """Let the supervisor send an event to all listeners."""
        await self._call("POST", "/announce", event.to_json())

    async def snapshot(self) -> Snapshot:
        """Let the supervisor return the state of the system now."""
        return Snapshot.from_json(await self._call("GET", "/snapshot", seconds=LOOK_SECONDS))

    async def events(self) -> AsyncIterator[Event]:
        """Yield the events from now on, until the supervisor ends."""
        try:
            async with self._session.get("http://microq/events") as response:
                async for line in response.content:
                    yield Event.from_json(json.loads(line))
        except (aiohttp.ClientError, OSError):
            return

    async def down(self) -> None:
        """Make the supervisor end all processes and then itself; `events` yields the progress."""
        await self._call("POST", "/down")

    async def _call(self, method: str, path: str, body: Any = None, seconds: float = VERB_SECONDS) -> Any:
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.request(method, f"http://microq{path}", json=body) as response,
            ):
                if response.status not in (200, REFUSED):
                    raise NotRunningError(f"the supervisor answered {response.status} to {method} {path}")
                answer = await response.json()
                if response.status == REFUSED:
                    raise RemoteError(answer["code"], answer["exit_code"], answer["message"])
        except TimeoutError as error:
            raise DeadlineError(f"the supervisor did not answer {method} {path} in {seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise NotRunningError("no system runs here; `microq up` starts it") from error
        return answer


@asynccontextmanager
async def connect(config: Config) -> AsyncIterator[ControlClient]:
    """Connect to this project's supervisor.

    Raises `NotRunningError` if there is none, `DeadlineError` if it is stopped.
    """
    pid = records.supervisor_pid(config)
    if pid is None:
        if (pid := records.lost_supervisor(config)) is not None:
            raise NotRunningError(
                f"the system that runs in {config.title} (supervisor pid {pid}) lost its folder {config.folder} and "
                f"cannot be reached; `microq down` ends it"
            )
        left = records.leftovers(config)
        hint = f"; {len(left)} processes of an earlier run are left, `microq down` ends them" if left else ""
        raise NotRunningError(f"no system runs in {config.title}; `microq up` starts it{hint}")
    if records.stopped(pid):
        raise DeadlineError(
            f"the supervisor (pid {pid}) is stopped, perhaps by Ctrl-Z in its terminal, and does not answer; "
            f"`fg` there or `kill -CONT {pid}` continues it, `microq down` ends it"
        )
    connector = aiohttp.UnixConnector(str(records.socket_path(config)))
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield ControlClient(session)
