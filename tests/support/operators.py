"""A small operator that stands where the supervisor would be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from support.snapshots import figures

from microq.errors import DeadlineError, UnknownNameError
from microq.figures import QueueView
from microq.fleet import Event, Operator, ProcessState, ProcessView, Role, Snapshot

SNAPSHOT = Snapshot(
    taken_at=2.5,
    folder="/srv/run",
    processes=(
        ProcessView("hazelcast-5701", Role.QUEUE, "127.0.0.1:5701", ProcessState.READY, pid=12, rss=99),
        ProcessView("messages-5001", Role.MESSAGES, "127.0.0.1:5001", ProcessState.EXITED, exit_status=-9),
    ),
    members=(figures("hazelcast-5701", items=7),),
    queue=QueueView("hazelcast", "messages-queue", 7, 100, 2, "hazelcast-5701"),
)
KNOWN = ["messages-5001", "messages-5002"]


class FakeOperator(Operator):
    """Notes what it is asked for; knows two names."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []
        self.told: asyncio.Queue[Event | None] = asyncio.Queue()
        self.view = SNAPSHOT
        self.looks = 0

    async def act(self, verb: str, names: Sequence[str]) -> list[str]:
        self.asked.append((verb, list(names)))
        for name in names:
            if name not in KNOWN:
                raise UnknownNameError(name, KNOWN)
        if verb == "kill":
            raise DeadlineError("it did not go")
        if verb == "restart":
            raise ZeroDivisionError
        return list(names)

    async def sabotage(self, role: str, defect: str) -> None:
        self.asked.append((role, [defect]))

    async def announce(self, event: Event) -> None:
        self.told.put_nowait(event)

    async def snapshot(self) -> Snapshot:
        self.looks += 1
        return self.view

    async def events(self) -> AsyncIterator[Event]:
        while event := await self.told.get():
            yield event
