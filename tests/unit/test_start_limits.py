"""How long a start may take, by what it has to restore."""

from __future__ import annotations

import dataclasses

import pytest
from support.snapshots import SYSTEM, TOPIC, figures

from microq.supervisor.readiness import crowding, with_restoring


def test_a_start_may_take_longer_where_more_is_restored() -> None:
    empty = dataclasses.replace(SYSTEM, members=())
    assert with_restoring(40, empty) == 40
    large = dataclasses.replace(figures("hazelcast-5702"), log_entries=1_000_000)
    held = dataclasses.replace(SYSTEM, members=(large, large))
    # Two million took 24 s; a loaded machine is slower.
    assert with_restoring(40, held) == 140
    waiting = sum(broker.items or 0 for broker in TOPIC.brokers)
    assert with_restoring(20, dataclasses.replace(TOPIC, members=())) == 20 + waiting / 20_000


@pytest.mark.parametrize(
    ("load", "processors", "times"), [(0.0, 2, 1.0), (2.0, 2, 1.0), (6.0, 2, 3.0), (6.0, 8, 1.0), (40.0, 2, 4.0)]
)
def test_a_start_may_take_longer_on_a_loaded_machine(load: float, processors: int, times: float) -> None:
    assert crowding(load, processors) == times
