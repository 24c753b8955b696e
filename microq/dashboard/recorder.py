"""The recorder: it looks at a running system again and again, writes the timeline of the run, and tells who watches."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from microq import timeline
from microq.cues import cues
from microq.dashboard.frames import Memory
from microq.dashboard.points import Pace, Point, thinned
from microq.dashboard.story import Story
from microq.dashboard.watching import Watchers
from microq.fleet import Operator, ProcessState, Snapshot, Topic
from microq.tasks import task_group

WATCHED_SECONDS = 1.0
"""Time between two looks while somebody watches, or a scenario runs."""

IDLE_SECONDS = 10.0
"""Time between two looks else: looking takes of the system's processors."""

LEAST_SECONDS = 0.25
"""Least time between two looks: what happens makes the next one come at once."""

SAME_SECONDS = 60.0
"""How often the timeline says that nothing changed."""

MOST_POINTS = 20_000
"""Points that are kept: of more than five hours that somebody watched."""


class Recorder:
    """What is known of a running system, for the page, and the one who looks at it. Made by `recording`.

    `folder` is that of the run; `least` is the least time between two looks, in seconds.
    """

    def __init__(self, operator: Operator, folder: Path, file: timeline.Writer, least: float) -> None:
        self._operator, self.folder, self._file, self._least = operator, folder, file, least
        self._memory, self._pace = Memory(), Pace()
        self._wake, self._looking = asyncio.Event(), asyncio.Lock()
        self._starting: set[str] = set()
        self._written: tuple[float, Any] = (0.0, None)
        self._points: deque[Point] = deque(maxlen=MOST_POINTS)
        self._seen: dict[str, Any] = {"frame": None, "cues": []}
        self.snapshot: Snapshot | None = None
        self.story = Story()
        self.watchers = Watchers(arrived=self._wake.set)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._wake.clear()
            if self._wanted() or not self._starting:
                await self._look()
            await asyncio.sleep(self._least)
            pause = WATCHED_SECONDS if self._wanted() else IDLE_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(pause - self._least):
                    await self._wake.wait()

    def _wanted(self) -> bool:
        return bool(len(self.watchers)) or self.story.under_way

    async def refresh(self) -> Snapshot:
        """Return what is known, looking again if that is older than it is while somebody watches."""
        if self.snapshot is None or time.time() - self.snapshot.taken_at > WATCHED_SECONDS:
            return await self._look()
        return self.snapshot

    async def listen(self) -> None:
        """Listen until the operator's events end, or cancelled."""
        async for event in self._operator.events():
            self._file.tell(event)
            self.watchers.tell("event", self.story.hear(event))
            if event.topic is Topic.PROCESS:
                (self._starting.add if event.kind == ProcessState.STARTING else self._starting.discard)(event.name)
            self._wake.set()

    async def _look(self) -> Snapshot:
        asked = time.time()
        async with self._looking:
            if self.snapshot is None or self.snapshot.taken_at < asked:  # else somebody has just looked
                self.snapshot = await self._operator.snapshot()
                self._tell(self.snapshot)
            return self.snapshot

    def _tell(self, snapshot: Snapshot) -> None:
        point = self._pace.point(snapshot)
        self._points.append(point)
        self._seen = {"frame": self._memory.dress(snapshot), "cues": cues(snapshot, self._memory.last)}
        self.watchers.tell("frame", {**self._seen, "point": point})
        self._write(snapshot)

    def _write(self, snapshot: Snapshot) -> None:
        """Write what changed: a system that is left alone fills no disk."""
        at, before = self._written
        shown = _shown(snapshot)
        if shown != before or snapshot.taken_at - at >= SAME_SECONDS:
            self._file.look(snapshot)
            self._written = (snapshot.taken_at, shown)

    def state(self) -> dict[str, Any]:
        """Return what the page begins with."""
        return {
            **self._seen,
            "mode": "live",
            "points": thinned(self._points),
            "events": list(self.story.events),
            "scenario": self.story.scenario(),
            "now": time.time(),
        }


@asynccontextmanager
async def recording(operator: Operator, folder: Path, least: float = LEAST_SECONDS) -> AsyncIterator[Recorder]:
    """Yield a recorder that looks and listens, and writes into the folder of the run, until the body is through."""
    file = timeline.Writer(folder)
    recorder = Recorder(operator, folder, file, least)
    try:
        async with task_group() as tasks:
            at_work = [tasks.create_task(recorder.listen()), tasks.create_task(recorder.run())]
            try:
                yield recorder
            finally:
                for task in at_work:
                    task.cancel()
    finally:
        recorder.watchers.end()
        file.close()


def _shown(snapshot: Snapshot) -> Any:
    """Return what of a snapshot tells that something changed; times, memory and processor time always do."""
    processes = tuple((p.name, p.state, p.pid, p.held, tuple(p.counters.items())) for p in snapshot.processes)
    servers = tuple((s.name, s.items, s.backups, s.cluster_safe, s.members_seen) for s in snapshot.servers)
    return processes, servers, snapshot.queue, snapshot.partitions
