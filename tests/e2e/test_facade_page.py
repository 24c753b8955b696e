"""The facade's page in a real browser, before a real system: what it shows, and what its two buttons do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from support.browser import complaints
from support.commands import until
from support.project import Project

PATIENCE_MS = 30_000


@pytest.fixture
def page(browser: Browser, system: Project) -> Iterator[Page]:
    """The page, opened; it must not complain, nor ask for anything elsewhere."""
    url = system.config.service_ips.facade_service.url
    found = browser.new_page(viewport={"width": 1280, "height": 900})
    said, asked = complaints(found), list[str]()
    found.on("request", lambda request: asked.append(request.url))
    found.goto(url)
    yield found
    found.close()
    assert said == []
    assert [each for each in asked if not each.startswith((url, "data:"))] == []


def test_a_message_is_sent_followed_and_read(page: Page, system: Project) -> None:
    text = "from the page <b>&amp;</b>"
    page.locator("#text").fill(text)
    page.locator("#send button").click()
    expect(page.locator("#sent")).to_contain_text('200 {"status": "success"', timeout=PATIENCE_MS)
    expect(page.locator("#became")).to_contain_text("stored by messages-", timeout=PATIENCE_MS)
    page.locator("#read button").click()
    expect(page.locator("#logs-title")).to_contain_text("Log, by 127.0.0.1:", timeout=PATIENCE_MS)
    until(lambda: "from the page <b>" in system.microq("logs", "facade", "-n", "9999").stdout)


def test_what_is_read_is_text_and_nothing_else(page: Page) -> None:
    page.route("**/facade?limit=100", lambda route: route.fulfill(json=EVIL))
    page.locator("#read button").click()
    expect(page.locator("#logs li").first).to_have_text(EVIL["logs"][0])
    expect(page.locator("#messages-title")).to_contain_text("none: no messages-service answers")
    assert page.locator("#logs img").count() == 0


EVIL = {
    "logs": ["<img src=x onerror=alert(1)>"],
    "message": [],
    "logging-service": "127.0.0.1:5003",
    "messages-service": "",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_screen(browser: Browser, system: Project, scheme: str, width: int) -> None:
    page = browser.new_page(
        viewport={"width": width, "height": 800}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page.goto(system.config.service_ips.facade_service.url)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(14, 18, 24)") is (scheme == "dark")
    page.close()


def test_a_foreign_page_can_neither_send_nor_read(browser: Browser, system: Project) -> None:
    url = system.config.service_ips.facade_service.url
    page = browser.new_page()
    page.route("http://evil.example/", lambda route: route.fulfill(content_type="text/html", body="<p>evil</p>"))
    page.goto("http://evil.example/")
    ask = "([url, options]) => fetch(url, options).then((r) => r.text(), (e) => `failed: ${e}`)"
    assert page.evaluate(ask, [f"{url}/facade", {}]).startswith("failed")
    sent = {"method": "POST", "body": "from evil", "mode": "no-cors"}
    page.evaluate(ask, [f"{url}/facade", sent])
    page.close()
    assert "from evil" not in system.microq("logs", "facade", "logging", "-n", "9999").stdout
