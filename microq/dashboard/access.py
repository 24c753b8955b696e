"""Who may do what: reading is free on this machine, acting needs the token, and foreign pages get nothing."""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from microq.config import Config

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADER = "X-Microq-Token"
"""The header of an action; no page of another origin can send it unasked."""

POLICY = {
    # Plotly sets the styles of what it draws.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # The address of the page has the token in it.
    "Referrer-Policy": "no-referrer",
}


def token_of(config: Config) -> str:
    """Return the token of this project, which is made once and readable by its user only; raises `OSError`."""
    config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = config.folder / "token"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if token := path.read_text(encoding="ascii", errors="replace").strip():
            return token
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    token = secrets.token_urlsafe(16)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token)
    return token


def address_of(config: Config) -> str:
    """Return the address of the page of the system of this project, with the token that lets it act."""
    return f"{config.dashboard.address.url}/?token={token_of(config)}"


def may_act(request: web.Request, token: str) -> bool:
    """Return whether a request carries the token."""
    given = request.headers.get(HEADER, "")
    return bool(token) and hmac.compare_digest(given.encode(), token.encode())


def is_ours(host: str, configured: str) -> bool:
    """Return whether a request for this `Host` can be meant for us.

    A name that somebody else's server resolves to this machine is how a foreign page would reach us, so only addresses,
    this machine's own name for itself, and the name that is configured are.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        ipaddress.ip_address(name)
    except ValueError:
        return name_is(host, "localhost") or name_is(host, configured)
    return True


def name_is(host: str, name: str) -> bool:
    """Return whether a `Host` header names this name, whatever the port."""
    return host.rpartition(":")[0].lower() == name.lower() or host.lower() == name.lower()


def guard(configured: str) -> Any:
    """Return the middleware that refuses a foreign Host or Origin, and tells browsers what the page may do."""

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if not is_ours(request.host, configured) or (origin is not None and urlsplit(origin).netloc != request.host):
            return web.json_response(
                {"message": "this page is not the dashboard's; open the address that `microq dashboard` prints"},
                status=403,
            )
        return await handler(request)

    return refuse


async def add_policy(_request: web.Request, response: web.StreamResponse) -> None:
    """Add the policy to every response, streams included; a signal of the application."""
    for header, value in POLICY.items():
        response.headers.setdefault(header, value)
