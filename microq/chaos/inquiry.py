"""Ask every layer what it knows of the messages of a run, and note it; a layer that cannot say is no error."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from microq import log
from microq.chaos.history import History
from microq.chaos.traffic import Traffic
from microq.errors import MicroqError
from microq.fleet import Role

MOST_ASKED = 500
"""So many missing messages are asked for one by one."""

_TOOK = re.compile(r"took (\[.*\])")
"""The text of a line in which a messages-service says what it took from the queue, before it stores it."""


class Inquiry:
    """What the layers say; `before` is asked when the run begins, so that what was there is not of this run."""

    def __init__(self, traffic: Traffic, history: History) -> None:
        self._traffic, self._history = traffic, history
        self._dead: set[str] = set()

    async def before(self) -> None:
        """Take note of the dead letters that are there already."""
        self._dead = set(await self._ids("/dead"))

    async def after(self, folder: Path, missing: Sequence[str]) -> None:
        """Note what was redelivered, what is dead, and what each layer knows of the missing messages."""
        self._history.note("redelivered", ids=sorted(set(await self._ids("/redelivered"))))
        self._history.note("dead", ids=sorted(set(await self._ids("/dead")) - self._dead))
        for message_id in missing[:MOST_ASKED]:
            state = await self._ask(f"/facade/{quote(message_id, safe='')}")
            if isinstance(state, dict) and isinstance(state.get("state"), str):
                self._history.note("state", id=message_id, state=state["state"], by=state.get("by", ""))
        if missing:
            for instance, ids, lines in await asyncio.to_thread(_taken, folder / "logs", set(missing)):
                self._history.note("took", instance=instance, ids=ids, lines=lines)

    async def _ids(self, path: str) -> list[str]:
        listed = await self._ask(path)
        entries = listed if isinstance(listed, list) else []
        return [entry["uuid"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("uuid"), str)]

    async def _ask(self, path: str) -> Any:
        try:
            return await self._traffic.ask(path)
        except MicroqError:
            return None


def _taken(logs: Path, wanted: Collection[str]) -> list[tuple[str, list[str], int]]:
    """Return for each messages-service which of these it took, and in how many lines it says what it took."""
    found = []
    for file in sorted(logs.glob(f"{Role.MESSAGES}-*.log")):
        batches = list(_batches(file))
        found.append((file.stem, sorted({i for ids in batches for i in ids if i in wanted}), len(batches)))
    return found


def _batches(file: Path) -> Iterator[list[str]]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            parsed = log.parse(line)
            if said := parsed and _TOOK.fullmatch(parsed.text):
                try:
                    ids = json.loads(said[1])
                except ValueError:
                    continue  # cut short by the end of its process
                yield [i for i in ids if isinstance(i, str)]
