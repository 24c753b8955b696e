"""A finished run for the page: read once from the run's folder, read-only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from microq import timeline
from microq.caveats import caveats
from microq.chaos import history
from microq.chaos.checker import judge
from microq.dashboard.state import Memory, Pace, Point, Story, thinned
from microq.errors import UsageError
from microq.fleet import Event, Snapshot, Topic
from microq.timeline import Frame

MOST_FRAMES = 1200
"""The largest number of frames for the page; of a longer run some are left out."""

MARGIN_SECONDS = 5.0
"""Seconds of the system's timeline that are shown before and after a scenario that used it."""


class Replay:
    """A finished run: its frames, points and events. Made by `load`."""

    def __init__(self, folder: Path, frames: Sequence[Frame], events: Sequence[Event]) -> None:
        self.folder = folder
        """The folder with the logs of the system."""
        memory, pace, self._story = Memory(), Pace(), Story()
        self._frames: list[dict[str, Any]] = []
        points: list[Point] = []
        for frame in frames:
            snapshot = frame.snapshot
            points.append(pace.point(snapshot))
            self._frames.append({**memory.complete(snapshot), "cues": caveats(snapshot, memory.last)})
        self._points = thinned(points)
        self._events = [self._story.hear(event) for event in events]
        self.snapshot: Snapshot | None = frames[-1].snapshot if frames else None

    def state(self) -> dict[str, Any]:
        """Return the state with which the page begins: the end of the run."""
        frame = self._frames[-1] if self._frames else None
        return {
            "mode": "replay",
            "frame": frame,
            "points": self._points,
            "events": list(self._story.events),
            "cues": frame["cues"] if frame else [],
            "scenario": self._story.scenario(),
            "now": frame["taken_at"] if frame else 0.0,
        }

    def frames(self) -> dict[str, Any]:
        """Return all frames for the slider."""
        step = -(-len(self._frames) // MOST_FRAMES) or 1
        return {"frames": self._frames[::step], "points": self._points, "events": self._events}


def load(folder: Path) -> Replay:
    """Read a finished run; a scenario that used a running system is shown with the timeline of that system.

    Raises `UsageError` if the folder has no run that can be shown.
    """
    announced = list(_announced(folder))
    used = next((Path(event.facts["folder"]) for event in announced if event.facts.get("folder")), folder)
    moments = list(timeline.read(used))
    if used.resolve() != folder.resolve() and announced:
        begin, end = announced[0].at - MARGIN_SECONDS, announced[-1].at + MARGIN_SECONDS
        moments = [moment for moment in moments if begin <= moment.at <= end]
    frames = [moment for moment in moments if isinstance(moment, Frame)]
    events = [moment for moment in moments if isinstance(moment, Event)]
    if announced and not any(event.topic is Topic.SCENARIO for event in events):
        events = sorted([*events, *announced], key=lambda event: event.at)
    if not frames:
        raise UsageError(f"{folder} has no timeline to show; `microq report {folder}` shows what its history has")
    return Replay(used, frames, events)


def _announced(folder: Path) -> Iterator[Event]:
    """Yield the events of a scenario, and its verdict, from the history in its folder."""
    path = folder / history.FILE
    if not path.exists():
        return
    entries = history.read(path)
    for entry in entries:
        if entry.kind in history.PUBLISHED:
            yield Event(entry.wall, folder.name, entry.kind, topic=Topic.SCENARIO, facts=entry.facts)
    if entries[-1].kind == "end":
        facts = json.loads(json.dumps(dataclasses.asdict(judge(entries))))
        yield Event(
            entries[-1].wall, folder.name, "verdict", topic=Topic.SCENARIO, facts={**facts, "history": str(path)}
        )
