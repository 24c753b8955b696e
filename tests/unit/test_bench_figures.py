"""What a benchmark makes of its single figures: percentiles, lags, ratios, targets; the unknown is never a number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.screens import line_with, text

from microq.bench.experiments import bytes_to_hold, lags, link_cache, settings_to_hold
from microq.bench.load import Bare, Sent
from microq.bench.measure import by_role, pace_of, since
from microq.bench.options import QUICK_BENCH, BenchOptions, Part
from microq.bench.profile import hottest
from microq.bench.result import Cost, Held, Idle, Lag, Level, Lines, Omission, Pace, Rates, Result, Seen, Start, middle
from microq.bench.table import LEAST, MOST, TARGETS, Target, fall, judge, number, sections
from microq.config import Config, Limits, Queue, load
from microq.terminal.bench import benchmark, markdown, profiled

MIB = 1 << 20


def a_pace(connections: int, rate: float, **facts: Any) -> Pace:
    used = {"facade-1": 1.0, "logging-1": 0.5, "logging-2": 0.25, "client": 0.25}
    known = Pace(connections, 1.0, round(rate), 0, rate, rate - 1, 1.0, 9.0, 0.5, used, 12.0)
    return replace(known, **facts)


def a_level(connections: int = 32, rate: float = 300.0, ceiling: float = 1000.0, **facts: Any) -> Level:
    return Level(a_pace(connections, rate, **facts), ceiling, 0.6, 0.1)


def a_batch(**facts: Any) -> Lines:
    used = {"facade-1": 1.0, "client": 0.5}
    known = Lines(1000, 1000, 0, 30_000.0, 27_000.0, 0.5, used, 50 * MIB, 60 * MIB, 55 * MIB)
    return replace(known, **facts)


def a_size(messages: int, ratio: float, **facts: Any) -> Held:
    reads = (Seen("GET /facade", 0.5, 0.1, 2_000_000, messages),)
    known = Held(messages, 900.0, a_level(rate=1000 * ratio), reads, 2.0, 3.0, 8.0, 90 * MIB, 900 * MIB)
    return replace(known, **facts)


def everything(**facts: Any) -> Result:
    known = Result(
        cores=2,
        start=Start((0.1, 0.3), (4.0,), (2.0, 2.2)),
        idle=Idle(10.0, {"facade-1": 0.1, "supervisor": 0.1}, {"facade-1": 50 * MIB, "supervisor": 60 * MIB}),
        rates=[Rates((a_level(1), a_level(32), a_level(128, 450)), {"facade-1": 51 * MIB})],
        bare=Bare(200_000, 10_000),
        batch=a_batch(),
        lag=Lag(400, 390, 1.5, 0.1, 800, 0, 0.0, 12.5, 30.0),
        held=[a_size(1000, 0.3), a_size(20_000, 0.29)],
        cost=Cost(900, 1000, 0.1),
    )
    return replace(known, **facts)


def test_percentiles_are_those_of_the_slowest_in_a_thousand() -> None:
    latencies = tuple(n / 1000 for n in range(1, 1001))
    got = pace_of(1, Sent(1000, 0, 2.0, latencies, 0.5), 4.0, {})
    assert (got.p50_ms, got.p99_ms, got.p999_ms) == (500, 990, 999)
    assert (got.acknowledged_per_s, got.stored_per_s) == (500, 250)
    nothing = pace_of(1, Sent(0, 3, 2.0, (), 0.5), None, {})
    assert (nothing.p50_ms, nothing.p999_ms, nothing.stored_per_s) == (None, None, None)


def test_a_lag_is_from_the_acknowledgement_to_the_storing() -> None:
    acknowledged = {"a": 10.0, "b": 20.0, "early": 30.0, "lost": 40.0}
    stored = {"a": 10.5, "b": 20.25, "early": 29.0, "another": 1.0}
    assert lags(acknowledged, stored) == [0.0, 0.25, 0.5]


def test_what_one_look_does_not_know_is_unknown() -> None:
    assert since({"a": 1.0, "b": None, "c": 1.0}, {"a": 1.5, "b": 2.0, "c": None}) == {"a": 0.5, "b": None, "c": None}
    assert by_role({"a-1": 1.0, "a-2": 2.0, "b-1": 1.0, "b-2": None, "c": 4.0}) == {"a": 3.0, "b": None, "c": 4.0}
    assert Idle(1.0, {"a": None}, {}).share is None
    assert Level(a_pace(1, 5), 0.0, 0.1).ratio is None
    assert (middle([]), middle([None, 3.0, 1.0, 2.0])) == (None, 2.0)


@pytest.mark.parametrize(
    ("sign", "measured", "reached"),
    [
        (LEAST, 9.99, False),
        (LEAST, 10.0, True),
        (LEAST, None, None),
        (MOST, 10.01, False),
        (MOST, 10.0, True),
        (MOST, None, None),
    ],
)
def test_a_target_is_reached_or_missed_or_unknown(sign: str, measured: float | None, reached: object) -> None:
    [got] = judge(Result(), (Target("rates", "x", sign, 10, "ms", lambda _: measured),))
    assert (got.reached, got.measured) == (reached, measured)


def test_all_targets_are_reached_where_the_figures_are_good() -> None:
    got = judge(everything(), TARGETS)
    assert {each.what: each.reached for each in got if not each.reached} == {}
    assert {each.part for each in got} == set(Part) - {Part.COST}


WORSE: dict[str, Result] = {
    "128 connections, of a do-nothing handler": everything(rates=[Rates((a_level(128, 399),), {})]),
    "32 connections, of a do-nothing handler": everything(rates=[Rates((a_level(32, 219),), {})]),
    "32 connections, p99": everything(rates=[Rates((a_level(32, p99_ms=20.1),), {})]),
    "1 connection, p50": everything(rates=[Rates((a_level(1, p50_ms=1.6),), {})]),
    "batch, acknowledged": everything(batch=a_batch(acknowledged_per_s=24_999.0)),
    "batch, stored of it": everything(batch=a_batch(stored_per_s=23_000.0)),
    "stored behind accepted, p99": everything(lag=Lag(400, 390, 1.5, 0.1, 800, 0, 0.0, 101, 130.0)),
    "fall of the rate, most messages held": everything(held=[a_size(1000, 0.3), a_size(20_000, 0.26)]),
    "a lone POST's p99 while all is read, of idle": everything(held=[a_size(1000, 0.3, reading_p99_ms=4.1)]),
    "up -d, warm": everything(start=Start((0.1,), (4.0,), (2.6,))),
    "--help": everything(start=Start((0.21,), (4.0,), (2.0,))),
    "idle, of one core": everything(idle=Idle(10.0, {"facade-1": 0.41}, {})),
}


def test_every_target_has_a_figure_that_misses_it() -> None:
    assert list(WORSE) == [target.what for target in TARGETS]


@pytest.mark.parametrize("what", WORSE)
def test_a_figure_that_is_worse_misses_its_target(what: str) -> None:
    missed = [each.what for each in judge(WORSE[what], TARGETS) if each.reached is False]
    assert missed == [what]


def test_a_fall_is_told_against_the_ceiling_of_the_same_moment() -> None:
    slow = replace(a_size(20_000, 0.3), level=a_level(rate=150, ceiling=500))
    assert fall(Result(held=[a_size(1000, 0.3), slow])) == 0
    assert fall(Result(held=[a_size(1000, 0.3)])) is None
    assert fall(Result(held=[a_size(1000, 0.4), a_size(9000, 0.3)])) == pytest.approx(0.25)


def test_rates_are_medians_of_the_rounds() -> None:
    result = Result(rates=[Rates((a_level(8, rate), a_level(32, 100)), {}) for rate in (100, 900, 200)])
    assert (result.connections, result.highest) == ([8, 32], 200)
    assert Result().highest is None


def test_the_json_has_the_ratios_too() -> None:
    got = json.loads(json.dumps(everything().to_json()))
    level = got["rates"][0]["levels"][1]
    assert (level["ratio"], level["saturated"], level["pace"]["p999_ms"]) == (0.3, False, 12.0)
    assert (got["batch"]["stored_share"], got["idle"]["share_of_core"]) == (0.9, 0.02)
    assert (got["held"][1]["level"]["ratio"], got["held"][1]["reading_p99_ratio"]) == (0.29, 1.5)
    assert Result().to_json()["batch"] is None


def test_only_what_could_not_be_measured_is_a_failure() -> None:
    assert Result(omitted=[Omission("held", "too little memory", failed=False)]).code == 0
    assert Result(omitted=[Omission("held", "it broke", failed=True)]).code == 1


def test_a_part_that_was_not_measured_has_no_table() -> None:
    assert list(sections(Result())) == []
    titles = [each.title for each in sections(Result(lag=everything().lag))]
    assert titles == ["Targets", "Stored behind accepted, at a fixed rate"]


def test_a_part_that_failed_keeps_its_targets_as_unknown() -> None:
    [targets] = sections(Result(omitted=[Omission("idle", "it broke", failed=True)]))
    assert targets.rows == (("– idle, of one core", "n/a", "≤ 4 %"),)


def test_every_table_has_as_many_cells_as_heads() -> None:
    for section in sections(everything()):
        assert {len(row) for row in section.rows} == {len(section.heads)}, section.title


def test_the_terminal_shows_figures_targets_and_what_is_missing() -> None:
    failed = Omission("lag", "a consumer is away", failed=True)
    left = Omission("held", "1,000,000 messages need 9.1 GiB, 2.0 are free", failed=False)
    shown = text(benchmark(everything(lag=None, omitted=[failed, left]), "runs/x"), 80)
    assert "✓ 128 connections, of a do-nothing handler" in shown
    assert "– stored behind accepted, p99" in shown
    assert line_with(shown, "POST/s accepted").split()[-3:] == ["300", "300", "450"]
    assert line_with(shown, "so 2 cores allow at most").split()[-1] == "450"
    assert line_with(shown, "  logging-2").split()[-1] == "0.56"
    assert "lag: could not be measured: a consumer is away" in shown
    assert "held: left out: 1,000,000 messages need 9.1 GiB" in shown
    assert "saturated" not in shown
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_saturated_generator_says_so() -> None:
    busy = [Rates((a_level(8, client_cpu=0.91), a_level(32, client_cpu=0.9)), {})]
    shown = text(benchmark(Result(rates=busy), "runs/x"), 100)
    assert "Generator saturated at 8 connections (91% of a core)" in shown
    assert "saturated at 32" not in shown


def test_a_rate_that_was_not_kept_says_so() -> None:
    kept, missed = (Lag(400, sent, 1.5, 0.1, 800, 0, 0.0, 12.5, 30.0) for sent in (361, 359))
    assert "not kept" not in text(benchmark(Result(lag=kept), "runs/x"))
    assert "of 400/s only 359/s were answered" in text(benchmark(Result(lag=missed), "runs/x"))


def test_the_markdown_says_when_where_and_how_to_repeat_it() -> None:
    machine = {"date": "2026-11-25T10:00:00+0000", "system": "Linux x86_64", "cores": 2, "memory_bytes": 8 << 30}
    facts = {"machine": machine, "versions": {"python": "3.11", "java": "17"}, "repeat": "microq bench --quick"}
    got = markdown(everything(), facts)
    assert "Linux x86_64, 2 cores, 8 GiB of memory, Python 3.11, Java 17. Repeat it with `microq bench --quick`" in got
    tables = [block.split("\n") for block in got.split("\n\n") if block.startswith("|")]
    assert len(tables) == len(list(sections(everything())))
    for table in tables:
        assert len({row.count("|") for row in table if row}) == 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "n/a"), (0.0, "0.00"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")],
)
def test_numbers_have_three_digits_that_say_something(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_functions_are_sorted_by_own_time() -> None:
    frames = [{"name": "main", "file": "/x/y/app.py"}, {"name": "work", "file": "/x/y/work.py"}, {"name": "wait"}]
    threads = [
        {"samples": [[0, 1], [0]], "weights": [3, 1]},
        {"samples": [[2], []], "weights": [4, 9]},
        {"samples": [[1, 0, 1]], "weights": [2]},
    ]
    got = hottest({"shared": {"frames": frames}, "profiles": threads}, 2)
    assert [(each.function, each.where, each.share) for each in got] == [("work", "y/work.py", 0.5), ("wait", "", 0.4)]
    assert "50.0%  work" in text(profiled("facade-1", got, "f.json"), 80)


def test_many_messages_get_what_they_need() -> None:
    for queue in (Queue(), Queue(backend="kafka")):
        config = Config("test", Path(), queue=queue)
        assert settings_to_hold(config, 1000) == []
        for messages in (200_000, 1_000_000):
            given = load(None, settings_to_hold(config, messages), environ={}) if queue == Queue() else None
            assert given is None or (given.capacity.held >= messages, given.misfits) == (True, [])
            heap, held = (each.partition("=")[2] for each in settings_to_hold(config, messages))
            carrying = config.with_settings("hazelcast", heap=heap)
            assert carrying.capacity.held >= 1.1 * messages
            assert int(held) > messages
        assert bytes_to_hold(config, 1_000_000) > bytes_to_hold(config, 1000) + 3 * (1 << 30)
    roomy = Config("test", Path(), limits=Limits(max_held=2_000_000)).with_settings("hazelcast", heap="4g")
    assert settings_to_hold(roomy, 1_000_000) == []


def test_a_part_carries_what_it_is_sent() -> None:
    messages = BenchOptions().most_messages
    assert set(messages) == {Part.RATES, Part.LAG, Part.BATCH, Part.COST}
    assert messages[Part.BATCH] > BenchOptions().lines
    assert BenchOptions(seconds=60).most_messages[Part.RATES] > 10 * messages[Part.RATES]


def test_a_cold_cache_has_the_jars_and_nothing_else(tmp_path: Path) -> None:
    cache, empty = tmp_path / "cache", tmp_path / "empty"
    (cache / "kafka").mkdir(parents=True)
    empty.mkdir()
    jars = [cache / "a.jar", cache / "kafka" / "b.jar"]
    for file in [*jars, cache / "classes.jsa"]:
        file.write_text(file.name)
    link_cache(jars, cache, empty)
    assert sorted(str(each.relative_to(empty)) for each in empty.rglob("*.*")) == ["a.jar", "kafka/b.jar"]
    assert (empty / "a.jar").read_text() == "a.jar"


def test_a_quick_run_measures_the_same_parts_for_less_time() -> None:
    assert QUICK_BENCH.parts == BenchOptions().parts
    assert (QUICK_BENCH.seconds < BenchOptions().seconds, max(QUICK_BENCH.held) < max(BenchOptions().held)) == (
        True,
        True,
    )
    assert json.dumps(QUICK_BENCH.parts) == '["start", "idle", "rates", "lag", "batch", "held", "cost"]'
    assert (BenchOptions().cost_connections, BenchOptions(connections=(8, 200)).cost_connections) == (32, 8)
