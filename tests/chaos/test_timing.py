"""How long nothing was delivered: from the fault on, until the last storing."""

from __future__ import annotations

from typing import Any

import pytest

from microq.chaos.history import Entry, Kind
from microq.chaos.timing import longest_silence


def at(kind: Kind, wall: float, **facts: Any) -> Entry:
    return Entry(kind, wall, wall - 100, facts)


def shown(*walls: float) -> list[Entry]:
    """What is read at the end: messages that were stored at these times."""
    return [at("shown", 200, id=f"m{wall}", at=wall) for wall in walls]


FAULT = at("fault", 110)


@pytest.mark.parametrize(
    ("walls", "silence"),
    [
        ((111.0, 115.5, 116.0), 4.5),
        ((113.0, 113.5), 3),
        ((101.0, 108.0, 110.5), 0.5),
        ((116.0, 111.0), 5),
        ((101.0,), None),
        ((), None),
    ],
)
def test_it_is_counted_from_the_fault_on(walls: tuple[float, ...], silence: float | None) -> None:
    assert longest_silence([FAULT, *shown(*walls)], ()) == silence


def test_what_was_there_before_is_left_out() -> None:
    assert longest_silence([FAULT, *shown(112, 120)], {"m112"}) == 10


def test_without_a_fault_there_is_none() -> None:
    assert longest_silence(shown(112, 120), ()) is None
