"""What all HTTP servers of microq share: which requests they accept, how they write JSON, which calls they offer."""

from __future__ import annotations

import functools
import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from microq.log import quoted

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STYLE = Path(__file__).parent / "style"
"""The folder with the styles that all pages share; a server with a page serves it at `/style`."""

READING = frozenset({"GET", "HEAD"})
"""Methods that change nothing. A browser hides their answers from pages of other origins."""

POLICY = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # The address of a page may contain a token.
    "Referrer-Policy": "no-referrer",
}
"""What a browser may do with a page of microq. Scripts may set styles: Plotly does so for its charts."""


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a JSON response without escaped letters and with a line break at its end."""
    text = json.dumps(body, ensure_ascii=False) + "\n"
    return web.Response(text=text, status=status, headers=headers, content_type="application/json")


def own_names(hosts: Iterable[str]) -> frozenset[str]:
    """Return the host names that a request may use: the configured hosts, and this machine's own names."""
    return frozenset(name.lower() for name in (*hosts, "localhost", socket.gethostname()))


@functools.lru_cache(maxsize=256)
def is_ours(host: str, names: frozenset[str]) -> bool:
    """Return whether the `Host` of a request is an address or one of our own `names`.

    A foreign page can reach this machine through a host name of its own that resolves to it (DNS rebinding). So other
    names are refused.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name not in names:
            ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def refusal(request: web.Request, names: frozenset[str], open_to_all: frozenset[str] = frozenset()) -> str:
    """Return why a request may come from a foreign page; empty if it cannot.

    A browser sends `Host` with each request, and `Origin` with each request that may change something. A request
    without `Origin` is not from a page. The `Origin` of methods `open_to_all` is not checked.
    """
    host = request.headers.get("Host")
    if host is not None and not is_ours(host, names):
        return f"nothing here is called {quoted(host)}; use the address {_where(request)} or the name localhost"
    origin = request.headers.get("Origin")
    if origin is None or request.method in open_to_all or origin == f"http://{host}":
        return ""
    return f"a page of {quoted(origin)} may not do this; only http://{host} may"


def _where(request: web.Request) -> str:
    found = request.transport.get_extra_info("sockname") if request.transport else None
    return f"{found[0]}:{found[1]}" if found else "of this machine"


def calls(app: web.Application) -> list[str]:
    """Return the calls that an application offers, such as `GET /facade`, in the order of its routes."""
    found = (
        f"{route.method} {route.resource.canonical}"
        for route in app.router.routes()
        if route.method != "HEAD" and route.resource and not isinstance(route.resource, web.StaticResource)
    )
    return list(dict.fromkeys(found))


def wrong_call(request: web.Request, error: web.HTTPException) -> tuple[str, Mapping[str, str]]:
    """Return the message for a call that is not offered (404, 405), and its headers."""
    asked = f"{request.method} {quoted(request.path)}"
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return f"{asked} is not offered; {quoted(request.path)} takes {allowed}", {"Allow": allowed}
    return f"{asked} is not offered; the calls are {', '.join(calls(request.app))}", {}


async def add_policy(_request: web.Request, response: web.StreamResponse) -> None:
    """Add the policy to every response, streams included; a signal of an application that has a page."""
    for header, value in POLICY.items():
        response.headers.setdefault(header, value)
