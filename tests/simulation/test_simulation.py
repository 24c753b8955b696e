"""Two protocols under random schedules keep the promise; with a defect they do not, and the simulation finds it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path

import pytest
from simulation.journal_mutations import JOURNAL_MUTATIONS
from simulation.journals import JournalParts
from simulation.mutations import MUTATIONS
from simulation.options import SEEDS
from simulation.run import TODAY, Result, simulate
from simulation.shrink import shrink
from simulation.system import Parts

WITHIN = 150
"""Seeds within which a defect must be found."""

FEW = 20
"""Failing seeds after which no more are run."""


CHUNK = 20
"""Seeds that a process simulates before it tells which of them failed."""

REPLAY = """
from simulation.journals import JournalParts
from simulation.run import TODAY, simulate
for parts in (TODAY, JournalParts(splits=1.0)):
    result = simulate(2, parts)
    print(result.steps, *result.schedule, sep=chr(10))
"""


PROTOCOLS: dict[str, Parts] = {
    "today": TODAY,
    "journals": JournalParts(),
    "journals in a split cluster": JournalParts(splits=1.0),
}
"""What the messages-services store in; the protocol of the maps is the one in use."""


def failing(seeds: range, parts: Parts) -> list[Result]:
    """Simulate seeds; return the runs that break the promise."""
    return [result for seed in seeds if (result := simulate(seed, parts)).failure]


def all_failing(seeds: range, parts: Parts) -> Iterator[Result]:
    """Simulate seeds on all processors. Few chunks are under way at any time, however many seeds there are."""
    chunks = (seeds[begin : begin + CHUNK] for begin in range(0, len(seeds), CHUNK))
    processors = os.cpu_count() or 1
    with ProcessPoolExecutor(processors, multiprocessing.get_context("spawn")) as pool:
        try:
            under_way = {pool.submit(failing, chunk, parts) for chunk in islice(chunks, 2 * processors)}
            while under_way:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                under_way |= {pool.submit(failing, chunk, parts) for chunk in islice(chunks, len(done))}
                for each in done:
                    yield from each.result()
        finally:
            pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_protocol_keeps_promise_in_all_schedules(seeds: range, protocol: str) -> None:
    parts = PROTOCOLS[protocol]
    if len(seeds) == 1:
        print(simulate(seeds[0], parts))  # noqa: T201 - somebody asked for this seed
    failures = [*islice(all_failing(seeds, parts) if len(seeds) > SEEDS else failing(seeds, parts), FEW)]
    if failures:
        first = min(failures, key=lambda each: each.seed)
        others = ", ".join(f"{each.seed} ({each.failure})" for each in failures)
        pytest.fail(f"{others}\n\n{first}\n\nthe same, made smaller:\n{shrink(first, parts)}", pytrace=False)


DEFECTS: dict[str, Parts] = {**MUTATIONS, **{f"journals: {name}": parts for name, parts in JOURNAL_MUTATIONS.items()}}


@pytest.mark.parametrize("name", DEFECTS)
def test_defect_is_found(name: str) -> None:
    assert any(simulate(seed, DEFECTS[name]).failure for seed in range(WITHIN)), f"not found: {name}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_seed_replays_exactly(protocol: str) -> None:
    parts = PROTOCOLS[protocol]
    first, again = simulate(5, parts), simulate(5, parts)
    assert first.schedule == again.schedule
    assert first.steps == again.steps


def test_seed_replays_whatever_the_hash_seed() -> None:
    def replay(hash_seed: str) -> str:
        around = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONHASHSEED": hash_seed}
        return subprocess.run(
            [sys.executable, "-c", REPLAY], env=around, capture_output=True, text=True, timeout=200, check=True
        ).stdout

    assert replay("1") == replay("2")
