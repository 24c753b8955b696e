"""Two queues side by side: what the table makes of single runs, and that the unknown is never a number."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from support.html import Reader
from support.screens import line_with, text, words

from microq.bench.comparison import Failure, Found, Line, Paced, Started, Struck, code, lines, saturated, to_json
from microq.bench.load import Sent
from microq.bench.measure import QUEUE, REST, memory, pace_of
from microq.bench.result import Pace
from microq.chaos.matrix import ERROR, Row
from microq.fleet import ProcessState, ProcessView, Role, Snapshot
from microq.report.comparison import render
from microq.terminal.bench import comparison

BOTH = ("hazelcast", "kafka")

MIB = 1 << 20


def paced(rate: float, connections: int = 32, **facts: Any) -> Pace:
    known = Pace(connections, 1.0, round(rate), 0, rate, rate - 1, 2.0, 9.0, 0.5, {QUEUE: 0.5, REST: 1.5})
    return replace(known, **facts)


def row(verdict: str = "pass", run: int = 1, **facts: Any) -> Row:
    return Row("kill-member", run, 7, verdict, acknowledged=100, longest_gap_s=0.5, **facts)


def found(backends: tuple[str, ...] = BOTH, **facts: Any) -> Found:
    return Found(backends, (32,), **facts)


def line(of: Found, measure: str, group: str = "") -> Line:
    return next(each for each in lines(of) if each.measure == measure and group in each.group)


def started(backend: str, *seconds: float) -> list[Started]:
    memory = {QUEUE: {"a": 100 * MIB, "b": 140 * MIB}, REST: {"c": 30 * MIB}}
    return [Started(backend, run, took, "folder", memory) for run, took in enumerate(seconds, 1)]


def test_a_line_has_medians_and_what_is_lowest_and_highest() -> None:
    got = line(found(started=[*started("hazelcast", 4, 2, 3), *started("kafka", 9)]), "every process ready")
    assert got.values == {"hazelcast": 3, "kafka": 9}
    assert got.spans == {"hazelcast": (2, 4), "kafka": (9, 9)}
    assert (got.ratio, got.comparable) == (3, True)


def test_nothing_measured_is_unknown_everywhere() -> None:
    for each in lines(found()):
        assert set(each.values.values()) == {None}, each
        assert each.ratio is None


def test_an_unknown_value_is_left_out_of_a_median() -> None:
    runs = [Paced("hazelcast", run, (paced(100, stored_per_s=stored),)) for run, stored in enumerate([None, 50.0], 1)]
    lost = [Paced("kafka", 1, (paced(100, stored_per_s=None),))]
    got = line(found(paced=[*runs, *lost]), "32 connections", "stored, end")
    assert got.values == {"hazelcast": 50, "kafka": None}
    assert got.ratio is None


def test_there_is_no_ratio_to_zero() -> None:
    of = found(paced=[Paced("hazelcast", 1, (paced(0),)), Paced("kafka", 1, (paced(10),))])
    assert line(of, "32 connections", "acknowledged").ratio is None


def test_memory_is_told_in_sum_and_for_the_largest() -> None:
    of = found(started=started("hazelcast", 3))
    assert line(of, "servers of the queue, idle").values["hazelcast"] == 240
    assert line(of, "the largest of them").values["hazelcast"] == 140
    assert line(of, "everything else, idle").values["hazelcast"] == 30


def test_memory_of_a_process_that_is_gone_makes_the_sum_unknown() -> None:
    gone = replace(started("hazelcast", 3)[0], memory={QUEUE: {"a": None, "b": MIB}, REST: {}})
    of = found(started=[gone])
    assert line(of, "servers of the queue, idle").values["hazelcast"] is None
    assert line(of, "the largest of them").values["hazelcast"] == 1
    assert line(of, "everything else, idle").values["hazelcast"] is None


def test_members_beside_brokers_are_everything_else() -> None:
    def process(name: str, rss: int | None) -> ProcessView:
        role = {"hazelcast": Role.MAPS, "kafka": Role.QUEUE, "facade": Role.FACADE}[name.partition("-")[0]]
        return ProcessView(name, role, "127.0.0.1:1", ProcessState.READY, rss=rss)

    listed = (process("hazelcast-1", 1), process("kafka-1", 2), process("facade-1", None))
    view = Snapshot(1.0, "", listed, (), None, backend="kafka")
    assert memory(view) == {QUEUE: {"kafka-1": 2}, REST: {"hazelcast-1": 1, "facade-1": None}}


def test_a_share_is_of_the_ceiling_of_the_same_run() -> None:
    of = found(
        ceiling=[Paced("", run, (paced(rate),)) for run, rate in ((1, 1000), (2, 2000))],
        paced=[Paced("hazelcast", run, (paced(500),)) for run in (1, 2, 3)],
    )
    got = line(of, "32 connections", "do-nothing")
    assert got.values == {"hazelcast": 37.5, "kafka": None}
    assert got.spans["hazelcast"] == (25, 50)


def test_processor_time_is_for_a_thousand_messages() -> None:
    of = found(paced=[Paced("hazelcast", 1, (paced(500),)), Paced("kafka", 1, (paced(500, cpu_s={QUEUE: None}),))])
    assert line(of, "servers of the queue, at 32").values == {"hazelcast": 1, "kafka": None}


def test_counts_are_sums_without_failed_runs() -> None:
    rows = [row(), row("fail", 2, lost=2), Row("kill-member", 3, 7, ERROR)]
    of = found(struck=[Struck("hazelcast", "kill-live", each, 0.2) for each in rows])
    group = "kill the owner under traffic"
    assert line(of, "verdict", group).values == {"hazelcast": "1 error, 1 fail, 1 pass", "kafka": None}
    assert line(of, "lost", group).values == {"hazelcast": 2, "kafka": None}
    assert line(of, "acknowledged", group).values == {"hazelcast": 200, "kafka": None}
    assert line(of, "without acknowledgement", group).spans["hazelcast"] == (0.5, 0.5)
    assert line(of, "first acknowledgement", group).values["hazelcast"] is None
    assert line(of, "without delivery", group).values["hazelcast"] == 0.2


@pytest.mark.parametrize(
    ("verdicts", "failed", "expected"),
    [
        (["pass", "pass"], False, 0),
        (["pass", "unknown"], False, 3),
        (["unknown", "fail"], False, 1),
        (["pass", ERROR], False, 3),
        (["pass"], True, 3),
        (["fail"], True, 1),
        ([], False, 3),
    ],
)
def test_the_exit_code_is_that_of_the_worst(verdicts: list[str], failed: bool, expected: int) -> None:  # noqa: FBT001
    of = found(struck=[Struck("hazelcast", "kill-live", row(verdict)) for verdict in verdicts])
    of.failures.extend([Failure("kafka", 1, "rates", "no Java")] if failed else [])
    assert code(of) == expected


def test_saturated_load_generator_is_reported() -> None:
    of = found(paced=[Paced("kafka", 1, (paced(10, client_cpu=0.97),)), Paced("kafka", 2, (paced(10),))])
    assert saturated(of) == [(32, 0.97)]
    assert saturated(found(paced=[Paced("kafka", 1, (paced(10),))])) == []
    assert "97% of a core at 32 connections" in text(comparison(of, "file"))


def test_percentiles_are_values_that_were_measured() -> None:
    latencies = tuple(number / 1000 for number in range(1, 201))
    got = pace_of(32, Sent(200, 1, 2.0, latencies, 0.51234), 4.0, {QUEUE: None})
    assert (got.p50_ms, got.p99_ms) == (100, 198)
    assert (got.acknowledged_per_s, got.stored_per_s) == (100, 50)
    assert (got.failed, got.client_cpu, got.cpu_s) == (1, 0.512, {QUEUE: None})


def test_what_was_not_measured_has_no_percentiles() -> None:
    got = pace_of(32, Sent(0, 5, 2.0, (), 0.1), None, {})
    assert (got.p50_ms, got.p99_ms, got.stored_per_s, got.acknowledged_per_s) == (None, None, None, 0)


def whole() -> Found:
    return found(
        started=[*started("hazelcast", 4, 2), *started("kafka", 6, 8)],
        ceiling=[Paced("", 1, (paced(5000),))],
        paced=[Paced("hazelcast", 1, (paced(2000),)), Paced("kafka", 1, (paced(1000),))],
        struck=[Struck("hazelcast", "kill-live", row()), Struck("kafka", "kill-live", row("fail", lost=3))],
        failures=[Failure("kafka", 2, "rates", "no port")],
    )


def test_the_json_holds_table_and_runs() -> None:
    data = json.loads(json.dumps(to_json(whole(), {"seed": 7}, complete=True)))
    assert (data["format"], data["complete"], data["seed"]) == (1, True, 7)
    first = data["table"][0]
    assert first == {
        "group": "start-up",
        "measure": "every process ready",
        "unit": "s",
        "values": {"hazelcast": 3, "kafka": 7},
        "spans": {"hazelcast": [2, 4], "kafka": [6, 8]},
        "comparable": True,
        "ratio": 7 / 3,
    }
    assert data["runs"]["struck"][1]["row"]["lost"] == 3
    assert data["runs"]["failures"] == [{"backend": "kafka", "run": 2, "what": "rates", "error": "no port"}]
    assert data["runs"]["paced"][0]["paces"][0]["connections"] == 32


def test_the_picture_has_a_ratio_and_folds_what_never_happened() -> None:
    picture = text(comparison(whole(), ".microq/compare.json"))
    assert words(line_with(picture, "every process ready")) == [
        "every process ready",
        *("3.00", "2.00–4.00", "7.00", "6.00–8.00", "2.33"),
    ]
    assert words(line_with(picture, "  lost")) == ["lost", "0", "3"]
    assert words(line_with(picture, "unlogged")) == [
        "unlogged, unexpected, duplicated, recovered, redelivered",
        *("0", "0"),
    ]
    assert "5,000/s over 32 connections" in picture
    assert "kafka, run 2, rates: could not be made: no port" in picture
    assert ".microq/compare.json" in picture


def test_the_picture_says_what_is_unknown() -> None:
    picture = text(comparison(found(), "file"))
    assert words(line_with(picture, "every process ready")) == ["every process ready", "n/a", "n/a", "n/a"]
    assert " 0" not in picture.replace("per 1,000", "")


def test_the_picture_of_one_queue_has_no_ratio() -> None:
    picture = text(comparison(found(("hazelcast",), started=started("hazelcast", 3)), "file"))
    assert "÷" not in picture
    assert words(line_with(picture, "every process ready")) == ["every process ready", "3.00"]


def test_a_run_that_did_not_pass_says_why() -> None:
    of = found(struck=[Struck("kafka", "kill-live", row("unknown", reasons=("it missed",), history="h.jsonl"))])
    assert "kafka, run 1, kill-member: unknown: it missed   h.jsonl" in text(comparison(of, "file"))


FACTS: dict[str, Any] = {
    "versions": {"microq": "0.1.0", "clients": {"aiohttp": "3.12"}},
    "machine": {"date": "2026-11-25", "system": "Linux", "cores": 2},
    "options": {"quick": True, "connections": [1, 32]},
    "seed": 7,
    "configuration": {"hazelcast": "[queue]", "kafka": "<img src=x>"},
}


def test_the_page_has_the_table_the_charts_and_the_verdicts() -> None:
    page = Reader(render(whole(), FACTS, complete=False))
    for said in (
        "Hazelcast and Kafka under the same load and faults",
        "Interrupted",
        "every process ready, s 3.00 2.00–4.00 7.00 6.00–8.00 2.33",
        "kafka, run 1 kill the owner under traffic ✘ FAIL 100 3 0.50",
        "kafka, run 2 rates no port",
        "aiohttp 3.12",
        "connections 1, 32",
        "microq compare --seed 7",
        "<img src=x>",
    ):
        assert said in page.words
    assert "img" not in page.tags
    first = page.figures["chart-1"]["data"]
    assert [(trace["name"], trace["x"]) for trace in first] == [("hazelcast", [3]), ("kafka", [7])]
    assert set(page.figures) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_page_of_nothing_says_so() -> None:
    page = Reader(render(found(("hazelcast",)), FACTS, complete=True))
    assert page.figures == {}
    assert "every process ready, s n/a" in page.words
    assert "No run with a fault was made." in page.words
    assert " ratio " not in page.words
