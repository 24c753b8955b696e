"""The facade's answers about single messages: what became of one, what was redelivered, the dead letters."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiohttp import web

from microq.errors import MessageError
from microq.letters import DeadLetter, Redelivery
from microq.message import Message
from microq.queues.base import MessageQueue
from microq.services.app import read_json, reply
from microq.services.listing import in_order, stream_items
from microq.services.redelivery import Watch
from microq.store import Store

log = logging.getLogger(__name__)


class Letters:
    """What became of messages, asked of the cluster and of the facade's watch."""

    def __init__(self, queue: MessageQueue, store: Store, watch: Watch) -> None:
        self._queue, self._store, self._watch = queue, store, watch

    async def state(self, message_id: str) -> dict[str, Any]:
        """Return where a message is: `stored` (and by whom), `dead` (and why), `pending`, or `unknown`."""
        stored, letter, logged, record = await asyncio.gather(
            self._store.stored.get(message_id),
            self._store.dead.get(message_id),
            self._store.log.get(message_id),
            self._store.redelivered.get(message_id),
        )
        if stored:
            return {"uuid": message_id, "state": "stored", "by": stored.by}
        if letter:
            return {"uuid": message_id, "state": "dead", "reason": letter.reason}
        if self._watch.has_given_up(record) and message_id not in self._watch:
            return {"uuid": message_id, "state": "dead", "reason": "it was given up, and its dead letter is gone"}
        return {"uuid": message_id, "state": "pending" if logged or message_id in self._watch else "unknown"}

    async def redelivered(self) -> AsyncIterator[Sequence[Redelivery]]:
        """Yield what was put into the queue again, and how often."""
        async for page in in_order(self._store.redelivered.scan()):
            yield [record for record in page if record.tries]

    def dead(self) -> AsyncIterator[Sequence[DeadLetter]]:
        """Yield the dead letters, oldest first, as `in_order` has them."""
        return in_order(self._store.dead.scan())

    async def counts(self) -> dict[str, int]:
        """Return how many messages are watched, were redelivered, and are dead letters."""
        redelivered, dead = await asyncio.gather(self._store.redelivered.size(), self._store.dead.size())
        return {"pending": self._watch.pending, "redelivered": redelivered, "dead": dead}

    async def letter(self, message_id: str) -> DeadLetter:
        """Return a dead letter; raises `MessageError` if there is none."""
        letter = await self._store.dead.get(message_id)
        if letter is None:
            raise MessageError(f"{message_id} is no dead letter; `microq dead list` shows them")
        return letter

    async def replay(self, letter: DeadLetter) -> None:
        """Put a dead letter into the queue again, with all its deliveries before it."""
        async with self._watch.turn(letter.id):
            await self._queue.put([Message(letter.id, letter.text, time.time())])
            await self._store.redelivered.remove(letter.id)
            self._watch.expect(letter.id)
            await self.drop(letter)
        log.info("replayed the dead letter %s", letter.id)

    async def drop(self, letter: DeadLetter) -> None:
        """Forget a dead letter."""
        await self._store.dead.remove(letter.id)


LETTERS = web.AppKey("letters", Letters)


def add_routes(app: web.Application) -> None:
    """Add what asks for `LETTERS`."""
    app.router.add_get("/facade/{uuid:.+}", _state)
    app.router.add_get("/redelivered", _redelivered)
    app.router.add_get("/dead", _dead)
    app.router.add_post("/dead/{verb:replay|drop}", _change)


async def _state(request: web.Request) -> web.Response:
    return reply(await request.app[LETTERS].state(request.match_info["uuid"]))


async def _redelivered(request: web.Request) -> web.StreamResponse:
    return await stream_items(request, request.app[LETTERS].redelivered(), _record)


def _record(record: Redelivery) -> dict[str, Any]:
    return {"uuid": record.id, "tries": record.tries, "at": record.at}


async def _dead(request: web.Request) -> web.StreamResponse:
    return await stream_items(request, request.app[LETTERS].dead(), _letter)


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {
        "uuid": letter.id,
        "msg": letter.text,
        "reason": letter.reason,
        "by": letter.by,
        "at": letter.at,
        "replayable": letter.replayable,
    }


async def _change(request: web.Request) -> web.Response:
    """Replay or drop every dead letter that is named, or none of them if one is not there."""
    fields = await read_json(request)
    ids = fields.get("uuids") if isinstance(fields, dict) else None
    if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
        raise MessageError('send {"uuids": ["id", ...]}')
    letters, replays = request.app[LETTERS], request.match_info["verb"] == "replay"
    chosen = [await letters.letter(message_id) for message_id in dict.fromkeys(ids)]
    if replays and (foreign := [letter.id for letter in chosen if not letter.replayable]):
        raise MessageError(f"{foreign[0]} is no message of microq and cannot be replayed; `microq dead drop` it")
    change = letters.replay if replays else letters.drop
    for letter in chosen:
        await change(letter)
    return reply({"status": "success", "uuids": [letter.id for letter in chosen]})
