"""Options of `pytest tests/simulation`: how many seeds are run, or which one."""

from __future__ import annotations

import pytest

SEEDS = 200
"""Seeds of a usual run of the tests: some seconds."""

LEAST_SECONDS, SEED_SECONDS = 600.0, 2.0
"""How long a test may take: the least, and for each seed, on a machine that many others use."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seeds", type=int, default=SEEDS, metavar="N", help="simulate the seeds from 0 to N - 1")
    group.addoption("--seed", type=int, default=None, metavar="N", help="simulate this seed; -s prints its schedule")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seconds = LEAST_SECONDS + SEED_SECONDS * config.getoption("--seeds")
    for item in items:
        if item.path.parent.name == "simulation":
            item.add_marker(pytest.mark.timeout(seconds))


@pytest.fixture(scope="session")
def seeds(request: pytest.FixtureRequest) -> range:
    """The seeds to run."""
    one: int | None = request.config.getoption("--seed")
    return range(request.config.getoption("--seeds")) if one is None else range(one, one + 1)
