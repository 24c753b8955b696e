"""What the benchmark says, and that it leaves the system as safe as it was."""

from __future__ import annotations

import json

import pytest
from conftest import Project, small

from microq.bench.cost import Rate, cost


def test_the_cost_is_a_ratio_of_medians() -> None:
    rates = [Rate(safe=True, per_second=90), Rate(safe=False, per_second=100)] * 2
    outlier = [Rate(safe=True, per_second=1), Rate(safe=False, per_second=1000)]
    found = cost([*rates, *outlier])
    assert (found.safe, found.bare, found.share) == (90, 100, 0.1)


@small
@pytest.mark.usefixtures("engine")
def test_both_are_measured_on_a_system_of_its_own(project: Project) -> None:
    done = project.microq("bench", "--rounds", "1", "--seconds", "0.5", "--connections", "4", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["connections"] == 4
    assert found["safe"] > 0 < found["bare"]
    assert not project.alive()


def test_a_system_that_runs_here_is_left_alone(system: Project) -> None:
    done = system.microq("bench")
    assert done.returncode == 2
    assert "a system runs here already" in done.stderr
