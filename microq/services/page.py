"""The facade's page: what the facade is, every call with an example to paste, and a form to try it."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

from aiohttp import web

from microq.services.app import CONFIG, HEALTH, ROUTES_OF_EVERY_SERVICE
from microq.services.routes import ROUTES, TEXT, Media, Route, add
from microq.web import POLICY, STYLE

STATIC = Path(__file__).parent / "static"


def add_page(app: web.Application) -> None:
    """Add the routes of the page and its files."""
    add(app, _PAGE)
    app.router.add_static("/static", STATIC)
    app.router.add_static("/style", STYLE)


async def _page(request: web.Request) -> web.Response:
    """Answer a browser with the page, and anything else with the calls in plain text."""
    name, url = request.app[HEALTH].name, f"http://{request.host}"
    own = [route for route in request.app[ROUTES] if route not in (_PAGE, *ROUTES_OF_EVERY_SERVICE)]
    headers = {"Vary": "Accept", "Cache-Control": "no-cache", **POLICY}
    if "text/html" not in request.headers.get("Accept", ""):
        lines = [f"{name} is {_WHAT}", "", *map(_line, (*own, *ROUTES_OF_EVERY_SERVICE)), "", _SAMPLE]
        return web.Response(text="\n".join(lines).replace("URL", url) + "\n", headers=headers)
    shown = Template((STATIC / "index.html").read_text(encoding="utf-8")).substitute(
        name=escape(name),
        what=escape(_WHAT),
        own="".join(_card(route, url) for route in own),
        every="".join(_card(route, url) for route in ROUTES_OF_EVERY_SERVICE),
        dashboard=_dashboard(request.app),
    )
    return web.Response(text=shown, content_type="text/html", headers=headers)


def _line(route: Route) -> str:
    return f"{route.call:<22} {route.about}"


def _card(route: Route, url: str) -> str:
    method, path, about, curl = map(escape, (route.method, route.path, route.about, route.curl(url)))
    return (
        f'<li><h3><b data-method="{method}">{method}</b> <code>{path}</code></h3><p>{about}</p><div class="example">'
        f'<pre><code>{curl}</code></pre><button type="button" class="copy">Copy</button></div></li>\n'
    )


def _dashboard(app: web.Application) -> str:
    dashboard = app[CONFIG].dashboard
    if not dashboard.enabled:
        return ""
    url = escape(dashboard.address.url)
    return f'The whole system is shown at <a href="{url}">{url}</a> while it runs with <code>microq up</code>.'


_WHAT = (
    "the facade of a microservice system. It takes a message, answers once the message is in the log and in the "
    "replicated queue, each with its copies, and shows what the services behind it have."
)
_SAMPLE = "curl -d hello URL/facade    sends a message;    curl URL/facade    reads both sets"

_PAGE = Route(
    "GET",
    "/",
    _page,
    "What the facade is, and its calls: a page for a browser, else plain text.",
    {"text/plain": Media(TEXT), "text/html": Media(TEXT)},
)
