"""A finished run as the page shows it: read once from the run's folder, never changed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from microq import timeline
from microq.chaos import history
from microq.chaos.herald import TOLD
from microq.chaos.judge import judge
from microq.cues import cues
from microq.dashboard.frames import Memory
from microq.dashboard.points import Pace, Point, thinned
from microq.dashboard.story import Story
from microq.errors import UsageError
from microq.fleet import Event, Snapshot, Topic
from microq.timeline import Frame

MOST_FRAMES = 1200
"""Frames that the page gets; of a longer run those in between are left out."""

MARGIN_SECONDS = 5.0
"""What is shown of the system before and after a scenario that used it."""


class Recording:
    """A finished run: its frames, points and events. Made by `load`."""

    def __init__(self, folder: Path, frames: Sequence[Frame], events: Sequence[Event]) -> None:
        self.folder = folder
        """Where the logs of the system are."""
        memory, pace, self._story = Memory(), Pace(), Story()
        self._frames: list[dict[str, Any]] = []
        points: list[Point] = []
        for frame in frames:
            snapshot = frame.snapshot
            points.append(pace.point(snapshot))
            self._frames.append({**memory.dress(snapshot), "cues": cues(snapshot, memory.last)})
        self._points = thinned(points)
        self._events = [self._story.hear(event) for event in events]
        self.snapshot: Snapshot | None = frames[-1].snapshot if frames else None

    def state(self) -> dict[str, Any]:
        """Return what the page begins with: the end of the run."""
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
        """Return everything that the slider moves over."""
        step = -(-len(self._frames) // MOST_FRAMES) or 1
        return {"frames": self._frames[::step], "points": self._points, "events": self._events}


def load(folder: Path) -> Recording:
    """Read a finished run; a scenario that used a running system is shown with what that one recorded meanwhile.

    Raises `UsageError` if the folder has no run that can be shown.
    """
    told = list(_told(folder))
    used = next((Path(event.facts["folder"]) for event in told if event.facts.get("folder")), folder)
    moments = list(timeline.read(used))
    if used.resolve() != folder.resolve() and told:
        begin, end = told[0].at - MARGIN_SECONDS, told[-1].at + MARGIN_SECONDS
        moments = [moment for moment in moments if begin <= moment.at <= end]
    frames = [moment for moment in moments if isinstance(moment, Frame)]
    events = [moment for moment in moments if isinstance(moment, Event)]
    if told and not any(event.topic is Topic.SCENARIO for event in events):
        events = sorted([*events, *told], key=lambda event: event.at)
    if not frames:
        raise UsageError(f"{folder} has no timeline to show; `microq report {folder}` shows what its history has")
    return Recording(used, frames, events)


def _told(folder: Path) -> Iterator[Event]:
    """Yield what the herald of a scenario told, and its verdict, from the history in its folder."""
    path = folder / history.FILE
    if not path.exists():
        return
    entries = history.read(path)
    for entry in entries:
        if entry.kind in TOLD:
            yield Event(entry.wall, folder.name, entry.kind, topic=Topic.SCENARIO, facts=entry.facts)
    if entries[-1].kind == "end":
        facts = json.loads(json.dumps(dataclasses.asdict(judge(entries))))
        yield Event(
            entries[-1].wall, folder.name, "verdict", topic=Topic.SCENARIO, facts={**facts, "history": str(path)}
        )
