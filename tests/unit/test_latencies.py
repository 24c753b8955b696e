"""Latencies in buckets: what is counted is found again, and two looks can be subtracted."""

from __future__ import annotations

from itertools import pairwise

import pytest

from microq.metrics import BOUNDS, Latencies, between, quantile


def counted(*seconds: float) -> list[int]:
    latencies = Latencies()
    for each in seconds:
        latencies.observe(each)
    assert latencies.sum == pytest.approx(sum(seconds))
    return latencies.counts


def test_the_bounds_grow_and_what_is_on_one_is_below_it() -> None:
    assert all(a < b for a, b in pairwise(BOUNDS))
    assert counted(BOUNDS[3]).index(1) == 3
    assert counted(BOUNDS[3] * 1.0001).index(1) == 4
    assert counted(10_000.0).index(1) == len(BOUNDS)


def test_a_quantile_is_within_the_bucket_of_the_value() -> None:
    counts = counted(*[0.003] * 98, *[0.4] * 2)
    median, late = quantile(counts, 0.5), quantile(counts, 0.99)
    assert median is not None
    assert late is not None
    assert 0.002 < median <= 0.004
    assert 0.28 < late <= 0.4 * 1.42


def test_quantile_of_nothing_and_beyond_last_bound() -> None:
    assert quantile([0] * (len(BOUNDS) + 1), 0.5) is None
    assert quantile([], 0.5) is None
    assert quantile(counted(1e6), 0.5) == BOUNDS[-1]


def test_between_two_looks_only_the_new_ones_count() -> None:
    early, late = counted(0.001), counted(0.001, 0.1)
    assert sum(between(early, late)) == 1
    assert quantile(between(early, late), 0.5) == pytest.approx(0.1, rel=0.42)


@pytest.mark.parametrize("early", [(), counted(0.1, 0.1, 0.1)], ids=["nothing before", "it began anew"])
def test_a_process_that_began_anew_counts_whole(early: list[int]) -> None:
    assert between(early, counted(0.1)) == counted(0.1)
