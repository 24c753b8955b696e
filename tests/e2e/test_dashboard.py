"""The page in a real browser, beside a real system: what it shows, how soon, and what its buttons do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from support.browser import complaints
from support.commands import ask, command
from support.letters import letter, plant
from support.project import Project

from microq.config import Address
from microq.dashboard.access import HEADER, address_of

SCENARIO_MS = 120_000
PATIENCE_MS = 60_000


@pytest.fixture
def page(browser: Browser, system: Project) -> Iterator[Page]:
    """The page with its token, opened; it must not complain."""
    found = browser.new_page(viewport={"width": 1280, "height": 900})
    said = complaints(found)
    found.goto(address_of(system.config))
    expect(found.locator("#fresh")).to_contain_text("live")
    yield found
    found.close()
    assert said == []


def test_it_shows_every_process_and_no_token_in_the_address(page: Page, system: Project) -> None:
    boxes = page.locator(".box[data-name]:not([disabled])")
    expect(boxes).to_have_count(10)
    expect(page.locator("#safe")).to_contain_text("safe")
    assert "token" not in page.url
    expect(page.locator("#check")).to_be_enabled()


def test_what_is_sent_is_found_with_its_whole_journey(page: Page) -> None:
    page.locator("#send-count").fill("20")
    page.locator("#send button").click()
    expect(page.locator("#acted")).to_contain_text("20")
    page.locator("#messages-part").scroll_into_view_if_needed()
    expect(page.locator("#message-rows tr").nth(19)).to_be_visible()
    page.locator("#search-text").fill("msg7")
    page.locator("#message-rows tr", has_text="msg7").first.get_by_role("button").click()
    steps = page.locator("#journey-steps")
    for part in ("accepted", "stored", "acknowledged", "received"):
        expect(steps).to_contain_text(part)


def test_a_kill_is_shown_without_asking_again(page: Page, system: Project) -> None:
    victim = f"messages-{system.config.service_ips.messages_service[0].port}"
    state = page.locator(f'.box[data-name="{victim}"] .state')
    expect(state).to_contain_text("ready")
    token = (system.config.folder / "token").read_text(encoding="ascii")
    address = system.config.dashboard.address
    body = f'{{"verb": "kill", "names": ["{victim}"]}}'.encode()
    status, _ = ask(address, "POST", "/api/process", body, **{HEADER: token})  # answers once the process is gone
    assert status == 200
    expect(state).to_contain_text("exited")
    assert system.microq("start", victim).returncode == 0
    expect(state).to_contain_text("ready")


def test_a_button_breaks_it_and_the_verdict_forms(page: Page) -> None:
    page.locator("#check-owner").click()
    ruling = page.locator("#ruling")
    expect(page.locator("#steps")).to_contain_text("killed", timeout=SCENARIO_MS)
    expect(ruling).to_contain_text("PASS", timeout=SCENARIO_MS)
    expect(page.locator("#where")).to_contain_text("100 messages were on")
    expect(page.locator("#why")).to_contain_text("Nothing was lost")
    with page.expect_popup() as opened:
        page.locator("#report a").click()
    expect(opened.value.locator("body")).to_contain_text("PASS")


def test_dead_letters_are_listed_replayed_and_dropped(page: Page, system: Project) -> None:
    plant(system, letter("one", "first"), letter("two", "second"), letter("three", "?", replayable=False))
    rows = page.locator("#letter-rows tr")
    expect(rows).to_have_count(3, timeout=PATIENCE_MS)
    expect(rows.filter(has_text="one")).to_contain_text("first")
    expect(rows.filter(has_text="two")).to_contain_text("not stored after 5 deliveries")
    replay, drop = page.locator("#letters-replay"), page.locator("#letters-drop")
    rows.filter(has_text="one").locator("input").check()
    expect(replay).to_be_enabled()
    replay.click()
    expect(rows).to_have_count(2, timeout=PATIENCE_MS)
    rows.filter(has_text="three").locator("input").check()
    expect(replay).to_be_disabled()  # it is not a message of microq
    drop.click()
    drop.click()  # the first click asks whether it is meant
    expect(rows).to_have_count(1, timeout=PATIENCE_MS)
    plant(system)


def test_without_the_token_it_reads_and_does_nothing(browser: Browser, system: Project) -> None:
    reader = browser.new_page()
    reader.goto(system.config.dashboard.address.url)
    expect(reader.locator("#no-access")).to_be_visible()
    expect(reader.locator("#check")).to_be_disabled()
    reader.close()
    for path in ("/api/send", "/api/process", "/api/fault", "/api/dead"):
        assert ask(system.config.dashboard.address, "POST", path, b"{}", **{HEADER: "wrong"})[0] == 403


def test_it_comes_back_when_the_supervisor_does(browser: Browser, system: Project) -> None:
    page = browser.new_page()
    page.goto(address_of(system.config))
    expect(page.locator("#fresh")).to_contain_text("live")
    assert system.microq("down").returncode == 0
    expect(page.locator("#banner")).to_be_visible()
    assert system.microq("up", "-d").returncode == 0
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#fresh")).to_contain_text("live")
    expect(page.locator("#check")).to_be_enabled()
    page.close()


def test_a_narrow_page_needs_no_scrolling_sideways(browser: Browser, system: Project) -> None:
    narrow = browser.new_page(viewport={"width": 400, "height": 900})
    narrow.goto(address_of(system.config))
    expect(narrow.locator("#fresh")).to_contain_text("live")
    assert narrow.evaluate("document.documentElement.scrollWidth <= innerWidth")
    narrow.close()


def test_a_finished_run_is_replayed_and_cannot_be_acted_on(browser: Browser, system: Project) -> None:
    run = max((system.config.folder / "runs").glob("*-kill-member"))
    with command(system, "dashboard", run.name, "--no-open") as serving:
        serving.says("Ctrl-C")
        replay = browser.new_page()
        said = complaints(replay)
        replay.goto(serving.out.strip())
        expect(replay.locator("#replay")).to_be_visible()
        expect(replay.locator("#actions")).to_be_hidden()
        expect(replay.locator("#ruling")).to_contain_text("PASS")
        replay.locator("#moment").focus()
        replay.keyboard.press("Home")
        expect(replay.locator("#ruling")).not_to_contain_text("PASS")
        address = Address.parse(serving.out.strip().removeprefix("http://"))
        assert ask(address, "POST", "/api/send", b'{"count": 1}')[0] == 403
        assert ask(address, "GET", "/api/stream")[0] == 400
        replay.close()
        assert said == []
        serving.interrupt()
        assert serving.ended() == 130
