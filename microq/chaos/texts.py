"""The traffic and the readings of external services: messages are counted by their texts.

External services tell no ids, so a message's id in the history is its text, which no other message of any run has. A
text is sent once: a second send of the same text could not be told from a duplicate.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp

from microq.chaos.forensics import Forensics
from microq.chaos.history import History
from microq.chaos.readings import EARLIER, PAUSE, Item, Reading, Readings
from microq.chaos.timeouts import Timeouts
from microq.chaos.workload import RecordingClient
from microq.config import Address, Config
from microq.errors import NotRunningError
from microq.exchange import Exchanges, letters_of_a_run, mentioned
from microq.fleet import Operator, Role
from microq.message import Receipt, text_hash
from microq.store import open_store
from microq.wire import spotted


class TextClient(RecordingClient):
    """A client of the facade over the configured wire; each send has a text of its own, which is its id."""

    def __init__(
        self, session: aiohttp.ClientSession, config: Config, history: History, timeouts: Timeouts | None = None
    ) -> None:
        super().__init__(session, config, history, timeouts)
        self.exchanges = Exchanges(session, config)
        self._address = config.service_ips.facade_service
        self._run = letters_of_a_run()
        self._sends: Counter[str] = Counter()

    async def reach(self) -> None:
        """Raise `NotRunningError` if the facade does not answer."""
        if await self.exchanges.alive() is None:
            raise NotRunningError(f"the facade does not answer at {self._address}; `microq wire` shows each call")

    async def clock(self) -> float | None:
        """Return the wall time in an answer of the facade, to the second; None if it has none."""
        headers = await self.exchanges.alive()
        try:
            return parsedate_to_datetime((headers or {})["Date"]).timestamp()
        except (LookupError, ValueError):
            return None

    async def ask(self, path: str) -> Any:
        """Raise `NotRunningError`: an external facade does not report on its messages."""
        raise NotRunningError(f"an external facade has no {path}")

    def _named(self, text: str, message_id: str) -> tuple[str, str]:  # noqa: ARG002 - another text, also for a retry
        self._sends[text] += 1
        again = f"-{self._sends[text]}" if self._sends[text] > 1 else ""
        unique = f"{text}{again}-{self._run}"
        return unique, unique

    async def _deliver(self, text: str, message_id: str) -> Receipt:  # noqa: ARG002 - it is the text
        receipt = (await self.exchanges.send(text)).receipt
        assert receipt is not None  # noqa: S101 - a send has one
        return receipt


class TextReadings(Readings):
    """Reads what every instance and the facade show, and finds the texts of this run in it."""

    def __init__(
        self, traffic: TextClient, session: aiohttp.ClientSession, config: Config, history: History, operator: Operator
    ) -> None:
        super().__init__(traffic, session, config, history, open_store)
        self._exchanges, self._operator, self._wire = traffic.exchanges, operator, config.wire
        self._queue_name = config.queue.name
        self._unseen: dict[str, str] = {}
        """Instance -> why it could not be read."""
        if not config.wire.logging:
            self.loggers = {}

    async def earlier(self, folder: Path) -> None:
        """Note nothing: texts of other runs are not those of this one."""

    async def foreign(self) -> set[str]:
        """Return no message: a text of another sender cannot be taken for one of this run."""
        return set()

    async def note_foreign(self) -> None:
        """Note that no message of other clients is among those of this run; and what could not be seen."""
        self._history.note("foreign", ids=[], known=True)
        if not self._wire.logging:
            self._history.note("doubt", reason="[wire] logging is empty: what was logged cannot be seen")
        for name, why in self._unseen.items():
            self._history.note("doubt", reason=f"{name}: {why}")

    # -- everything has arrived ----------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Wait until no more messages arrive, and note whether the queue is empty then, if its servers tell."""
        await super().drain()
        if await self._size() is None:
            why = f"no server reports how full the queue {self._queue_name!r} is: [queue] name must be its name"
            self._history.note("doubt", reason=why)

    async def _size(self) -> int | None:
        queue = (await self._operator.snapshot()).queue
        return queue.size if queue else None

    async def _counts(self) -> tuple[int | None, list[int]]:
        reading = await self._read(EARLIER)
        await asyncio.sleep(PAUSE)  # each look reads every instance
        # An unknown size is a doubt; here it must not prolong the wait.
        return await self._size() or 0, [len(reading.shown.get(name, ())) for name in self.consumers]

    async def settle(self) -> bool:
        """Read until two successive readings agree, for a while longer if a message is missing."""
        loop = asyncio.get_running_loop()
        calm, end = loop.time() + self._patience.loss, loop.time() + self._patience.agree
        before = self._last if self._last.number != EARLIER else await self._take()
        while True:
            await asyncio.sleep(PAUSE)
            now = await self._take()
            agreed = before.equals(now, ())
            if (agreed and (self._complete(now) or loop.time() >= calm)) or loop.time() >= end:
                break
            before = now
        self._history.note("agreed", readings=[before.number, now.number], agreed=agreed)
        return agreed

    def _complete(self, reading: Reading) -> bool:
        if self._wire.shared_log:
            return super()._complete(reading)
        listed = {name: reading.shown.get(name, []) for name in self.loggers}
        whole = [item for items in listed.values() for item in items]
        return super()._complete(Reading(reading.number, {**reading.shown, **dict.fromkeys(self.loggers, whole)}))

    async def _read_one(self, reading: Reading, name: str, _address: Address, _path: str) -> None:
        found = await self._exchanges.read(name)
        if found.texts is None:
            self._unseen[name] = found.problem
            return
        self._unseen.pop(name, None)
        texts = await asyncio.to_thread(spotted, found.texts, set(self._traffic.sent))
        reading.shown[name] = [Item(text, text_hash(text), None) for text in texts]

    # -- through the facade --------------------------------------------------------------------------------------------

    async def through_facade(self, most: int = 40) -> tuple[set[str], set[str]]:
        """GET the facade until it has shown what the instances show; return the texts of both combined sets."""
        sent = set(self._traffic.sent)
        wanted = {side: self._shown(role) for side, role in (("logs", Role.LOGGING), ("messages", Role.MESSAGES))}
        got: dict[str, set[str]] = {"logs": set(), "messages": set()}
        unseen: Mapping[str, str] = {}
        for _ in range(most):
            found = await self._exchanges.read_facade()
            sides = {"logs": found.logs, "messages": found.messages}
            unseen = {side: found.problem for side, texts in sides.items() if texts is None}
            for side, texts in sides.items():
                got[side] |= set(spotted(texts or (), sent))
            if all(got[side] >= wanted[side] for side in got.keys() - unseen.keys()):
                break
        for why in dict.fromkeys(unseen.values()):
            self._history.note("doubt", reason=f"what the facade shows cannot be seen: {why}")
        logs, messages = sorted(got["logs"]), sorted(got["messages"])
        facts = {"met": True, "unseen": sorted(unseen), "reading": self._last.number}
        self._history.note("combined", logs=logs, messages=messages, **facts)
        return got["logs"], got["messages"]

    def _shown(self, role: Role) -> set[str]:
        names = self.loggers if role is Role.LOGGING else self.consumers
        return {item.id for name in names for item in self._last.shown.get(name, ())}


class TextForensics(Forensics):
    """Notes which consumer has named a missing text in its log. An external facade reports nothing."""

    async def before(self) -> None:
        """Do nothing."""

    async def after(self, folder: Path, missing: list[str]) -> None:  # type: ignore[override]  # a list is what it gets
        """Note the missing texts that each messages-service has logged."""
        known = set(self._traffic.sent)
        for file in sorted((folder / "logs").glob(f"{Role.MESSAGES}-*.log")) if missing else ():
            texts = await asyncio.to_thread(mentioned, file, known)
            ids = sorted(set(texts) & set(missing))
            self._history.note("took", instance=file.stem, ids=ids, lines=len(texts))
