"""Feed a system and read it back, with everything noted in a history."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import aiohttp

from microq.chaos.history import History
from microq.chaos.patience import Patience
from microq.client import FacadeClient, get_json, read_messages
from microq.config import Address, Config
from microq.errors import MicroqError
from microq.fleet import ProcessState, Role, Snapshot
from microq.message import Outcome, Receipt

CONCURRENCY = 16
"""Messages under way at the same time."""

LOOK = 0.05


class Traffic:
    """A client of the system under test, which notes what it sends and what it sees."""

    def __init__(
        self, session: aiohttp.ClientSession, config: Config, history: History, patience: Patience | None = None
    ) -> None:
        self._session, self._config, self._history = session, config, history
        self.patience = patience or Patience()
        self._facade = FacadeClient(session, config.service_ips.facade_service)
        self.acknowledged: dict[str, None] = {}
        """Ids in the order of their acknowledgement."""

    async def reach(self) -> None:
        """Raise `NotRunningError` if there is no facade to send to."""
        await self._facade.get("/healthz")

    async def ask(self, path: str) -> Any:
        """GET a path of the facade as JSON. Raises `NotRunningError` or `DeadlineError`."""
        return await self._facade.get(path)

    async def send(self, text: str, message_id: str = "") -> Receipt:
        """Send one message under an id made here, or once more under its own."""
        message_id = message_id or str(uuid.uuid4())
        self._history.note("send", id=message_id)
        receipt = await self._facade.send(text, message_id)
        self._history.note(
            "outcome",
            id=message_id,
            outcome=receipt.outcome.value,
            seconds=round(receipt.seconds, 6),
            logged_by=receipt.logged_by,
            reason=receipt.reason,
        )
        if receipt.outcome is Outcome.ACKNOWLEDGED:
            self.acknowledged[message_id] = None
        return receipt

    async def send_all(self, texts: Iterable[str]) -> list[Receipt]:
        """Send many, some at a time."""
        waiting = iter(texts)
        receipts: list[Receipt] = []

        async def work() -> None:
            for text in waiting:
                receipt = await self.send(text)
                receipts.append(receipt)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONCURRENCY):
                tasks.create_task(work())
        return receipts

    async def probe(self, text: str) -> bool:
        """Send one message after another until one is acknowledged; return whether that was in time."""
        try:
            async with asyncio.timeout(self.patience.probe):
                while (await self.send(text)).outcome is not Outcome.ACKNOWLEDGED:  # noqa: ASYNC110 - a retry
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            return False
        return True

    async def drain(self) -> None:
        """Wait until the queue is empty and nothing more arrives, and note whether that came to pass."""
        reason = ""
        try:
            async with asyncio.timeout(self.patience.drain):
                await self._drained()
        except TimeoutError:
            reason = f"the queue was not empty and quiet after {self.patience.drain:g} s"
        self._history.note("drained", complete=not reason, reason=reason)

    async def _drained(self) -> None:
        loop = asyncio.get_running_loop()
        last: list[int] = []
        since = loop.time()
        while True:
            size, held = await self._counts()
            if size != 0 or held != last:
                last, since = held, loop.time()
            quiet = loop.time() - since
            if quiet >= self.patience.loss or (quiet >= self.patience.quiet and await self._everything_is_there()):
                return
            await asyncio.sleep(LOOK)

    async def _counts(self) -> tuple[int | None, list[int]]:
        """Return the queue's size and how many messages each messages-service holds; None while unknown."""
        try:
            queue = await self._facade.get("/queue")
            consumers = [
                await get_json(self._session, address, "/healthz")
                for address in self._config.service_ips.messages_service
            ]
        except MicroqError:
            return None, []
        return queue["size"], [consumer["held"] for consumer in consumers]

    async def _everything_is_there(self) -> bool:
        """Return whether everything acknowledged is shown, once, and logged; after a split it takes a while."""
        ips = self._config.service_ips
        try:
            shown = [m.id for a in ips.messages_service for m in await read_messages(self._session, a, "/messages")]
            logged = {m.id for m in await read_messages(self._session, ips.logging_service[0], "/log")}
        except MicroqError:
            return False
        return len(shown) == len(set(shown)) and self.acknowledged.keys() <= (logged & set(shown))

    async def earlier(self) -> None:
        """Note what the system holds already, so that it is not taken for something unexpected."""
        ids: set[str] = set()
        for address in self._config.service_ips.logging_service:
            try:
                ids |= {message.id for message in await read_messages(self._session, address, "/log")}
                break  # they all read the same map
            except MicroqError:
                continue
        self._history.note("earlier", ids=sorted(ids))

    async def read_back(self, view: Snapshot) -> None:
        """Read every instance that should be up, and note what it shows."""
        ips = self._config.service_ips
        for role, addresses in ((Role.LOGGING, ips.logging_service), (Role.MESSAGES, ips.messages_service)):
            for address in self._up(view, role, addresses):
                await self._read_instance(role, address)

    def _up(self, view: Snapshot, role: Role, addresses: Sequence[Address]) -> list[Address]:
        """Leave out logging-services that were off before; a messages-service may never be missing."""
        off = {p.address for p in view.having(role) if p.state is ProcessState.STOPPED}
        return [address for address in addresses if role is Role.MESSAGES or str(address) not in off]

    async def _read_instance(self, role: Role, address: Address) -> None:
        name = f"{role}-{address.port}"
        path = "/log" if role is Role.LOGGING else "/messages"
        try:
            messages = await read_messages(self._session, address, path)
        except MicroqError:
            self._history.note("absent", instance=name)
            return
        self._history.note("read", instance=name, role=role.value)
        for message in messages:
            if role is Role.LOGGING:
                self._history.note("logged", instance=name, id=message.id, by=message.by)
            else:
                self._history.note("shown", instance=name, id=message.id, at=message.at)

    async def read_through_facade(self, most: int = 40) -> tuple[set[str], set[str]]:
        """GET the facade until each messages-service was met; return the ids of both combined sets."""
        logs: set[str] = set()
        messages: set[str] = set()
        met: set[str] = set()
        for _ in range(most):
            got = await self._facade.read()
            logs |= {message.id for message in got.logs}
            messages |= {message.id for message in got.messages}
            met.add(got.messages_service)
            if met >= {str(address) for address in self._config.service_ips.messages_service}:
                break
        reached = len(met - {""}) == len(self._config.service_ips.messages_service)
        self._history.note("combined", logs=sorted(logs), messages=sorted(messages), met=reached)
        return logs, messages
