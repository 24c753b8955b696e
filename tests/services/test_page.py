"""What the facade says at its root: a page for a browser, text for a shell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import aiohttp
from support.fakes import PLAIN, FakeMap, FakeQueue, facade, logging_app

from microq.config import Config, Dashboard

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def root(
    headers: Mapping[str, str] | None = None, path: str = "/", config: Config = PLAIN
) -> tuple[aiohttp.ClientResponse, str, str]:
    """The answer, its text, and where it came from."""
    async with (
        facade(FakeQueue(), [logging_app(FakeMap())], config=config) as client,
        client.session.get(client.address.url + path, headers=headers) as response,
    ):
        return response, await response.text(), client.address.url


async def test_a_browser_gets_a_page_that_no_other_page_may_frame() -> None:
    response, page, url = await root(BROWSER)
    assert (response.status, response.content_type) == (200, "text/html")
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
    assert "Accept" in response.headers["Vary"]
    assert not re.findall(r"\$[a-z]", page)
    assert f"curl -d &#x27;{{&quot;msg&quot;: &quot;hello&quot;}}&#x27; {url}/facade" in page
    for path in ("/facade/batch", "/facade/{uuid}", "/queue", "/dead/drop", "/healthz", "/openapi.json"):
        assert f"<code>{path}</code>" in page, path


async def test_a_shell_gets_the_calls_as_text() -> None:
    response, text, url = await root()
    assert (response.status, response.content_type) == (200, "text/plain")
    assert "POST /facade " in text
    assert f"curl -d hello {url}/facade" in text
    assert "<" not in text


async def test_what_the_page_is_made_of_is_there_and_nothing_beside_it() -> None:
    for name in ("facade.css", "facade.js"):
        assert (await root(path=f"/static/{name}"))[0].status == 200
    for path in ("/static/nothing", "/static/../page.py", "/static/%2e%2e/page.py", "/static/"):
        assert (await root(path=path))[0].status in (403, 404), path


async def test_the_dashboard_is_named_where_there_is_one() -> None:
    shown = PLAIN.dashboard.address.url
    assert shown in (await root(BROWSER))[1]
    assert shown not in (await root(BROWSER, config=replace(PLAIN, dashboard=Dashboard(enabled=False))))[1]


async def test_a_name_that_is_not_ours_gets_no_page() -> None:
    response, _, _ = await root({**BROWSER, "Host": 'evil.example"><script>'})
    assert (response.status, response.content_type) == (403, "application/json")
