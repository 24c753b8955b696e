"""The terminal's pictures, as text at two widths."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import pytest
from rich.console import RenderableType
from support.screens import line_with, text, words
from support.snapshots import FINE, QUEUE, SYSTEM, TOPIC, figures

from microq.client import FIRST, Tally
from microq.fleet import Event, ProcessState, Snapshot
from microq.message import Message, Outcome, Reading, Receipt
from microq.terminal import messages, status, style

WIDTHS = [80, 160]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_queue_shows_owner_copies_and_age(width: int) -> None:
    picture = text(status.queue(SYSTEM), width)
    assert "messages-queue   1 of 2 backups   100 of 100,000 items   collected 0.6 s ago" in picture
    assert words(line_with(picture, "5702")) == [
        "★ hazelcast-5702",
        "● ready",
        "100",
        "0",
        "4.1 s",
    ]
    assert words(line_with(picture, "5703"))[:5] == ["hazelcast-5703", "● ready", "0", "100", "–"]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_dead_members_figures_are_not_known_and_never_zero(width: int) -> None:
    for picture in (text(status.queue(SYSTEM), width), text(status.status(SYSTEM), width)):
        row = words(next(line for line in picture.splitlines() if "5701" in line and "n/a" in line))
        assert row.count("n/a") in {3, 6}
        assert len(row) - row.count("n/a") <= 3
        assert "0" not in row


@pytest.mark.parametrize("width", WIDTHS)
def test_the_status_has_a_line_for_each_process(width: int) -> None:
    picture = text(status.status(SYSTEM), width)
    head = picture.splitlines()[0]
    for column in ("PROCESS", "STATE", "PID", "ADDRESS", "UP", "MEMORY", "RESTARTS", "HELD"):
        assert column in head
    ready = words(line_with(picture, "messages-5001"))
    assert ready[:3] == ["messages-5001", "● ready", "4121"]
    assert ready[4:] == ["1m03s", "170M", "0", "50"]
    dead = words(picture.splitlines()[1])
    assert dead[:3] == ["hazelcast-5701", "✗ exited (-9)", "–"]
    assert dead[4:] == ["–", "–", "0", "–"]
    for row in (ready, dead):
        address = f"127.0.0.1:{row[0][-4:]}"
        assert row[3] == address if width > 80 else address.startswith(row[3].rstrip("…"))
    assert "run folder /project/.microq/runs/1" in picture


def test_a_member_that_ran_out_of_memory_is_exited_and_says_why() -> None:
    ended = dataclasses.replace(SYSTEM.processes[0], state=ProcessState.EXITED, exit_status=3)
    picture = text(status.status(dataclasses.replace(SYSTEM, processes=(ended, *SYSTEM.processes[1:]))))
    assert "✗ exited (out of memory)" in picture.splitlines()[1]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_table_is_cut_at_these_widths(width: int) -> None:
    for picture in (status.queue(SYSTEM), status.status(SYSTEM)):
        shown = text(picture, width)
        cut = [word for word in shown.split() if word.endswith("…") and not word.startswith("127.0")]
        assert not cut
        if width > 80:
            assert "…" not in shown


@pytest.mark.parametrize("width", [24, 40, 60])
@pytest.mark.parametrize("view", [SYSTEM, TOPIC])
@pytest.mark.parametrize("picture", [status.queue, status.status, status.members_table, status.brokers_table])
def test_narrow_terminal_leaves_out_columns_cuts_no_figure(
    width: int, view: Snapshot, picture: Callable[[Snapshot], RenderableType]
) -> None:
    whole = {word for line in text(picture(view), 200).splitlines() for word in words(line)}
    shown = text(picture(view), width).splitlines()
    assert all(len(line) <= width for line in shown)
    rows = [line for line in shown if re.match(r"(★ |  )?(hazelcast|kafka|messages|facade)-\d", line)]
    assert len(rows) >= 3 or width == 24 or (view is SYSTEM and picture is status.brokers_table)
    for word in (word for row in rows for word in words(row)):
        assert word in whole or word.startswith("127.0")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_members_show_entries_partitions_and_heap(width: int) -> None:
    picture = text(status.status(SYSTEM), width)
    row = words(next(line for line in picture.splitlines() if "5703" in line and "1,234" in line))
    assert row == ["hazelcast-5703", "0", "100", "1,234", "2,468", "13", "40/256M"]


def test_the_status_says_whether_the_cluster_is_safe() -> None:
    unsafe = dataclasses.replace(
        SYSTEM, members=(figures("hazelcast-5702", seen=2, safe=False), figures("hazelcast-5703", seen=2))
    )
    assert "cluster safe: every copy is in place" in text(status.status(FINE))
    assert "cluster safe" not in text(status.status(SYSTEM))
    assert "cluster not safe" in text(status.status(unsafe))
    assert "no server of the queue answers" in text(status.status(dataclasses.replace(SYSTEM, members=())))


def test_a_cluster_that_runs_elsewhere_has_no_members_to_show() -> None:
    elsewhere = dataclasses.replace(SYSTEM, managed=False, members=(), processes=SYSTEM.processes[3:])
    assert "MEMBER" not in text(status.status(elsewhere))
    assert "run elsewhere" in text(status.queue(elsewhere))


def test_a_queue_without_backups_carries_its_warning() -> None:
    bare = dataclasses.replace(SYSTEM, queue=dataclasses.replace(QUEUE, backup_count=0))
    assert "what a killed server owned is lost" in text(status.queue(bare))
    one = dataclasses.replace(SYSTEM, queue=dataclasses.replace(QUEUE, backup_count=1, size=None))
    assert "1 backup   n/a of 100,000 items" in text(status.queue(one))


@pytest.mark.parametrize("width", WIDTHS)
def test_queue_counts_show_unknown_not_zero(width: int) -> None:
    for picture in (status.queue, status.status):
        assert "n/a pending   n/a redelivered   n/a dead" in text(picture(SYSTEM), width)
        known = dataclasses.replace(QUEUE, pending=1234, redelivered=0, dead=0)
        shown = text(picture(dataclasses.replace(SYSTEM, queue=known)), width)
        assert "1,234 pending   0 redelivered   0 dead" in shown.splitlines()
        dead = dataclasses.replace(SYSTEM, queue=dataclasses.replace(known, dead=2))
        assert "2 dead letters wait: `microq dead list` shows why" in text(picture(dead), width)


def test_silent_facade_leaves_owner_and_size_unknown() -> None:
    blind = text(status.queue(dataclasses.replace(SYSTEM, queue=None, members=())))
    assert "owner and size are unknown   no server answers" in blind
    assert "★" not in blind


@pytest.mark.parametrize("state", list(ProcessState))
def test_every_state_has_a_sign_and_a_colour(state: ProcessState) -> None:
    assert str(style.state_text(state)) == f"{style.SIGN[state]} {state}"
    assert style.STATE_STYLE[state]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"),
        (0, "0.0 s"),
        (4.14, "4.1 s"),
        (59.94, "59.9 s"),
        (59.99, "1m00s"),
        (60, "1m00s"),
        (187, "3m07s"),
        (8100, "2h15m"),
    ],
)
def test_a_duration_is_said_as_people_say_it(seconds: float | None, shown: str) -> None:
    assert style.duration(seconds) == shown


def test_memory_is_in_mebibytes_or_unknown() -> None:
    assert [style.mebibytes(count) for count in (None, 0, 170 << 20)] == ["–", "0M", "170M"]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_start_shows_every_process_and_the_time(width: int) -> None:
    states = {"facade-5000": (ProcessState.STARTING, "waits"), "logging-5003": (ProcessState.READY, "")}
    picture = text(status.starting(states, 0.0), width)
    assert words(line_with(picture, "facade")) == ["facade-5000", "… starting waits"]
    assert words(line_with(picture, "logging")) == ["logging-5003", "● ready"]
    assert picture.splitlines()[-1].endswith(" s")


def test_an_event_is_one_line() -> None:
    happened = Event(1.0, "messages-5001", "exited", "killed by SIGKILL")
    assert text(status.event(happened)) == "messages-5001    ✗ exited killed by SIGKILL"


def test_summary_of_sends_shows_outcomes_rate_loggers() -> None:
    tally = Tally()
    tally.add(Receipt("a", "a", Outcome.ACKNOWLEDGED, 0.1, logged_by="logging-5004"))
    tally.add(Receipt("b", "b", Outcome.ACKNOWLEDGED, 0.1, logged_by="logging-5003"))
    tally.add(Receipt("c", "c", Outcome.REJECTED, 0.1, reason="full"))
    assert text(messages.sent(tally, 0.5)).splitlines() == [
        "Sent 3: 2 acknowledged, 1 rejected, 0 indeterminate   (6/s)",
        "  logging-5003 logged 1: b",
        "  logging-5004 logged 1: a",
    ]
    assert "Sent 0: 0 acknowledged" in text(messages.sent(Tally(), 0.0))


def test_tally_keeps_first_texts_and_all_failures() -> None:
    tally = Tally()
    for number in range(1000):
        tally.add(Receipt(f"id-{number}", f"msg{number}", Outcome.ACKNOWLEDGED, 0.1, logged_by="logging-5003"))
        tally.add(Receipt(f"no-{number}", f"bad{number}", Outcome.REJECTED, 0.1, reason="full"))
    assert text(messages.sent(tally, 1.0)).splitlines()[1].endswith("msg10, msg11, … (1000 in all)")
    assert len(tally.loggers["logging-5003"].first) == FIRST
    assert len(tally.failures) == 1000


def reading(*texts: str, logger: str = "127.0.0.1:5003") -> Reading:
    return Reading(tuple(Message(str(n), t) for n, t in enumerate(texts)), (), logger, "")


def test_a_reading_during_a_merge_says_that_it_may_be_short() -> None:
    got = dataclasses.replace(reading("msg1"), merging=True)
    assert "it may show only some of the messages" in text(messages.reading(got), 160)
    assert "fewer" not in text(messages.reading(reading("msg1")), 160)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_reading_shows_both_sets_and_where_they_came_from(width: int) -> None:
    lines = text(messages.reading(reading("msg1", "msg2")), width).splitlines()
    assert words(lines[0]) == ["127.0.0.1:5003", "2", "msg1, msg2"]
    assert words(lines[1]) == ["no messages-service answered", "0", "–"]


def test_a_long_reading_is_cut_and_counted() -> None:
    picture = text(messages.reading(reading(*(f"msg{n}" for n in range(1, 101)))))
    assert "msg12, … (100 in all)" in picture
    assert "msg13" not in picture


@pytest.mark.parametrize("evil", ["\x1b[31mred", "two\nlines", "\u202egnp", "\x9b2J", "bell\x07", "\ud800"])
def test_a_message_cannot_colour_or_move_the_terminal(evil: str) -> None:
    shown = text(messages.reading(reading(evil)))
    assert all(line.isprintable() for line in shown.splitlines())
    assert evil not in shown


def test_a_message_is_no_markup() -> None:
    assert "[bold]x[/bold]" in text(messages.reading(reading("[bold]x[/bold]")))


def test_a_finding_shows_its_remedy_below() -> None:
    rows = [("Java", "ok", "25.0.1", ""), ("ports", "missing", "5702 is taken", "microq down")]
    assert text(status.findings_table(rows)).splitlines() == [
        "✓ Java: 25.0.1",
        "✗ ports: 5702 is taken",
        "    microq down",
    ]


# -- a queue in Kafka -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_a_topic_shows_each_partition_and_each_broker(width: int) -> None:
    picture = text(status.queue(TOPIC), width)
    assert "100 of 100,000 items   collected 0.6 s ago" in picture
    lines = picture.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("PARTITION"))
    first, second, third = (words(line) for line in lines[head + 1 : head + 4])
    assert (first[:2], first[-1]) == (["0", "★ kafka-9091"], "30")
    assert first[2].startswith("3 of 3: kafka-9091")
    assert (second[1], second[-1]) == ("★ kafka-9092", "70")
    assert second[2].startswith("2 of 3: kafka-9091")
    assert (third[1], third[-1]) == ("none", "n/a")
    below = [line for line in lines[head + 5 :] if not line.startswith("!")]
    rows = {line.split("kafka-")[1][:4]: words(line) for line in below if "kafka-" in line}
    assert rows["9091"] == ["★ kafka-9091", "● ready", "0", "30", "70"]
    assert rows["9093"] == ["kafka-9093", "● ready", "n/a", "n/a", "n/a"]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_status_of_a_topic_has_members_and_brokers(width: int) -> None:
    picture = text(status.status(TOPIC), width)
    assert picture.index("MEMBER") < picture.index("BROKER") < picture.index("cluster ")
    assert "★ kafka-9092" in picture.splitlines()[7]
