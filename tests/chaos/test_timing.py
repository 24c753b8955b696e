"""The times that a history tells: "first" from the confirmation of the fault on, "longest" from its beginning on."""

from __future__ import annotations

from typing import Any

import pytest

from microq.chaos.checker import (
    availability,
    first_acknowledgement,
    first_delivery,
    judge,
    longest_gap,
    longest_silence,
)
from microq.chaos.history import Entry, Kind


def at(kind: Kind, wall: float, **facts: Any) -> Entry:
    return Entry(kind, wall, wall - 100, facts)


def shown(*walls: float) -> list[Entry]:
    """What is read at the end: messages that were stored at these times."""
    return [at("shown", 200, id=f"m{wall}", at=wall) for wall in walls]


FAULT = [at("fault", 108), at("struck", 110)]


@pytest.mark.parametrize(
    ("walls", "silence"),
    [
        ((111.0, 115.5, 116.0), 4.5),
        ((113.0, 113.5), 5),
        ((101.0, 108.5, 110.5), 2),
        ((116.0, 111.0), 5),
        ((101.0,), None),
        ((101.0, 109.0), None),
        ((), None),
    ],
)
def test_a_silence_is_counted_from_the_beginning_of_the_fault_on(
    walls: tuple[float, ...], silence: float | None
) -> None:
    assert longest_silence([*FAULT, *shown(*walls)], ()) == silence


def test_what_was_there_before_is_left_out() -> None:
    assert longest_silence([*FAULT, *shown(112, 120)], {"m112"}) == 12


def test_without_a_fault_there_is_none() -> None:
    assert longest_silence(shown(112, 120), ()) is None


# -- acknowledgements -------------------------------------------------------------------------------------------------

Send = tuple[str, float, float, str]
"""Id, when it was sent, until when nothing was known, and the outcome."""


def sends(*told: Send, struck: float | None = 2.0, begun: float = 1.9) -> list[Entry]:
    """A run in which the fault begins, and is confirmed, at these monotonic times."""
    hit = [Entry("fault", begun, begun, {"fault": "kill-member", "target": "m", "owner": True})]
    hit += (
        []
        if struck is None
        else [Entry("struck", struck, struck, {"fault": "kill-member", "target": "m", "owner": True})]
    )
    events = [
        *(Entry("send", sent, sent, {"id": i}) for i, sent, _, _ in told),
        *(Entry("outcome", until, until, {"id": i, "outcome": outcome}) for i, _, until, outcome in told if outcome),
        *hit,
    ]
    return sorted(events, key=lambda entry: entry.mono)


ACK, REJ = "acknowledged", "rejected"


def test_probe_before_the_confirmation_times_nothing() -> None:
    early = ("probe", 1.95, 1.96, ACK)
    assert first_acknowledgement(sends(early)) is None
    assert longest_gap(sends(early)) is None
    late = ("again", 2.1, 5.4, ACK)
    assert first_acknowledgement(sends(early, late)) == 3.4
    assert longest_gap(sends(early, late)) == 3.3


def test_wait_may_begin_before_the_confirmation() -> None:
    assert first_acknowledgement(sends(("a", 1.95, 5.0, ACK))) is None
    # Some faults are confirmed late, when the wait has gone on for long; it begins with the fault at the earliest.
    assert longest_gap(sends(("a", 1.0, 5.0, ACK), struck=4.9)) == 3.1
    assert longest_gap(sends(("a", 1.95, 5.0, ACK), struck=4.9)) == 3.05


def test_wait_before_confirmation_counts_from_the_hit() -> None:
    """A pause is confirmed at its end: an acknowledgement just before that must not hide what went before."""
    frozen, after = ("a", 1.5, 19.5, ACK), ("b", 19.6, 20.5, ACK)
    assert longest_gap(sends(frozen, after, struck=20.0)) == 17.6
    assert longest_gap(sends(("early", 1.0, 1.8, ACK), after, struck=20.0)) == 0.9


def test_unconfirmed_fault_times_only_the_whole_run() -> None:
    run = sends(("a", 1.0, 4.0, ACK), struck=None)
    assert (first_acknowledgement(run), first_delivery(run, ()), longest_gap(run)) == (None, None, 3)


def test_unacknowledged_wait_lasts_until_last_outcome() -> None:
    assert longest_gap(sends(("a", 1.0, 1.1, ACK), ("b", 2.5, 3.0, REJ), ("b", 3.1, 9.5, REJ))) == 7


def test_the_first_delivery_is_timed_from_the_confirmation() -> None:
    assert first_delivery([*FAULT, *shown(109, 113)], ()) == 3


@pytest.mark.parametrize(
    ("told", "share"),
    [
        ((), None),
        ((("a", 1.0, 1.1, ACK),), 1),
        ((("a", 1.0, 1.1, ACK), ("b", 900.0, 900.1, ACK)), 1),  # in between nobody waited
        ((("a", 1.0, 1.1, ACK), ("b", 2.0, 4.5, ACK)), 0.5),  # s 0 and 3 of 0, 1, 2, 3
        ((("a", 1.0, 1.1, REJ), ("a", 4.9, 5.2, ACK)), 0.2),  # it waits between its attempts, too
        ((("a", 1.0, 11.0, REJ),), 0),
        ((("a", 1.0, 1.9, REJ),), None),  # no whole second
        ((("a", 1.0, 9e14, ACK),), 0),  # and it is told at once
    ],
)
def test_the_share_of_the_seconds_with_an_acknowledgement(told: tuple[Send, ...], share: float | None) -> None:
    found = availability(sends(*told))
    assert found == (share if share is None else pytest.approx(share, abs=1e-4))


def test_latency_is_that_of_the_acknowledged_attempts() -> None:
    entries = sends(*((f"m{n}", float(n), n + n / 100, ACK) for n in range(1, 101)), ("slow", 1.0, 99.0, REJ))
    found = judge([Entry("begin", 0, 0, {"scenario": "s", "queue": "q", "backup_count": 1}), *entries])
    assert (found.acknowledgement_p50_s, found.acknowledgement_p99_s) == (0.5, 0.99)
