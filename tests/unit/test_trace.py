"""The journeys of messages, from log files and a timeline that are written here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from support.journeys import BEGAN, Run, as_json
from support.snapshots import QUEUE, SYSTEM, TOPIC

from microq import trace
from microq.fleet import Event, Topic
from microq.log import (
    Acknowledged,
    Foreign,
    GivenUp,
    Ignored,
    Indeterminate,
    Line,
    NotRedelivered,
    Redelivered,
    Rejected,
    Removed,
    Replayed,
    Yielded,
)
from microq.trace import KEPT

FORMS = pytest.mark.parametrize("form", [str, as_json], ids=["text", "json"])


def told(folder: Path, message_id: str) -> list[tuple[str, str]]:
    return [(step.where, step.what) for step in trace.find(folder, message_id).steps]


@FORMS
def test_a_journey_has_every_station_in_the_order_of_time(tmp_path: Path, form: Callable[[Line], str]) -> None:
    Run(tmp_path, form).carries("8f31c2", "msg42", 10.005)
    trail = trace.find(tmp_path, "8f31c2")
    assert (trail.id, trail.text) == ("8f31c2", '"msg42"')
    assert told(tmp_path, "8f31c2") == [
        ("facade-5000", 'accepted "msg42"'),
        ("logging-5004", "stored"),
        ("queue", "in the queue"),
        ("facade-5000", "acknowledged (3.1 ms)"),
        ("messages-5001", "took it from the queue"),
        ("messages-5001", "received, and stored"),
    ]
    assert [round((step.at - BEGAN) * 1000) for step in trail.steps] == [10_001, 10_004, 10_005, 10_005, 10_013, 10_015]
    assert all(step.sure for step in trail.steps)


def test_of_an_unknown_id_nothing_is_known(tmp_path: Path) -> None:
    assert trace.find(tmp_path, "x").steps == ()
    Run(tmp_path).carries("8f31c2", "msg42", 10.0)
    for unknown in ("", "8f31", "8f31c2 ", "f31c2", "msg42", "8F31C2"):
        assert trace.find(tmp_path, unknown) == trace.Trail(unknown, "", ())


TRICKY = [
    "ab",
    'ab "x',
    'ab "x"',
    'ab "x", logged by logging-5004, in 3.1 ms',
    "ab, which messages-5001 has already",
    ".*",
    "a.",
    '"',
    " ",
    "[ab]",
    "{ab}",
    "\\d",
    "öäü",
    "ab: c",
    '["ab"]',
    "ID",
    "QUOTED",
]
"""Ids that anybody may choose."""


@FORMS
def test_ids_are_compared_as_a_whole_whatever_is_in_them(tmp_path: Path, form: Callable[[Line], str]) -> None:
    run = Run(tmp_path, form)
    texts = {message_id: f'{n} " {message_id} {{}}\\' for n, message_id in enumerate(TRICKY)}
    for n, (message_id, text) in enumerate(texts.items()):
        run.carries(message_id, text, 10.0 + n)
        run.says("messages-5002", 10.5 + n, Ignored(message_id, "messages-5001"))
    for n, (message_id, text) in enumerate(texts.items()):
        trail = trace.find(tmp_path, message_id)
        assert [step.where for step in trail.steps] == [
            "facade-5000",
            "logging-5004",
            "queue",
            "facade-5000",
            "messages-5001",
            "messages-5001",
            "messages-5002",
        ], message_id
        assert trail.text == '"' + text.replace('"', r"\"") + '"'
        assert trail.steps[1].at == pytest.approx(BEGAN + 9.999 + n)
    rows = trace.newest(tmp_path, 100)
    assert [row.id for row in rows] == TRICKY[::-1]
    assert all(row.received_by == "messages-5001" for row in rows)


def test_what_is_not_simply_received_is_told_too(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.says("facade-5000", 1.0, Acknowledged("a", '"t"', "logging-5004", 2.0))
    run.takes(2.0, "x", "a", name="messages-5002")
    run.says("facade-5000", 3.0, Redelivered("a", 5))
    run.says("facade-5000", 4.0, NotRedelivered("a", "the queue is full"))
    run.says("facade-5000", 5.0, GivenUp("a", 5))
    run.says("facade-5000", 6.0, Replayed("a"))
    run.receives("a", "t", 7.0)
    run.says("messages-5002", 8.0, Ignored("a", "messages-5001"))
    run.says("messages-5002", 9.0, Yielded("a", "messages-5001"))
    assert [what for _, what in told(tmp_path, "a")][3:] == [
        "took it from the queue",
        "put it into the queue again: it left the queue and was stored nowhere for 5 s",
        "could not put it into the queue again: the queue is full",
        "gave it up, a dead letter now: not stored after 5 deliveries",
        "replayed the dead letter",
        "received, and stored",
        "ignored a second delivery: messages-5001 has it already",
        "gave it up: it is messages-5001's since the halves of the cluster merged",
    ]


def test_a_refused_message_was_never_in_the_queue(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.stores('a "b', "t", 1.0)
    run.says("logging-5003", 2.0, Removed('a "b'))
    run.says("facade-5000", 2.0, Rejected(503, 'a "b', "the queue is full; send it again later"))
    run.says("facade-5000", 3.0, Indeterminate('a "b', "no server answers"))
    assert told(tmp_path, 'a "b') == [
        ("logging-5004", "stored"),
        ("logging-5003", "removed it: the queue refused it"),
        ("facade-5000", "refused (503): the queue is full; send it again later"),
        ("facade-5000", "indeterminate (504): no server answers"),
    ]


def test_an_item_that_is_no_message_has_its_letters_id(tmp_path: Path) -> None:
    Run(tmp_path).says("messages-5001", 1.0, Foreign("refused-1", "not JSON"))
    assert told(tmp_path, "refused-1")[0][1].endswith("a dead letter now: not JSON")


def test_lines_that_a_kill_cut_short_are_left_out(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.carries("a", "t", 1.0)
    with (tmp_path / "logs" / "messages-5002.log").open("w") as file:
        file.write('2026-11-24T10:00:00.000 INFO    messages-5002    took ["a", "b')
    assert len(told(tmp_path, "a")) == 6


# -- around it --------------------------------------------------------------------------------------------------------


def test_timeline_shows_copies_and_kills(tmp_path: Path) -> None:
    run = Run(tmp_path)
    before = dataclasses.replace(
        SYSTEM,
        taken_at=9.6,
        queue=dataclasses.replace(QUEUE, owner="hazelcast-5701"),
    )
    run.lives(
        Event(2.0, "hazelcast-5703", "ready"),
        before,
        Event(10.5, "hazelcast-5701", "exited", "by SIGKILL"),
        Event(10.6, "logging-5003", "exited", "by SIGKILL"),
        Event(10.7, "kill-member", "ready", topic=Topic.SCENARIO),
        dataclasses.replace(SYSTEM, taken_at=10.9),
        Event(11.0, "messages-5001", "ready"),
        Event(30.0, "hazelcast-5702", "exited", "by SIGKILL"),
    )
    run.carries("a", "t", 10.0, after=2.0)
    steps = trace.find(tmp_path, "a").steps
    assert [(step.where, step.what, step.sure) for step in steps if step.where in ("", "queue")] == [
        ("queue", "on hazelcast-5701 (owner), backups on hazelcast-5703, as seen 400 ms before", False),
        ("", "hazelcast-5701 killed", True),
        ("", "hazelcast-5702 owns the queue now: its backup was promoted", False),
        ("", "messages-5001 ready", True),
    ]


def test_unreported_backup_count_is_the_configured_one(tmp_path: Path) -> None:
    run = Run(tmp_path)
    empty = tuple(dataclasses.replace(figures, items=0, backups=0) for figures in SYSTEM.members)
    run.lives(dataclasses.replace(SYSTEM, taken_at=11.5, members=empty))
    run.carries("a", "t", 10.0)
    assert told(tmp_path, "a")[2] == ("queue", "on hazelcast-5702 (owner) and 1 backup, as seen 1.5 s later")


def test_a_look_that_is_far_away_tells_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.lives(dataclasses.replace(SYSTEM, taken_at=90.0))
    run.carries("a", "t", 10.0)
    assert told(tmp_path, "a")[2] == ("queue", "in the queue")


def test_in_a_topic_the_partition_follows_from_the_id(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.lives(dataclasses.replace(TOPIC, taken_at=9.9))
    wheres = set()
    for n in range(20):
        run.carries(f"id-{n}", "t", 10.0)
        wheres.add(told(tmp_path, f"id-{n}")[2][1])
    assert wheres == {
        "in partition 0 on kafka-9091 (leader), in sync on kafka-9092 and kafka-9093, as seen 100 ms before",
        "in partition 1 on kafka-9092 (leader), in sync on kafka-9091, as seen 100 ms before",
        "in partition 2 on no broker (leader), as seen 100 ms before",
    }


def test_a_message_that_waited_long_tells_a_part_of_what_it_saw(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.lives(*(Event(11.0 + n, "hazelcast-5701", "ready") for n in range(100)))
    run.carries("a", "t", 10.0, after=1000.0)
    around = [what for where, what in told(tmp_path, "a") if not where]
    assert len(around) == 20
    assert around[-1] == "… and 81 more events until it was received"


# -- rows -------------------------------------------------------------------------------------------------------------


def test_the_newest_are_followed_while_the_files_grow(tmp_path: Path) -> None:
    run, kept = Run(tmp_path), trace.Trails(tmp_path)
    assert kept.newest(5) == []
    run.acknowledges("a", "one", 1.0)
    (row,) = kept.newest(5)
    assert row == trace.Row("a", '"one"', BEGAN + 1.0, 0.0031, "logging-5004")
    run.receives("a", "one", 2.0, "messages-5002")
    run.receives("b", "two", 2.5)  # quicker than the line about it
    run.acknowledges("c", "three", 3.0)
    assert [(row.id, row.received_by) for row in kept.newest(5)] == [("c", None), ("a", "messages-5002")]
    run.acknowledges("b", "two", 4.0)
    run.acknowledges("a", "one", 5.0)  # sent again
    assert [(row.id, row.received_by) for row in kept.newest(2)] == [("a", "messages-5002"), ("b", "messages-5001")]


def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    run, kept = Run(tmp_path), trace.Trails(tmp_path)
    run.acknowledges("a", "one", 1.0)
    file = tmp_path / "logs" / "facade-5000.log"
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert kept.newest(5) == []
    file.write_bytes(whole)
    assert [row.id for row in kept.newest(5)] == ["a"]


def test_search_finds_ids_and_texts_in_any_case_newest_first(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.carries("Id-1", "Grüße, World", 1.0)
    run.carries("id-2", 'say "hello"', 2.0)
    run.acknowledges("id-3", "logging-5004", 3.0)

    def found(text: str, limit: int = 10) -> list[str]:
        return [row.id for row in trace.search(tmp_path, text, limit)]

    assert found("ID-") == ["id-3", "id-2", "Id-1"]
    assert found("id-", 2) == ["id-3", "id-2"]
    assert found("GRÜSSE") == []
    assert found("GRÜß") == ["Id-1"]
    assert found("world") == ["Id-1"]
    assert found('"HELLO"') == ["id-2"]
    assert found("logging-5004") == ["id-3"], "what the line says beside the text is not searched"
    assert found("nowhere") == []
    assert [row.received_by for row in trace.search(tmp_path, "id", 10)] == [None, "messages-5001", "messages-5001"]


def test_ids_are_found_by_their_beginning(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.carries("abcd-1", "t", 1.0)
    run.carries("abcd-2", "abcx", 2.0)
    run.says("facade-5000", 3.0, "503 for abce: full")
    run.says("messages-5001", 3.0, "an item of the queue is a dead letter now, refused-7: not JSON")
    assert trace.ids_like(tmp_path, "abcd", 5) == ["abcd-1", "abcd-2"]
    assert trace.ids_like(tmp_path, "abc", 2) == ["abcd-1", "abcd-2"]
    assert trace.ids_like(tmp_path, "abce", 5) == ["abce"]
    assert trace.ids_like(tmp_path, "refused", 5) == ["refused-7"]
    assert trace.ids_like(tmp_path, "bcd", 5) == []


def test_of_very_many_messages_each_is_found(tmp_path: Path) -> None:
    run, count = Run(tmp_path), 100_000
    acknowledged = ((n / 1000, f'acknowledged i{n} "m{n}", logged by logging-5004, in 1.0 ms') for n in range(count))
    run.write("facade-5000", acknowledged)
    run.write("messages-5001", ((200 + n / 1000, f'received i{n} "m{n}"') for n in range(count)))
    rows = trace.newest(tmp_path, count)
    assert [row.id for row in rows] == [f"i{n}" for n in range(count - 1, count - 1 - KEPT, -1)]
    assert all(row.received_by for row in rows)
    for wanted in (0, 50_000, count - 1):
        assert len(trace.find(tmp_path, f"i{wanted}").steps) == 4
    (row,) = trace.search(tmp_path, "M77777", 5)
    assert row.received_at == pytest.approx(BEGAN + 277.777)
