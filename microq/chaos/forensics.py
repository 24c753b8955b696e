"""Forensics: note in the history what each layer knows about messages; a layer that does not answer is not an error."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from microq.chaos.history import History, Kind
from microq.chaos.workload import RecordingClient
from microq.errors import MicroqError
from microq.fleet import Role
from microq.log import Acknowledged, Indeterminate, Took, parse, read_event

MOST_ASKED = 500
"""The largest number of missing messages whose states are requested one by one."""


class FacadeLog:
    """The messages that the facade has accepted since the run began, from its log files; `known`: there are files."""

    def __init__(self) -> None:
        self._folder = Path()
        self._read_until: dict[Path, int] = {}
        self._taken: set[str] = set()

    @property
    def known(self) -> bool:
        """Whether the facade has a readable log."""
        return bool(self._read_until)

    async def begin(self, folder: Path) -> None:
        """Skip what it has accepted until now; `folder` has the logs."""
        self._folder = folder / "logs"
        self._read_until = {file: file.stat().st_size for file in self._files()}

    async def look(self) -> set[str]:
        """Return the ids of messages that it accepted, or may have accepted, since the run began."""
        for file in self._files():
            self._taken |= await asyncio.to_thread(self._new, file)
        return self._taken

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"{Role.FACADE}-*.log"))

    def _new(self, file: Path) -> set[str]:
        """Return the ids in complete lines that were written since the last call."""
        with file.open("rb") as log_file:
            log_file.seek(self._read_until.get(file, 0))
            whole, newline, _ = log_file.read().rpartition(b"\n")
        self._read_until[file] = self._read_until.get(file, 0) + len(whole + newline)
        parsed = map(parse, whole.decode(errors="replace").split("\n"))
        return {event.id for line in parsed if line and (event := _accepted(line.text))}


def _accepted(text: str) -> Acknowledged | Indeterminate | None:
    """Return the event of a line if the facade accepted or may have accepted a message."""
    return read_event(Acknowledged, text) or read_event(Indeterminate, text)


class Forensics:
    """Notes what the layers know: `before` the run, to tell earlier messages apart, and `after` it."""

    def __init__(self, traffic: RecordingClient, history: History) -> None:
        self._traffic, self._history = traffic, history
        self._dead: set[str] | None = None

    async def before(self) -> None:
        """Note the dead letters that exist already."""
        ids = await self._ids("/dead")
        self._dead = None if ids is None else set(ids)

    async def after(self, folder: Path, missing: Sequence[str]) -> None:
        """Note redelivered messages, dead letters, and what each layer knows about the missing messages."""
        self._note("redelivered", await self._ids("/redelivered"))
        dead = await self._ids("/dead")
        new = None if dead is None or self._dead is None else [i for i in dead if i not in self._dead]
        self._note("dead", new)
        for message_id in missing[:MOST_ASKED]:
            state = await self._ask(f"/facade/{quote(message_id, safe='')}")
            if isinstance(state, dict) and isinstance(state.get("state"), str):
                self._history.note("state", id=message_id, state=state["state"], by=state.get("by", ""))
        if missing:
            for instance, ids, lines in await asyncio.to_thread(_taken, folder / "logs", set(missing)):
                self._history.note("took", instance=instance, ids=ids, lines=lines)

    def _note(self, kind: Kind, ids: list[str] | None) -> None:
        self._history.note(kind, ids=sorted(set(ids or ())), known=ids is not None)

    async def _ids(self, path: str) -> list[str] | None:
        """Return the ids that the facade lists; None if it does not answer."""
        listed = await self._ask(path)
        if not isinstance(listed, list):
            return None
        return [entry["uuid"] for entry in listed if isinstance(entry, dict) and isinstance(entry.get("uuid"), str)]

    async def _ask(self, path: str) -> Any:
        try:
            return await self._traffic.ask(path)
        except MicroqError:
            return None


def _taken(logs: Path, wanted: Collection[str]) -> list[tuple[str, list[str], int]]:
    """Return for each messages-service which of these ids it took, and how many such lines its log has."""
    found = []
    for file in sorted(logs.glob(f"{Role.MESSAGES}-*.log")):
        batches = list(_batches(file))
        found.append((file.stem, sorted({i for ids in batches for i in ids if i in wanted}), len(batches)))
    return found


def _batches(file: Path) -> Iterator[list[str]]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            parsed = parse(line)
            took = read_event(Took, parsed.text) if parsed else None
            # A line that was cut off when its process ended has no ids.
            if took and (ids := took.messages) is not None:
                yield ids
