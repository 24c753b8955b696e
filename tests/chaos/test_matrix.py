"""The matrix: what is run, how rows are made of runs, and what they say together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from microq.backends import BACKENDS
from microq.chaos.checker import judge
from microq.chaos.controls import CONTROLS
from microq.chaos.faults import FAULTS
from microq.chaos.faults.base import Arena, Fault, combine
from microq.chaos.forensics import _taken
from microq.chaos.history import Entry
from microq.chaos.matrix import ERROR, Plan, Row, exit_code, make, plan, run_all, summarize
from microq.chaos.verdict import Ruling, Verdict
from microq.errors import StartTimeoutError, UsageError
from microq.terminal import verdict as views

QUEUE = "hazelcast"


def test_every_fault_is_run_as_often_as_asked() -> None:
    plans = plan(QUEUE, [], [], 2, 7)
    mine = [name for name, fault in FAULTS.items() if fault.suits(QUEUE)]
    assert len(mine) > 10
    assert [(todo.fault.name, todo.run) for todo in plans] == [(name, run) for run in (1, 2) for name in mine]
    assert len({todo.seed for todo in plans}) == len(plans)


def test_a_seed_repeats_the_plan_whatever_else_is_run() -> None:
    assert plan(QUEUE, [], [], 2, 7) == plan(QUEUE, [], [], 2, 7)
    assert plan(QUEUE, [], [], 2, 7) != plan(QUEUE, [], [], 2, 8)
    assert set(plan(QUEUE, ["poison"], [], 1, 7)) < set(plan(QUEUE, [], ["kill-member"], 2, 7))


def test_each_queue_has_its_faults() -> None:
    hazelcast, kafka = ({todo.fault.name for todo in plan(queue, [], [], 1, 0)} for queue in BACKENDS)
    assert hazelcast - kafka == {"split-cluster"}
    # What kills a member kills a leader, and is not done twice; who asks for it by its name gets it.
    assert kafka < hazelcast
    assert [todo.fault.name for todo in plan("kafka", ["kill-leader"], [], 1, 0)] == ["kill-leader"]
    with pytest.raises(UsageError, match="kill-leader is a fault of kafka, and the queue is hazelcast's"):
        plan("hazelcast", ["kill-leader"], [], 1, 0)


def test_the_matrix_kills_the_owner() -> None:
    [todo] = plan(QUEUE, ["kill-member"], [], 1, 0)
    assert todo.fault == make("kill-member", target="owner")


def test_options_reach_the_faults_that_have_them() -> None:
    consumer, facade, member = plan(QUEUE, ["kill-member", "kill-consumer", "kill-facade"], [], 1, 0, times=2)[::-1]
    assert (consumer.fault, facade.fault) == (make("kill-facade", times=2), make("kill-consumer", times=2))
    assert member.fault == make("kill-member", target="owner")


def test_two_faults_at_once_are_one_of_the_matrix() -> None:
    [todo] = plan(QUEUE, ["kill-member+kill-facade"], [], 1, 0, times=2)
    assert todo.fault.name == "kill-member+kill-facade"
    assert todo.fault == combine([make("kill-member", target="owner"), make("kill-facade", times=2)])


def test_together_faults_need_what_each_needs() -> None:
    both = combine([make("full-queue"), make("slow-network")])
    assert (both.needs_links, both.settings, both.bounds) == (True, ("queue.max-size=100",), {"accepted": 0})


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("poison+poison", "poison is named twice"),
        ("kill-member+pause-member", "both act on the servers"),
        ("rolling-restart+kill-facade", "both act on the facade"),
        ("slow-network+cut-client", "both act on the links"),
        ("kill-member+nonsense", "there is no fault 'nonsense'"),
        ("split-cluster+kill-facade", "split-cluster is a fault of hazelcast, and the queue is kafka's"),
    ],
)
def test_what_cannot_be_done_together_is_refused(names: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        plan("kafka" if "split" in names else QUEUE, [names], [], 1, 0)


class Full(Fault):
    """It needs another queue than `full-queue`."""

    name = "other"
    settings = ("queue.max-size=7",)
    breaks = frozenset()

    async def strike(self, arena: Arena) -> None:
        raise NotImplementedError


def test_faults_that_need_different_settings_are_refused() -> None:
    with pytest.raises(UsageError, match=r"one needs queue.max-size=100, the other one queue.max-size=7"):
        combine([make("full-queue"), Full()])


@pytest.mark.parametrize(
    ("only", "skip", "says"),
    [
        (["nonsense"], [], "there is no fault 'nonsense'; there are kill-member,"),
        ([], ["nonsense"], "there is no fault 'nonsense'"),
        (["poison"], ["poison"], "no fault is left"),
    ],
)
def test_names_of_no_fault_are_refused(only: list[str], skip: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        plan(QUEUE, only, skip, 1, 0)


def verdict(ruling: Ruling) -> Verdict:
    """A verdict as the judge makes it, of a history of a few lines."""

    def at(kind: Any, **facts: Any) -> Entry:
        return Entry(kind, 1.0, 1.0, facts)

    entries = [
        at("begin", scenario="kill-member", queue="hazelcast", backup_count=2, form="live"),
        at("send", id="a"),
        at("outcome", id="a", outcome="acknowledged"),
        at("fault", fault="kill-member", target="hazelcast-1", owner=True),
        at("struck", target="hazelcast-1"),
        at("drained", complete=ruling is not Ruling.UNKNOWN, reason="cut"),
        at("read", instance="logging-1", role="logging"),
        at("logged", instance="logging-1", id="a", by="logging-1"),
        at("shown", instance="messages-1", id="a" if ruling is not Ruling.FAIL else "b", at=1.0),
        at("end"),
    ]
    found = judge(entries)
    assert found.verdict is ruling
    return found


class Runs:
    """Makes runs with the outcomes it was given, one after the other."""

    def __init__(self, *outcomes: Ruling | Exception) -> None:
        self._outcomes = iter(outcomes)

    def __call__(self, _todo: Plan) -> tuple[Verdict, str]:
        outcome = next(self._outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return verdict(outcome), "history.jsonl"


def rows(*outcomes: Ruling | Exception) -> list[Row]:
    return list(run_all(plan(QUEUE, ["kill-member"], [], len(outcomes), 0), Runs(*outcomes)))


def test_the_matrix_goes_on_after_what_goes_wrong() -> None:
    late, full = StartTimeoutError("facade-1", 40.0, ""), OSError(28, "No space left on device")
    found = rows(Ruling.FAIL, late, Ruling.UNKNOWN, full, Ruling.PASS)
    assert [row.verdict for row in found] == ["fail", ERROR, "unknown", ERROR, "pass"]
    assert "facade-1 was not ready" in found[1].reasons[0]
    assert (found[0].lost, found[0].unexpected, found[0].history) == (1, 1, "history.jsonl")
    assert len({row.seed for row in found}) == 5


def test_a_mistake_of_ours_ends_the_matrix() -> None:
    with pytest.raises(ZeroDivisionError):
        rows(Ruling.PASS, ZeroDivisionError())


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([Ruling.PASS, Ruling.PASS], 0),
        ([Ruling.PASS, Ruling.UNKNOWN], 3),
        ([Ruling.PASS, OSError(1, "")], 3),
        ([Ruling.FAIL, Ruling.UNKNOWN, Ruling.PASS], 1),
        ([], 3),
    ],
)
def test_the_exit_code_is_that_of_the_worst(outcomes: list[Ruling | Exception], code: int) -> None:
    assert exit_code(rows(*outcomes) if outcomes else []) == code


def gap(seconds: float | None, fault: str = "kill-member", verdict: str = "pass", lost: int = 0) -> Row:
    return Row(fault, 1, 1, verdict, longest_gap_s=seconds, lost=lost)


def test_a_summary_counts_and_ranks() -> None:
    first, second = summarize(
        [*(gap(float(number)) for number in range(1, 21)), gap(None, verdict=ERROR), gap(3.0, "poison", "fail", lost=2)]
    )
    assert (first.runs, first.passed, first.failed, first.unknown, first.errors) == (21, 20, 0, 0, 1)
    assert first.gaps == (10.0, 19.0, 20.0)
    assert (second.fault, second.failed, second.counts["lost"]) == ("poison", 1, 2)
    assert summarize([gap(None)])[0].gaps is None


def picture(renderable: Any) -> str:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_the_table_fits_a_terminal() -> None:
    shown = picture(views.summaries(summarize([gap(1.0), gap(12.25, "kill-two-members", "fail", lost=2)])))
    assert "…" not in shown
    heads, first, second, *rest = shown.splitlines()
    assert heads.split() == ["FAULT", "RUNS", "PASS", "FAIL", "UNKNOWN", "LOST", "P50", "P95", "MAX"]
    assert first.split() == ["kill-member", "1", "1", "0", "0", "0", "1.00", "1.00", "1.00"]
    assert second.split() == ["kill-two-members", "1", "0", "1", "0", "2", "12.25", "12.25", "12.25"]
    assert "2 runs, 0 unlogged, 0 unexpected, 0 duplicated" in " ".join(rest)


def test_a_row_says_why() -> None:
    shown = picture(views.row(rows(OSError(28, "No space left"))[0], 1, 2))
    assert "[1/2] kill-member" in shown
    assert "ERROR" in shown
    assert "No space left" in shown.replace("\n", "")


def test_every_control_is_told() -> None:
    found = [(control, [control.expectation], 1) for control in CONTROLS.values()]
    shown = picture(views.controls(found))
    assert all(name in shown for name in CONTROLS)
    assert shown.count("1/1") == len(CONTROLS)


def test_what_a_consumer_took_is_read_from_its_log(tmp_path: Path) -> None:
    lines = [
        '2026-11-24T14:00:00.000 INFO    messages-1       took ["a", "b c"]',
        '2026-11-24T14:00:00.000 INFO    messages-1       received x "took [\\"forged\\"]"',
        "2026-11-24T14:00:00.000 INFO    messages-1       loaded 3 stored messages into memory",
        '2026-11-24T14:00:00.000 INFO    messages-1       took ["b c", 3, "d"]',
        '2026-11-24T14:00:00.000 INFO    messages-1       took ["e"',
        "2026-11-24T14:00:00.000 INFO    messages-1       took [nonsense]",
    ]
    (tmp_path / "messages-1.log").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "logging-1.log").write_text(lines[0], encoding="utf-8")
    assert _taken(tmp_path, {"b c", "e", "forged", "z"}) == [("messages-1", ["b c"], 2)]


def test_what_a_consumer_took_is_read_from_its_log_in_json(tmp_path: Path) -> None:
    said = ['took ["a", "b c"]', 'received x "took [\\"forged\\"]"', 'took ["d"]']
    fields = {"at": "2026-11-24T14:00:00.000+00:00", "level": "INFO", "process": "messages-1"}
    lines = [json.dumps({**fields, "message": text}) for text in said]
    (tmp_path / "messages-1.log").write_text("\n".join([*lines, lines[0][:-5]]), encoding="utf-8")
    assert _taken(tmp_path, {"b c", "forged", "d"}) == [("messages-1", ["b c", "d"], 2)]
