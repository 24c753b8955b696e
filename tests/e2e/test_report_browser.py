"""A report in a real browser, opened as a file: it draws its charts, and says its words without them."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from support.browser import complaints
from support.histories import at, begin, copies, drained, fault, logged, sent, shown, whole

from microq.report.run import render

MESSAGES = [f"m{number}" for number in range(200)]
HOSTILE = "</script><img src=x onerror=document.title='struck'>"
CHARTS = 4


def until(page: Page, true: str) -> None:
    """Wait for an expression; the page's own policy lets no text be made a script, as waiting otherwise does."""
    page.evaluate(f"new Promise(done => {{ (look = () => ({true}) ? done() : requestAnimationFrame(look))(); }})")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report of a run with losses, one of them hostile."""
    ids = [HOSTILE, *MESSAGES]
    entries = whole(
        begin(),
        [entry for number, one in enumerate(ids) for entry in sent(one, second=1 + number / 300)],
        copies("before", m1=(200, 0), m2=(0, 200)),
        fault(),
        at(2.3, "step", what=HOSTILE, since=0.3),
        copies("after", m2=(200, 0)),
        drained(),
        logged(*ids),
        shown(*MESSAGES[3:]),
    )
    file: Path = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render(entries, "history.jsonl", config_toml=HOSTILE), encoding="utf-8")
    return file.as_uri()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_charts_are_drawn_from_a_file(browser: Browser, report: str, width: int, scheme: str) -> None:
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:  # type: ignore[arg-type]  # one of two
        page = context.new_page()
        said = complaints(page)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report)
        page.wait_for_selector("html[data-drawn]")
        assert page.locator(".chart .main-svg").count() >= CHARTS
        assert page.locator(".chart .scatterlayer .trace").count() > CHARTS
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("img").count() == 0
        assert page.title().startswith("FAIL")
        assert asked == [report]
        assert said == []


def test_charts_over_time_zoom_together(browser: Browser, report: str) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(report)
        page.wait_for_selector("html[data-drawn]")
        page.evaluate("Plotly.relayout('timeline', {'xaxis.range[0]': -0.5, 'xaxis.range[1]': 0.5})")
        for other in ("throughput", "latency"):  # each in its own time
            until(page, f"document.getElementById('{other}').layout.xaxis.range[1] === 0.5")
            assert page.evaluate(f"document.getElementById('{other}').layout.xaxis.range") == [-0.5, 0.5]


def test_charts_follow_light_and_dark_and_paper(browser: Browser, report: str) -> None:
    with browser.new_context(color_scheme="light") as context:
        page = context.new_page()
        said = complaints(page)
        page.goto(report)
        page.wait_for_selector("html[data-drawn]")
        colour = "document.getElementById('timeline').layout.font.color"
        light = page.evaluate(colour)
        page.emulate_media(color_scheme="dark")
        until(page, f"{colour} !== '{light}'")
        page.evaluate("addEventListener('beforeprint', () => { window.printed = " + colour + "; })")
        page.pdf()
        assert page.evaluate("window.printed") == light
        until(page, f"{colour} !== '{light}'")
        assert said == []


def test_the_words_are_there_without_javascript(browser: Browser, report: str) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(report)
        words = page.inner_text("main")
        assert "The check failed: 4 lost." in words
        assert "This chart needs JavaScript." in words
        assert HOSTILE in words
