"""The recorder: takes snapshots of a running system, writes the timeline of the run, and informs the open pages."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from microq import timeline
from microq.aio import Broadcast, task_group
from microq.caveats import caveats
from microq.dashboard.state import Memory, Pace, Point, Story, thinned
from microq.fleet import Operator, ProcessState, Snapshot, Topic

ServerSent = tuple[str, Any]
"""One server-sent event: its name and its data."""

WAITING = 200
"""Events that may wait for one page; if more wait, its stream ends, and it connects again."""

WATCHED_SECONDS = 1.0
"""Seconds between two snapshots while a page is open or a scenario runs."""

IDLE_SECONDS = 10.0
"""Seconds between two snapshots otherwise: a snapshot uses the same processors as the system."""

LEAST_SECONDS = 0.25
"""Minimum seconds between two snapshots: an event causes the next one at once."""

SAME_SECONDS = 60.0
"""Seconds after which a snapshot is written to the timeline even if nothing changed."""

MOST_POINTS = 20_000
"""The number of points that are kept: more than five hours with an open page."""


class Recorder:
    """Takes the snapshots of a running system, and has its state for the page. `recording` makes it.

    `folder` is that of the run; `least` is the minimum time between two snapshots, in seconds.
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
        self.watchers = Broadcast[ServerSent](WAITING, joined=self._wake.set)

    async def run(self) -> None:
        """Take snapshots until cancelled."""
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
        return bool(len(self.watchers)) or self.story.running

    async def refresh(self) -> Snapshot:
        """Return the last snapshot, or a new one if it is older than `WATCHED_SECONDS`."""
        if self.snapshot is None or time.time() - self.snapshot.taken_at > WATCHED_SECONDS:
            return await self._look()
        return self.snapshot

    async def listen(self) -> None:
        """Take the operator's events until they end, or until cancelled."""
        async for event in self._operator.events():
            self._file.tell(event)
            self.watchers.send(("event", self.story.hear(event)))
            if event.topic is Topic.PROCESS:
                (self._starting.add if event.kind == ProcessState.STARTING else self._starting.discard)(event.name)
            self._wake.set()

    async def _look(self) -> Snapshot:
        asked = time.time()
        async with self._looking:
            if self.snapshot is None or self.snapshot.taken_at < asked:  # else another task has just taken one
                self.snapshot = await self._operator.snapshot()
                self._tell(self.snapshot)
            return self.snapshot

    def _tell(self, snapshot: Snapshot) -> None:
        point = self._pace.point(snapshot)
        self._points.append(point)
        self._seen = {"frame": self._memory.complete(snapshot), "cues": caveats(snapshot, self._memory.last)}
        self.watchers.send(("frame", {**self._seen, "point": point}))
        self._write(snapshot)

    def _write(self, snapshot: Snapshot) -> None:
        """Write a snapshot if it changed: an idle system does not fill the disk."""
        at, before = self._written
        shown = _shown(snapshot)
        if shown != before or snapshot.taken_at - at >= SAME_SECONDS:
            self._file.look(snapshot)
            self._written = (snapshot.taken_at, shown)

    def state(self) -> dict[str, Any]:
        """Return the state with which a page begins."""
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
    """Yield a recorder that runs until the body ends; it writes into the folder of the run."""
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
    """Return the parts of a snapshot that show a change; times, memory and processor time always differ."""
    processes = tuple((p.name, p.state, p.pid, p.held, tuple(p.counters.items())) for p in snapshot.processes)
    servers = tuple((s.name, s.items, s.backups, s.cluster_safe, s.members_seen) for s in snapshot.servers)
    return processes, servers, snapshot.queue, snapshot.partitions
