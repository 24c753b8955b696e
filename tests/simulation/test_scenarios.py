"""Schedules that a random one rarely is: each showed a hole of the protocol once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.cluster import Call
from simulation.loop import Process
from simulation.mutations import Unfenced
from simulation.run import Run, quiet
from simulation.system import Layout, Parts, Service

PAUSE_SECONDS = 14.0
"""Longer than an owner waits for a takeover that shows no sign of life, and for its last calls."""


class PausedTakeover(Run):
    """A messages-service that takes over is paused after it read the claims, and before it sends the first swap.

    Meanwhile the owner is started again and takes its lease back.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(1, parts, None, frozenset(), 400)
        self.faults.rates.clear()
        self._heal_at = 30.0
        self.members.pauses_before = self._pauses_before
        self.members.hit = self._pause
        self.paused = False

    def _draw_layout(self) -> Layout:
        return replace(super()._draw_layout(), facades=1, consumers=2, take_over_after=2, max_deliveries=50)

    def _schedule(self) -> None:
        owner = self.system.consumers[0]
        for service in self.system.services:
            self.loop.in_world(0.0, service.start)
        for number in range(8):
            self.loop.in_world(1.0 + number / 4, self._send, self.system.facades[0], f"m{number}")
        self.loop.in_world(5.0, self._crash, owner)
        self.loop.in_world(9.0, owner.start)
        self.loop.in_world(self._heal_at, self._heal)
        self.loop.in_world(0.0, self._look)

    @staticmethod
    def _crash(service: Service) -> None:
        assert service.process
        service.process.crash()

    def _pauses_before(self, call: Call) -> bool:
        return call.what.startswith("stored.replace_if_same") and (call.process.paused or not self.paused)

    def _pause(self, process: Process, _kind: str) -> float:
        if not self.paused:
            self.paused = True
            process.pause()
            self.loop.in_world(PAUSE_SECONDS, self._resume, process)
        return PAUSE_SECONDS


@pytest.mark.parametrize(("parts", "failure"), [(Parts(), ""), (Parts(claims=Unfenced), "is shown twice")])
def test_takeover_paused_before_swaps_shows_nothing_twice(parts: Parts, failure: str) -> None:
    with quiet():
        run = PausedTakeover(parts)
        result = run.run()
    assert run.paused
    assert failure in result.failure if failure else not result.failure, result
