"""What somebody who goes on looking at a system has seen of it: rates, the last figures of each server, events."""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from collections.abc import Iterable

from microq.cues import cues
from microq.figures import Figures
from microq.fleet import Event, ProcessState, ProcessView, Role, Snapshot, Topic
from microq.latency import between, quantile

SPAN = 0.9
"""Seconds that a rate is measured over at least: events wake a watcher for looks that are closer together."""

REMEMBERED = 60
"""Events that are kept."""


class Sight:
    """A system under watch: `now` is the last look at it, with what events told since."""

    def __init__(self, first: Snapshot) -> None:
        self.now = first
        self.last: dict[str, Figures] = {}
        self.events: deque[Event] = deque(maxlen=REMEMBERED)
        self.lost_at: float | None = None
        """Since when nobody answers who could tell more."""
        self._looks: deque[Snapshot] = deque()
        self._told: set[str] = set()
        self.look(first)

    def look(self, view: Snapshot) -> None:
        """Take in a new look."""
        self.now, self.lost_at = view, None
        self.last |= {figures.name: figures for figures in view.figures}
        self._looks.append(view)
        # The first one that stays is the youngest that is old enough.
        while len(self._looks) > 1 and view.taken_at - self._looks[1].taken_at >= SPAN:
            self._looks.popleft()

    def hear(self, event: Event) -> None:
        """Take in an event; a new state of a process is seen at once."""
        self.events.append(event)
        if event.topic is Topic.PROCESS:
            changed = [
                dataclasses.replace(process, state=ProcessState(event.kind)) if process.name == event.name else process
                for process in self.now.processes
            ]
            self.now = dataclasses.replace(self.now, processes=tuple(changed))

    @property
    def cues(self) -> list[str]:
        """What whoever looks has to know."""
        return cues(self.now, self.last)

    def new_cues(self) -> list[str]:
        """Return the cues that were not among those of the last call, be it with other numbers."""
        found = {re.sub(r"[\d,]+ s ago|[\d,]+ s old", "", cue): cue for cue in self.cues}
        fresh = [cue for key, cue in found.items() if key not in self._told]
        self._told = set(found)
        return fresh

    def lose(self, at: float) -> None:
        """Note that nobody answers any more."""
        self.lost_at = self.lost_at or at

    def rate(self, what: str, processes: Iterable[ProcessView] | None = None) -> float | None:
        """Return what some processes, or all, counted a second of late; None as long as that is not known."""
        seconds = self.now.taken_at - self._looks[0].taken_at
        if seconds < SPAN:
            return None
        before = {process.name: process.counters.get(what, 0) for process in self._looks[0].processes}
        total = 0
        for process in self.now.processes if processes is None else processes:
            (more,) = between([before.get(process.name, 0)], [process.counters.get(what, 0)])
            total += more if process.counters else 0
        return total / seconds

    def took(self, share: float) -> float | None:
        """Return in seconds what this share of the late acknowledgements did not exceed; None if there were none."""
        facades = {process.name: process.latency for process in self._looks[0].having(Role.FACADE)}
        counts = [between(facades.get(p.name, ()), p.latency) for p in self.now.having(Role.FACADE) if p.latency]
        if self.now.taken_at - self._looks[0].taken_at < SPAN or not counts:
            return None
        return quantile([sum(column) for column in zip(*counts, strict=True)], share)
