"""Who may do what: reading is free on this machine, acting needs the token, and foreign pages get nothing."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

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
        if name not in ("localhost", configured.lower()):
            ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def guard(configured: str) -> Any:
    """Return the middleware that refuses a foreign Host or Origin, and tells browsers what the page may do."""

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        ours = (None, f"http://{request.host}")
        if not is_ours(request.host, configured) or request.headers.get("Origin") not in ours:
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
