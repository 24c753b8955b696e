"""Which worker runs which tests, and in which order, so that all workers end together.

What starts servers comes first, for it takes longest. What shares the one running system comes later, so that it need
not run beside everything else. At the end come tests that are marked as such: many of the same length, which every
worker takes one by one.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

TESTS = Path(__file__).parents[1]

REAL = ("e2e", "contract", "system", "cli")
"""Folders whose tests take seconds each: they come first, one at a time unless those of a file share a fixture."""

TOGETHER = ('scope="module"', "browser")
"""What a file says whose tests share a fixture."""

LAST = "last"
"""Marks tests that come at the end; each worker makes their fixture for itself."""


@cache
def together(file: Path) -> bool:
    """Return whether one worker must run all tests of a file."""
    if file.relative_to(TESTS).parts[0] not in REAL:
        return True
    text = file.read_text(encoding="utf-8")
    return f"mark.{LAST}" not in text and any(word in text for word in TOGETHER)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{LAST}: comes at the end, one by one on every worker")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    shared = {item.path for item in items if _shares(item) and together(item.path)}

    def rank(item: pytest.Item) -> tuple[bool, bool, int]:
        folder = item.path.relative_to(TESTS).parts[0]
        shares = item.path in shared or _shares(item)
        return item.get_closest_marker(LAST) is not None, shares, REAL.index(folder) if folder in REAL else len(REAL)

    items.sort(key=rank)


def _shares(item: pytest.Item) -> bool:
    return "system" in getattr(item, "fixturenames", ())


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]  # untyped, as all of xdist
    """Gives a worker a file, or a test that shares nothing."""

    def _split_scope(self, nodeid: str) -> str:
        name, _, _ = nodeid.partition("::")
        return name if together(self.config.rootpath / name) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduler | None:
    return Scheduler(config, log) if config.getvalue("dist") == "loadfile" else None
