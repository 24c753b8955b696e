"""Today's protocol under random schedules keeps the promise; with a defect it does not, and the simulation finds it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator

import pytest
from simulation.mutations import MUTATIONS
from simulation.options import SEEDS
from simulation.run import TODAY, Result, simulate
from simulation.shrink import shrink

WITHIN = 150
"""Seeds within which a defect must be found."""

FEW = 20
"""Failing seeds after which no more are run."""


def results(seeds: Iterable[int], *, many: bool) -> Iterator[Result]:
    """Run seeds, on all processors if there are many."""
    if not many:
        yield from map(simulate, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        yield from pool.imap_unordered(simulate, seeds, chunksize=20)


def test_protocol_keeps_promise_in_all_schedules(seeds: range) -> None:
    failures: list[Result] = []
    for result in results(seeds, many=len(seeds) > SEEDS):
        if len(seeds) == 1:
            print(result)  # noqa: T201 - somebody asked for this seed
        if result.failure:
            failures.append(result)
            if len(failures) == FEW:
                break
    if failures:
        first = min(failures, key=lambda each: each.seed)
        others = ", ".join(f"{each.seed} ({each.failure})" for each in failures)
        pytest.fail(f"{others}\n\n{first}\n\nthe same, made smaller:\n{shrink(first, TODAY)}", pytrace=False)


@pytest.mark.parametrize("name", MUTATIONS)
def test_defect_is_found(name: str) -> None:
    assert any(simulate(seed, MUTATIONS[name]).failure for seed in range(WITHIN)), f"not found: {name}"


def test_seed_replays_exactly() -> None:
    first, again = simulate(5), simulate(5)
    assert first.schedule == again.schedule
    assert first.steps == again.steps
