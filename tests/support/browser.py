"""A real browser: Debian's Chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

MISSING = "this machine has no chromium"

QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
"""What keeps the browser from work, and from calls of its own into a network, that no test asks for."""

# What a page shows is proved, not how soon it does so on a machine with other things to do.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser without a window; skips at home, fails in CI, if this machine has none.

    It is there for one file of tests: while it is driven, its thread has an event loop, and other tests run their own.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=[*QUIET])
        yield found
        found.close()


def complaints(page: Page) -> list[str]:
    """What a page says to its console from now on that is an error, and what it fails with."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    return said
