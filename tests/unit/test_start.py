"""What a start warns of: how the servers differ from their configuration, as all of them report it."""

from __future__ import annotations

from dataclasses import replace

from support.operators import FakeOperator
from support.snapshots import FINE

from microq.fleet import Snapshot
from microq.workflows.system import differences

DIFFERING = replace(FINE, members=tuple(replace(each, differs=("heap 1m, not 2m",)) for each in FINE.members))
BUSY = replace(DIFFERING, members=DIFFERING.members[1:])
"""One member does not answer."""


class BusyAtFirst(FakeOperator):
    """In its first snapshots one member does not answer."""

    async def snapshot(self) -> Snapshot:
        self.view = BUSY if self.looks < 2 else DIFFERING
        return await super().snapshot()


async def test_a_server_busy_for_a_moment_is_warned_of_too() -> None:
    assert len(await differences(BusyAtFirst())) == 3


async def test_a_server_that_stays_silent_delays_no_other_warning() -> None:
    operator = FakeOperator()
    operator.view = BUSY
    assert len(await differences(operator, seconds=0.2)) == 2
