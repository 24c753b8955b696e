"""What the page asks for that changes something: each request checked, and only for who has the token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from microq.dashboard import access
from microq.dashboard.actions import Actions
from microq.dashboard.page import PAGE
from microq.errors import UsageError

Body = Mapping[str, Any]
Act = Callable[[Actions, Body], Awaitable[Any]]


def add_routes(app: web.Application) -> None:
    """Add the requests that need the token."""
    app.router.add_get("/api/access", _acting(_may_act))
    app.router.add_post("/api/send", _acting(_send))
    app.router.add_post("/api/process", _acting(_process))
    app.router.add_post("/api/fault", _acting(_fault, status=202))
    app.router.add_post("/api/dead", _acting(_dead))


def _acting(act: Act, status: int = 200) -> access.Handler:
    """Return a handler that acts only for who has the token."""

    async def handler(request: web.Request) -> web.StreamResponse:
        page = request.app[PAGE]
        if page.actions is None:
            return web.json_response({"message": "a finished run is read-only"}, status=403)
        if not access.may_act(request, page.token):
            message = "actions need the token: open the address that `microq dashboard` prints"
            return web.json_response({"message": message}, status=403)
        body = await _body(request) if request.method == "POST" else {}
        return web.json_response(await act(page.actions, body), status=status)

    return handler


async def _body(request: web.Request) -> Body:
    try:
        body = await request.json()
    except ValueError as error:
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


async def _dead(actions: Actions, body: Body) -> Any:
    verb = _text(body, "verb")
    if verb not in ("replay", "drop"):
        raise UsageError('"verb" must be replay or drop')
    await actions.facade.change_letters(verb, _texts(body, "ids"))
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
