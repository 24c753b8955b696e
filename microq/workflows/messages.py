"""Send messages, read both sets, check arrival, and handle dead letters: all through the facade."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from microq.client import FacadeClient, Tally, get_json, open_session, read_messages, send_all
from microq.config import Address, Config
from microq.errors import DeadlineError, NotRunningError, UnreadableError, UsageError
from microq.exchange import Exchange, open_exchanges, send_texts
from microq.fleet import Role, addresses, name_of
from microq.message import Message, Reading, Receipt

MARGIN_SECONDS = 3.0
"""Seconds beyond the visibility timeout for which missing messages are waited for: a redelivery takes time too."""

PAUSE_SECONDS = 0.3

SIZE_SECONDS = 2.0
"""Seconds for which the size of the queue is requested: a queue that is busy for a moment does not report it."""

HEARD_SECONDS = 5.0
"""Seconds without an answer after which a service counts as unavailable."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """The number of messages of the log that each messages-service shows, and the missing messages.

    `twice` are messages that are shown more than once, `dead` the ids of missing ones that are dead letters. The
    instances in `away` did not answer. `waiting` is the size of the queue; None: unknown.
    """

    logged: int
    by: Mapping[str, int]
    missing: Sequence[Message]
    twice: Sequence[Message]
    away: Sequence[str]
    dead: Sequence[str]
    waiting: int | None

    @property
    def arrived(self) -> int:
        """The number of messages of the log that are shown."""
        return self.logged - len(self.missing)

    @property
    def whole(self) -> bool:
        """Whether each message is shown exactly once."""
        return not self.missing and not self.twice


# -- send and read ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """The outcomes of messages, and the seconds; `waiting` are in the queue because no messages-service is up."""

    tally: Tally
    seconds: float
    waiting: int | None


async def send(
    config: Config, texts: AsyncIterator[str], most: int, hear: Callable[[Receipt], None] = lambda _: None
) -> Sent:
    """Send all texts, at most `most` in flight, and call `hear` with each receipt, in order.

    Raises `NotRunningError` if the facade does not answer at the beginning.
    """
    tally, facade = Tally(), config.service_ips.facade_service

    def count(receipt: Receipt) -> None:
        tally.add(receipt)
        hear(receipt)

    if config.by_text:
        async with open_exchanges(config) as exchanges:
            if await exchanges.alive() is None:
                raise NotRunningError(f"the facade does not answer at {facade}; `microq wire` shows each call")
            began = time.perf_counter()
            await send_texts(exchanges, texts, most, count)
            return Sent(tally, time.perf_counter() - began, None)
    async with open_session() as session:
        await FacadeClient(session, facade).get("/healthz")
        began = time.perf_counter()
        async for receipt in send_all(session, facade, texts, most):
            count(receipt)
        seconds = time.perf_counter() - began
        return Sent(tally, seconds, await waiting(session, config))


async def read(config: Config, times: int, limit: int | None, after: float | None) -> AsyncGenerator[Reading, None]:
    """Yield `times` readings of the facade, with the parameters of `FacadeClient.read`.

    Raises `UnreadableError` if an answer does not have what the wire says.
    """
    if config.by_text:
        if limit is not None or after is not None:
            raise UsageError("an external facade has no --limit and no --after")
        async with open_exchanges(config) as exchanges:
            for _ in range(times):
                yield _reading(await exchanges.read_facade())
        return
    async with open_session() as session:
        facade = FacadeClient(session, config.service_ips.facade_service)
        for _ in range(times):
            yield await facade.read(limit, after)


def _reading(found: Exchange) -> Reading:
    """Return what an exchange read; which instances it came from, an external facade does not say."""
    if found.logs is None or found.messages is None:
        raise UnreadableError(f"{found.what}: {found.problem}; `microq wire` shows each call")
    logs, messages = ([Message(text, text) for text in texts] for texts in (found.logs, found.messages))
    return Reading(tuple(logs), tuple(messages), None, None)


# -- dead letters -----------------------------------------------------------------------------------------------------


async def dead_letters(config: Config) -> list[dict[str, Any]]:
    """Return every dead letter with its reason, the newest last."""
    async with open_session() as session:
        return await FacadeClient(session, config.service_ips.facade_service).dead_letters()


async def change_dead_letters(config: Config, verb: str, ids: Sequence[str] | None) -> tuple[list[str], int]:
    """Replay or drop dead letters (without `ids`: all); return the ids that were changed, and how many were left out.

    Items that are not messages of microq cannot be replayed; with all they are left out. Raises `UsageError` if one of
    `ids` is not a dead letter; then nothing is done.
    """
    async with open_session() as session:
        facade, left = FacadeClient(session, config.service_ips.facade_service), 0
        if ids is None:
            letters = await facade.dead_letters()
            ids = [letter["uuid"] for letter in letters if letter["replayable"] or verb != "replay"]
            left = len(letters) - len(ids)
        chosen = list(dict.fromkeys(ids))
        if chosen:
            await facade.change_letters(verb, chosen)
        return chosen, left


# -- what has arrived -------------------------------------------------------------------------------------------------


async def check(config: Config) -> Arrival:
    """Compare the log with the messages that each messages-service shows, as `arrival` does.

    Raises `UsageError` if messages are counted by text: texts of other senders may be equal or joined.
    """
    if config.by_text:
        raise UsageError("--check needs microq's own services; `microq chaos kill-member` checks external ones")
    async with open_session() as session:
        return await arrival(session, config)


async def arrival(session: aiohttp.ClientSession, config: Config) -> Arrival:
    """Compare log and messages-services, repeatedly while a missing message may still arrive.

    Raises `NotRunningError` if no logging-service answers.
    """
    patience = time.monotonic() + config.queue.visibility_timeout + MARGIN_SECONDS
    while True:
        found = await _look(session, config)
        to_come = len(found.missing) > len(found.dead) and found.by
        if not to_come or time.monotonic() >= patience:
            return found
        await asyncio.sleep(PAUSE_SECONDS)


async def _look(session: aiohttp.ClientSession, config: Config) -> Arrival:
    # The log first: a message that is accepted meanwhile does not count as missing.
    logged = {message.id: message for message in await _logged(session, config)}
    places = addresses(config, Role.MESSAGES)
    shown = await asyncio.gather(*(_shown(session, address) for address in places))
    names = [name_of(config, Role.MESSAGES, address) for address in places]
    seen = Counter(message_id for ids in shown if ids is not None for message_id in ids)
    missing = [message for message in logged.values() if message.id not in seen]
    facade = FacadeClient(session, config.service_ips.facade_service)
    dead = {letter["uuid"] for letter in await _asked(facade, "/dead") or ()} if missing else set()
    size = await _size(facade) if missing else None
    return Arrival(
        logged=len(logged),
        by={
            name: sum(each in logged for each in ids) for name, ids in zip(names, shown, strict=True) if ids is not None
        },
        missing=missing,
        twice=[logged[message_id] for message_id, times in seen.items() if times > 1 and message_id in logged],
        away=[name for name, ids in zip(names, shown, strict=True) if ids is None],
        dead=[message.id for message in missing if message.id in dead],
        waiting=size,
    )


async def _logged(session: aiohttp.ClientSession, config: Config) -> list[Message]:
    """Return the whole log, which every logging-service has."""
    places = addresses(config, Role.LOGGING)
    for address in random.sample(places, len(places)):
        try:
            return await read_messages(session, address, "/log", HEARD_SECONDS)
        except (NotRunningError, DeadlineError):
            continue
    raise NotRunningError("no logging-service answers, so the sent messages are unknown; see `microq status`")


async def _shown(session: aiohttp.ClientSession, address: Address) -> list[str] | None:
    """Return the ids that a messages-service shows; None if it does not answer."""
    try:
        listed = await get_json(session, address, "/messages?full=true", HEARD_SECONDS)
    except (NotRunningError, DeadlineError):
        return None
    return [each["uuid"] for each in listed]


async def _asked(facade: FacadeClient, path: str) -> Any:
    """Return an answer of the facade; None if it does not answer."""
    try:
        return await facade.get(path)
    except (NotRunningError, DeadlineError):
        return None


async def waiting(session: aiohttp.ClientSession, config: Config) -> int | None:
    """Return how many messages wait in the queue because no messages-service is up; None if one is, or if unknown."""
    up = await asyncio.gather(*(_answers(session, address) for address in addresses(config, Role.MESSAGES)))
    if any(up):
        return None
    return await _size(FacadeClient(session, config.service_ips.facade_service))


async def _size(facade: FacadeClient) -> int | None:
    """Return the size of the queue; None if the facade does not answer, or the queue does not for `SIZE_SECONDS`."""
    end = time.monotonic() + SIZE_SECONDS
    while queue := await _asked(facade, "/queue"):
        if queue["size"] is not None or time.monotonic() >= end:
            size: int | None = queue["size"]
            return size
        await asyncio.sleep(PAUSE_SECONDS)
    return None


async def _answers(session: aiohttp.ClientSession, address: Address) -> bool:
    try:
        await get_json(session, address, "/healthz", 1.0)
    except DeadlineError:
        return True  # it is up, but slow
    except NotRunningError:
        return False
    return True
