"""The screen of a watcher at its sizes, and what it is made of."""

from __future__ import annotations

import dataclasses

import pytest
from support.screens import line_with, text, words
from support.snapshots import QUEUE, SYSTEM, TOPIC, process

from microq.fleet import Event, ProcessState, ProcessView, Snapshot, Topic
from microq.metrics import Latencies
from microq.terminal.logs import event_line
from microq.terminal.screen import Sight, line, screen

SIZES = pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 40), (160, 45)])


def counted(name: str, **counters: int) -> ProcessView:
    took = Latencies()
    for _ in range(counters.get("messages_acknowledged", 0)):
        took.observe(0.003)
    latency = tuple(took.counts) if name.startswith("facade") else ()
    return dataclasses.replace(process(name), counters=counters, latency=latency)


def default(view: Snapshot) -> Snapshot:
    """A system with as many processes as the default one has."""
    services = [process(f"logging-{port}") for port in (5003, 5004, 5005)]
    services += [process("messages-5001"), process("messages-5002"), process("config-5006")]
    facade = counted("facade-5000", messages_acknowledged=100)
    servers = [p for p in view.processes if p.name.startswith(("hazelcast", "kafka"))]
    return dataclasses.replace(view, processes=(*servers, *services, facade))


def at(view: Snapshot, taken_at: float, *processes: ProcessView) -> Snapshot:
    return dataclasses.replace(view, taken_at=taken_at, processes=processes or view.processes)


def lines(sight: Sight, width: int, height: int) -> list[str]:
    found = text(screen(sight, width, height), width).splitlines()
    assert len(found) <= height
    return found


@SIZES
@pytest.mark.parametrize("view", [SYSTEM, TOPIC], ids=["hazelcast", "kafka"])
def test_everything_of_the_default_system_fits(view: Snapshot, width: int, height: int) -> None:
    sight = Sight(default(view))
    for n in range(60):
        sight.hear(Event(1.0 + n, "messages-5001", "ready", f"number {n}"))
    shown = "\n".join(lines(sight, width, height))
    assert "100 of 100,000" in shown
    assert "★ " in shown
    assert "✗ exited" in shown
    assert "! 1 of 2 backups: one member is down" in shown or view is TOPIC
    assert "number 59" in shown
    assert all(p.name in shown for p in sight.now.processes) or "more" in shown
    assert "MEMO…" not in shown


def test_a_wide_screen_has_servers_and_services_side_by_side() -> None:
    shown = lines(Sight(default(SYSTEM)), 160, 45)
    head = next(row for row in shown if "MEMBER" in row)
    assert "SERVICE" in head
    assert "hazelcast-5701" in next(row for row in shown if "logging-5003" in row)


def test_what_does_not_fit_is_counted_and_trouble_stays() -> None:
    view = default(SYSTEM)
    dead = dataclasses.replace(process("messages-5002"), state=ProcessState.EXITED)
    view = dataclasses.replace(view, processes=tuple(dead if p.name == dead.name else p for p in view.processes))
    shown = lines(Sight(view), 80, 16)
    assert any("messages-5002" in row for row in shown)
    assert "more" in line_with("\n".join(shown), "… ")


def test_rates_are_those_of_about_a_second() -> None:
    before = at(SYSTEM, 100.0, counted("facade-5000", messages_acknowledged=100), counted("messages-5001"))
    sight = Sight(before)
    assert "accepted n/a" in "\n".join(lines(sight, 80, 24))
    facade = counted("facade-5000", messages_acknowledged=500)
    after = [facade, counted("messages-5001", messages_received=30)]
    sight.look(at(before, 100.5))
    assert sight.rate("messages_acknowledged") is None, "looks that events asked for are too close together"
    sight.look(at(SYSTEM, 102.5, *after))
    assert sight.rate("messages_acknowledged") == pytest.approx(200)
    assert sight.rate("messages_received") == pytest.approx(15)
    assert sight.took(0.5) == pytest.approx(0.003, rel=0.5)
    shown = "\n".join(lines(sight, 80, 24))
    assert "accepted 200/s  delivered 15/s  p50 " in shown
    sight.look(at(SYSTEM, 103.5, *after))
    assert (sight.rate("messages_acknowledged"), sight.took(0.5)) == (0, None)
    sight.look(at(SYSTEM, 104.5, counted("facade-5000", messages_acknowledged=7)))
    assert sight.rate("messages_acknowledged") == pytest.approx(7), "the facade began anew"


def test_a_killed_process_is_seen_with_the_event() -> None:
    sight = Sight(default(SYSTEM))
    assert sight.now.named("messages-5001").state is ProcessState.READY
    sight.hear(Event(101.0, "messages-5001", "exited", "by SIGKILL"))
    shown = "\n".join(lines(sight, 80, 24))
    assert words(line_with(shown, "messages-5001"))[1] == "✗ exited"
    assert "✗ exited by SIGKILL" in shown


def test_a_supervisor_that_is_gone_is_said_to_be() -> None:
    sight = Sight(SYSTEM)
    sight.lose(123.0)
    sight.lose(456.0)
    assert sight.lost_at == 123.0
    assert "the supervisor has not answered since" in lines(sight, 80, 24)[0]
    sight.look(SYSTEM)
    assert "has not answered since" not in lines(sight, 80, 24)[0]


@pytest.mark.parametrize(("size", "bar"), [(0, "[            ]"), (1, "[▏           ]"), (100_000, f"[{'█' * 12}]")])
def test_the_bar_shows_how_full_the_queue_is(size: int, bar: str) -> None:
    view = dataclasses.replace(SYSTEM, queue=dataclasses.replace(QUEUE, size=size))
    assert bar in lines(Sight(view), 80, 24)[1]


def test_a_line_tells_the_same_and_each_cue_once() -> None:
    sight = Sight(SYSTEM)
    first = text(line(sight)).splitlines()
    assert "depth 100" in first[0]
    assert first[0].endswith("dead n/a  not safe  ★ hazelcast-5702")
    assert first[1:] == ["! 1 of 2 backups: one member is down"]
    sight.look(at(SYSTEM, 101.0))
    assert len(text(line(sight)).splitlines()) == 1
    sight.look(dataclasses.replace(SYSTEM, queue=None))
    assert "depth n/a" in text(line(sight)).splitlines()[0]
    assert "! the facade does not answer" in text(line(sight)) or sight.caveats


def test_an_event_of_a_scenario_is_told_as_it_tells_it() -> None:
    def told(kind: str, detail: str = "", **facts: object) -> str:
        happened = Event(1.0, "kill-member", kind, detail, topic=Topic.SCENARIO, facts=facts)
        return " ".join(text(event_line(happened)).split()[1:])

    assert told("says", "Killing hazelcast-5701") == "kill-member Killing hazelcast-5701"
    assert told("step", what="backup promoted") == "kill-member step backup promoted"
    assert told("end") == "kill-member end"
    assert "\x1b" not in told("says", "\x1b[2J")
