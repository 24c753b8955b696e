"""The nodes of a run: how each is started, and what they say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from support.memory_backend.client import Connection

from microq.backends.base import Answers, Reserve, Seat
from microq.backends.jars import Engine
from microq.config import Config
from microq.figures import BrokerFigures

VERSION = "1"

READY_LINE = "has joined as"

NODE = Path(__file__).with_name("node.py")

ANSWER_SECONDS = 1.0
"""How long a node may take to say how it is."""


class RunningNodes:
    """The nodes that a run starts; none if they run elsewhere."""

    def __init__(self, config: Config, seats: Sequence[Seat], reserve: Reserve) -> None:
        self._config = config
        self._seats = {seat.name: seat for seat in seats}
        self._inner = reserve(len(seats))

    def argv(self, name: str, *, alone: bool) -> list[str]:  # noqa: ARG002 - nodes know each other from the start
        """Return a node's command line; see `Servers.argv`."""
        seats, queue = [*self._seats.values()], self._config.queue
        rank = [*self._seats].index(name)
        door = seats[rank].hidden or seats[rank].address
        facts = {
            "name": name,
            "rank": rank,
            "nodes": [
                (str(seat.address), (seat.address.host, inner)) for seat, inner in zip(seats, self._inner, strict=True)
            ],
            "door": (door.host, door.port),
            "backups": queue.backup_count,
            "most": queue.max_size,
        }
        return [sys.executable, "-I", str(NODE), json.dumps(facts)]

    async def ask(self, session: aiohttp.ClientSession, up: Sequence[str]) -> Answers:  # noqa: ARG002 - it asks otherwise
        """Ask the nodes that are up; see `Servers.ask`."""
        said = await asyncio.gather(*(self._ask(self._seats[name]) for name in up))
        return Answers(tuple(self._figures(name, each) for name, each in zip(up, said, strict=True) if each))

    async def _ask(self, seat: Seat) -> Mapping[str, Any] | None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                connection = await Connection.to(seat.hidden or seat.address)
                try:
                    return await connection.ask("figures")
                finally:
                    await connection.close()
        return None

    def _figures(self, name: str, said: Mapping[str, Any]) -> BrokerFigures:
        mine = said["state"] == "primary"
        return BrokerFigures(
            name=name,
            taken_at=time.time(),
            items=said["size"] if mine else 0,
            backups=0 if mine else said["size"],
            cluster_safe=said["state"] != "new" and said["whole"],
            members_seen=said["seen"],
            backup_count=self._config.queue.backup_count,
        )

    def remove_data(self) -> None:
        """Do nothing: nodes store nothing on disk."""


@asynccontextmanager
async def open_servers(
    config: Config,
    folder: Path,
    engine: Engine | None,
    seats: Sequence[Seat],
    reserve: Reserve,
) -> AsyncIterator[RunningNodes]:
    """Yield the nodes of a run; see `Backend.open_servers`."""
    yield RunningNodes(config, seats, reserve)
