"""The points of the charts: rates of what was counted between two looks, and nothing made up in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from microq.dashboard.state import Pace, thinned
from microq.figures import QueueView
from microq.fleet import ProcessState, ProcessView, Role, Snapshot
from microq.metrics import Latencies

FACADE = ProcessView("facade-5000", Role.FACADE, "127.0.0.1:5000", ProcessState.READY, pid=1, rss=45, cpu_s=1.0)
CONSUMERS = [
    ProcessView(f"messages-{port}", Role.MESSAGES, f"127.0.0.1:{port}", ProcessState.READY, pid=port, held=0, cpu_s=0.0)
    for port in (5001, 5002)
]


def look(at: float, facade: ProcessView, *consumers: ProcessView) -> Snapshot:
    queue = QueueView("hazelcast", "q", 7, 100, 2, None, pending=1, redelivered=2, dead=3)
    return Snapshot(at, "/run", (facade, *consumers), (), queue)


def said(process: ProcessView, counters: Mapping[str, int], *latencies: float) -> ProcessView:
    taken = Latencies()
    for each in latencies:
        taken.observe(each)
    return replace(process, counters=dict(counters), latency=tuple(taken.counts))


def test_the_rates_are_those_between_two_looks() -> None:
    pace = Pace()
    consumed = [said(each, {"messages_received": 10}) for each in CONSUMERS]
    first = pace.point(look(100.0, said(FACADE, {"messages_acknowledged": 10}, 0.1), *consumed))
    assert (first["accepted"], first["delivered"], first["p50"]) == (None, None, None)
    more = [said(each, {"messages_received": 16}) for each in CONSUMERS]
    facade = replace(said(FACADE, {"messages_acknowledged": 30}, 0.1, 0.002, 0.002), cpu_s=2.0)
    second = pace.point(look(104.0, facade, *more))
    assert second["accepted"] == 5.0
    assert second["delivered"] == 3.0
    assert second["rates"] == {"facade-5000": 5.0, "messages-5001": 1.5, "messages-5002": 1.5}
    assert second["p50"] == pytest.approx(0.002, rel=0.42)
    assert second["cpu"]["facade-5000"] == 0.25
    assert second["memory"] == {"facade-5000": 45}
    assert [second[key] for key in ("depth", "pending", "redelivered", "dead")] == [7, 1, 2, 3]


def test_who_does_not_answer_has_no_rate_and_no_jump_afterwards() -> None:
    pace = Pace()
    pace.point(look(100.0, said(FACADE, {"messages_acknowledged": 1000})))
    silent = replace(look(101.0, FACADE), queue=None)
    missing = pace.point(silent)
    assert (missing["accepted"], missing["depth"]) == (None, None)
    assert pace.point(look(102.0, said(FACADE, {"messages_acknowledged": 1010})))["accepted"] == 5.0


def test_a_process_that_began_anew_counts_from_zero() -> None:
    pace = Pace()
    pace.point(look(100.0, said(FACADE, {"messages_acknowledged": 1000}, 5.0)))
    anew = pace.point(look(102.0, replace(said(FACADE, {"messages_acknowledged": 6}, 0.002), pid=2)))
    assert anew["accepted"] == 3.0
    assert anew["p50"] == pytest.approx(0.002, rel=0.42)
    assert "facade-5000" not in anew["cpu"]


def test_of_a_long_run_the_end_stays_whole() -> None:
    points: list[dict[str, Any]] = [{"at": number} for number in range(10_000)]
    kept = [point["at"] for point in thinned(points, 100)]
    assert len(kept) <= 100
    assert kept[0] == 0
    assert kept[-50:] == list(range(9950, 10_000))
    assert thinned(points[:100], 100) == points[:100]
