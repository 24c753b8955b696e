"""Read all instances until two successive readings agree; each is noted as its difference from the one before."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from microq.aio import together
from microq.chaos.forensics import FacadeLog
from microq.chaos.history import History, Kind
from microq.chaos.timeouts import Timeouts
from microq.chaos.workload import RecordingClient
from microq.client import FacadeClient, get_json
from microq.config import Address, Config
from microq.errors import MicroqError, StoreError
from microq.fleet import ProcessState, Role, Snapshot, addresses, name_of
from microq.message import text_hash
from microq.store import Store, StoreOpener

# A killed member is missing on purpose; the history has the facts about it.
logging.getLogger("hazelcast").setLevel(logging.ERROR)

LOOK = 0.05
"""Seconds between two checks whether messages still arrive."""

PAUSE = 0.2
"""Seconds between two readings that do not agree."""

EARLIER = 0
"""The number of the reading before the run, which the event `earlier` has."""


class Item(NamedTuple):
    """A message as an instance shows it: id, hash of the text, time and instance of the writing, partition.

    The time is None if the instance does not tell it.

    The first two must be the same in every reading.
    """

    id: str
    hash: str
    at: float | None = 0.0
    by: str = ""
    partition: int | None = None


_same: Callable[[Item], tuple[str, str]] = itemgetter(0, 1)
"""Return the parts of an item that must not change."""


@dataclass(slots=True)
class Reading:
    """One reading of all instances; one that did not answer is not in `shown`."""

    number: int
    shown: dict[str, list[Item]] = field(default_factory=dict)

    def equals(self, other: Reading, foreign: Collection[str]) -> bool:
        """Return whether another reading shows the same, except foreign messages."""
        return self._counted(foreign) == other._counted(foreign)

    def _counted(self, foreign: Collection[str]) -> dict[str, dict[tuple[str, str], int]]:
        # As plain mappings, which are compared in C; counters are compared in Python.
        return {instance: dict(Counter(map(_same, _ours(items, foreign)))) for instance, items in self.shown.items()}


def difference(before: Sequence[Item], now: Sequence[Item], unordered: Collection[str]) -> tuple[list[str], list[Item]]:
    """Return the ids of `before` that `now` lacks, and the items of `now` that are not in the rest of `before`.

    The rest of `before` has the same order in `now`, except for ids that are `unordered`.
    """
    if list(map(_same, before)) == list(map(_same, now)):
        return [], []
    left = Counter(map(_same, before))
    several = {i for i, count in Counter(item.id for item in before).items() if count > 1}
    then, later = ([_same(item) for item in items if item.id not in unordered] for items in (before, now))
    # An id does not say which of several items is gone: all are noted again.
    in_order = then == later or several <= set(unordered)
    ours = iter(then)
    beside: list[Item] = []
    for item in now:
        if item.id in unordered:
            kept = left[_same(item)] > 0 and item.id not in several
        else:
            # All items from the first new or moved one on are noted again.
            kept = in_order = in_order and _same(item) in ours
        if kept:
            left[_same(item)] -= 1
        else:
            beside.append(item)
    return [i for i, _ in left.elements()], beside


class Readings:
    """Reads the instances of a system, the `consumers` and the `loggers`, and notes what they show."""

    def __init__(
        self,
        traffic: RecordingClient,
        session: aiohttp.ClientSession,
        config: Config,
        history: History,
        opener: StoreOpener,
    ) -> None:
        self._traffic, self._session, self._config, self._history = traffic, session, config, history
        self._opener = opener
        self._facade = FacadeClient(session, config.service_ips.facade_service)
        self.consumers = _named(config, Role.MESSAGES)
        self.loggers = _named(config, Role.LOGGING)
        self._last = Reading(EARLIER)
        self._earlier: set[str] = set()
        self._consumed = 0
        self._log = FacadeLog()

    def __str__(self) -> str:
        """Return how many messages each messages-service showed in the last reading."""
        counts = {name: self._last.shown.get(name) for name in self.consumers}
        return ", ".join(f"{n} {'does not answer' if c is None else f'shows {len(c)}'}" for n, c in counts.items())

    @property
    def before(self) -> int:
        """The number of messages that the system held before the run."""
        return len(self._earlier)

    async def held(self) -> int:
        """Return how many messages the messages-services hold. Raises `NotRunningError` or `DeadlineError`."""
        answers = [await get_json(self._session, address, "/healthz") for address in self.consumers.values()]
        return sum(one["held"] for one in answers)

    async def holding(self, count: int, seconds: float) -> int:
        """Wait until `count` messages are held, for at most `seconds`; return how many are held."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (held := await self.held()) < count and loop.time() < end:  # noqa: ASYNC110 - they tell no events
            await asyncio.sleep(PAUSE)
        return held

    def leave_out(self, view: Snapshot) -> None:
        """Do not expect logging-services that are off; every messages-service must answer."""
        off = {process.name for process in view.having(Role.LOGGING) if process.state is ProcessState.STOPPED}
        self.loggers = {name: address for name, address in self.loggers.items() if name not in off}

    async def earlier(self, folder: Path) -> None:
        """Note what the system holds before the run; `folder` has the logs of its processes."""
        await self._log.begin(folder)  # first, so that a message between the two steps is in both
        shown = (await self._read(EARLIER)).shown
        logged = {_same(item) for name in self.loggers for item in shown.get(name, ())}
        consumed = {name: shown[name] for name in self.consumers if name in shown}
        texts = dict(sorted(logged | {_same(item) for items in consumed.values() for item in items}))
        ids = {name: [item.id for item in items] for name, items in consumed.items()}
        self._history.note("earlier", ids=list(texts), texts=texts, shown=ids)
        self._earlier = set(texts)
        self._consumed = sum(map(len, consumed.values()))
        # The logging-services show one map.
        entries = [Item(*text) for text in texts.items()]
        self._last.shown = {**{name: entries for name in self.loggers}, **consumed}  # noqa: C420 - one list, never changed

    # -- everything has arrived ----------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Wait until the queue is empty and no more messages arrive, and note whether that happened."""
        reason = ""
        try:
            async with asyncio.timeout(self._patience.drain):
                await self._drained()
        except TimeoutError:
            reason = f"the queue was not empty and quiet after {self._patience.drain:g} s"
        self._history.note("drained", complete=not reason, reason=reason)

    @property
    def _patience(self) -> Timeouts:
        return self._traffic.timeouts

    async def _drained(self) -> None:
        loop = asyncio.get_running_loop()
        began = since = loop.time()
        last: list[int] = []
        while True:
            size, held = await self._counts()
            if size != 0 or held != last:
                last, since = held, loop.time()
            quiet = loop.time() - since
            if quiet >= self._patience.loss:
                return
            looked = loop.time()
            # If other clients send, the queue is never quiet: then the messages of this run must have arrived.
            busy = looked - began >= self._patience.loss and bool(await self.foreign())
            # Counts first: a reading transfers all held messages, and meanwhile the links and the traffic wait.
            whole = busy or (quiet >= self._patience.quiet and sum(held) >= self._expected)
            if whole and await self._everything_is_there():
                return
            await asyncio.sleep(max(LOOK, loop.time() - looked))

    @property
    def _expected(self) -> int:
        """The number of messages that the messages-services must hold at least, if nothing is missing."""
        return self._consumed + len(self._traffic.acknowledged)

    async def _counts(self) -> tuple[int | None, list[int]]:
        """Return the queue's size (None: unknown) and the number of messages that each messages-service holds."""
        try:
            queue = await self._facade.get("/queue")
            consumers = [await get_json(self._session, address, "/healthz") for address in self.consumers.values()]
        except MicroqError:
            return None, []
        return queue["size"], [consumer["held"] for consumer in consumers]

    async def _everything_is_there(self) -> bool:
        """Return whether every acknowledged message is shown once and logged, and no logged message is still missing.

        This takes a while after a split, and for messages that were answered with 504 and are redelivered.
        """
        return self._complete(await self._read(EARLIER))

    def _complete(self, reading: Reading) -> bool:
        shown = [item.id for name in self.consumers for item in reading.shown.get(name, ())]
        logs = [{item.id for item in reading.shown.get(name, ())} for name in self.loggers]
        everywhere = set(shown).intersection(*logs)
        settled = (self._traffic.sent & set[str]().union(*logs)) <= set(shown)
        return len(shown) == len(set(shown)) and self._traffic.acknowledged.keys() <= everywhere and settled

    async def foreign(self) -> set[str]:
        """Return the messages that the facade accepted from other clients since the run began."""
        return await self._log.look() - self._traffic.sent - self._earlier

    async def note_foreign(self) -> None:
        """Note the messages of other clients, from the log of the facade."""
        ids = await self.foreign()
        self._history.note("foreign", ids=sorted(ids), known=self._log.known)

    # -- two readings that agree ---------------------------------------------------------------------------------------

    async def settle(self) -> bool:
        """Read until two successive readings agree; read the cluster's map of claims between them.

        If the claims and the readings differ, or a message is missing, the instances get the time of a reconciliation.
        The reading before a restart is the first of the two readings after it. Return whether the last two agreed.
        """
        loop = asyncio.get_running_loop()
        calm, end = loop.time() + self._patience.loss, loop.time() + self._patience.agree
        async with self._claiming() as ask:
            before = self._last if self._last.number != EARLIER else await self._take()
            while True:
                claims = await ask()
                now = await self._take()
                agreed = await self._agree(before, now)
                whole = claims is not None and self._complete(now) and self._placed(now, claims, await self.foreign())
                given_time = claims is not None and loop.time() >= calm
                if (agreed and (whole or given_time)) or loop.time() >= end:
                    break
                before = now
                await asyncio.sleep(PAUSE)
        if claims is not None:
            self._history.note("claims", stored=claims)
        self._history.note("agreed", readings=[before.number, now.number], agreed=agreed)
        return agreed

    async def _agree(self, before: Reading, now: Reading) -> bool:
        """Compare two readings; the facade's log may lag behind the messages that it has just accepted."""
        agreed = await asyncio.to_thread(before.equals, now, await self.foreign())
        if not agreed and self._strangers(now):
            await asyncio.sleep(PAUSE)
            agreed = await asyncio.to_thread(before.equals, now, await self.foreign())
        return agreed

    def _strangers(self, reading: Reading) -> set[str]:
        seen = {item.id for items in reading.shown.values() for item in items}
        return seen - self._traffic.sent - self._earlier

    def _placed(self, reading: Reading, claims: Mapping[str, str], foreign: Collection[str]) -> bool:
        """Return whether each messages-service shows the messages whose claims it has in the cluster."""
        shown = {(item.id, name) for name in self.consumers for item in reading.shown.get(name, ())}
        return {pair for pair in shown ^ set(claims.items()) if pair[0] not in foreign} == set()

    @asynccontextmanager
    async def _claiming(self) -> AsyncIterator[Callable[[], Awaitable[dict[str, str] | None]]]:
        """Yield a function that returns the claims of the cluster, or None while no member answers."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._patience.claims):
                    store = await stack.enter_async_context(self._opener(self._config, "chaos"))
            except (MicroqError, TimeoutError):
                yield _no_claims
            else:
                yield lambda: _claims(store)

    async def _take(self) -> Reading:
        """Read all instances and note the difference from the reading before."""
        reading = await self._read(self._last.number + 1)
        for name in (*self.loggers, *self.consumers):
            await self._note(name, reading)
        self._last = reading
        return reading

    async def _read(self, number: int) -> Reading:
        reading = Reading(number)
        parts = [(self.loggers, "/log"), (self.consumers, "/messages")]
        await together(
            self._read_one(reading, name, address, path) for named, path in parts for name, address in named.items()
        )
        return reading

    async def _read_one(self, reading: Reading, name: str, address: Address, path: str) -> None:
        with contextlib.suppress(MicroqError):
            shown = await get_json(self._session, address, f"{path}?full=true")
            # In a thread: with many messages it would block the event loop.
            reading.shown[name] = await asyncio.to_thread(_items, shown)

    async def _note(self, name: str, reading: Reading) -> None:
        number, shown, before = reading.number, reading.shown.get(name), self._last.shown.get(name)
        role = Role.LOGGING if name in self.loggers else Role.MESSAGES
        if shown is None:
            self._history.note("absent", instance=name, reading=number)
            return
        like: dict[str, Any] = {}
        now = shown
        if before is not None:
            unordered = {item.id for item in shown} if role is Role.LOGGING else self._earlier
            gone, now = await asyncio.to_thread(difference, before, shown, unordered)
            like = {"like": self._last.number, "gone": gone}
        self._history.note("read", instance=name, role=role.value, reading=number, **like)
        for item in now:
            facts: dict[str, Any] = {"by": item.by} if role is Role.LOGGING else {}
            facts |= {name: fact for name, fact in (("at", item.at), ("partition", item.partition)) if fact is not None}
            kind: Kind = "logged" if role is Role.LOGGING else "shown"
            self._history.note(kind, instance=name, id=item.id, hash=item.hash, reading=number, **facts)

    # -- through the facade --------------------------------------------------------------------------------------------

    async def through_facade(self, most: int = 40) -> tuple[set[str], set[str]]:
        """GET the facade until each messages-service has answered; return the ids of both combined sets."""
        logs: set[str] = set()
        messages: set[str] = set()
        met: set[str] = set()
        for _ in range(most):
            got = await self._facade.read()
            logs |= {message.id for message in got.logs}
            messages |= {message.id for message in got.messages}
            met.add(got.messages_service or "")
            if met >= {str(address) for address in self.consumers.values()}:
                break
        reached = len(met - {""}) == len(self.consumers)
        number = self._last.number
        self._history.note("combined", logs=sorted(logs), messages=sorted(messages), met=reached, reading=number)
        return logs, messages


def _named(config: Config, role: Role) -> dict[str, Address]:
    return {name_of(config, role, address): address for address in addresses(config, role)}


def _ours(items: Sequence[Item], foreign: Collection[str]) -> Iterable[Item]:
    return (item for item in items if item.id not in foreign) if foreign else items


def _items(shown: Sequence[Mapping[str, Any]]) -> list[Item]:
    """Read the messages that an instance shows, without a `Message` for each, which takes three times as long."""
    return [
        Item(each["uuid"], text_hash(each["msg"]), float(each["at"]), each["by"], each.get("partition"))
        for each in shown
    ]


async def _no_claims() -> None:
    """Return no claims: the cluster is unavailable."""


async def _claims(store: Store) -> dict[str, str] | None:
    """Return the claims in the cluster: id -> messages-service."""
    try:
        return {claim.id: claim.by async for page in store.stored.scan() for claim in page}
    except StoreError:
        return None
