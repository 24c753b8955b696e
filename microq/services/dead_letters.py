"""The facade's answers about single messages: the state of one, the redelivered ones, the dead letters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiohttp import web

from microq.backends.base import MessageQueue
from microq.errors import MessageError
from microq.log import Replayed
from microq.message import DeadLetter, Message, Redelivery
from microq.services.app import read_json, reply
from microq.services.paging import in_order, stream_items
from microq.services.redelivery import Watch
from microq.services.routes import TEXT, Parameter, Route, as_json, listed, record
from microq.store import Store
from microq.web import Handler

log = logging.getLogger(__name__)


class DeadLetters:
    """Reads the state of messages from the cluster and from the facade's watch."""

    def __init__(self, queue: MessageQueue, store: Store, watch: Watch) -> None:
        self._queue, self._store, self._watch = queue, store, watch

    async def state(self, message_id: str) -> dict[str, Any]:
        """Return the state of a message: `stored` (by which instance), `dead` (and why), `pending`, or `unknown`."""
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
            return {"uuid": message_id, "state": "dead", "reason": "its dead letter was dropped"}
        return {"uuid": message_id, "state": "pending" if logged or message_id in self._watch else "unknown"}

    async def redelivered(self) -> AsyncIterator[Sequence[Redelivery]]:
        """Yield the records of messages that were put into the queue again."""
        async for page in in_order(self._store.redelivered.scan()):
            yield [record for record in page if record.tries]

    def dead(self) -> AsyncIterator[Sequence[DeadLetter]]:
        """Yield the dead letters, in the order of `in_order`."""
        return in_order(self._store.dead.scan())

    async def counts(self) -> dict[str, int]:
        """Return how many messages are watched, were redelivered, and are dead letters."""
        redelivered, dead = await asyncio.gather(self._store.redelivered.size(), self._store.dead.size())
        return {"pending": self._watch.pending, "redelivered": redelivered, "dead": dead}

    async def letter(self, message_id: str) -> DeadLetter:
        """Return a dead letter; raises `MessageError` if there is none."""
        letter = await self._store.dead.get(message_id)
        if letter is None:
            raise MessageError(f"{message_id} is not a dead letter; `microq dead list` shows them")
        return letter

    async def replay(self, letter: DeadLetter) -> None:
        """Put a dead letter into the queue again; its deliveries are counted from 0."""
        async with self._watch.turn(letter.id):
            message = self._watch.stamped(Message(letter.id, letter.text))
            await self._queue.put([message])
            await self._watch.revive(letter.id)
            await self._store.redelivered.remove(letter.id)
            self._watch.expect(message)
            await self.drop(letter)
        log.info(Replayed(letter.id))

    async def drop(self, letter: DeadLetter) -> None:
        """Forget a dead letter."""
        await self._store.dead.remove(letter.id)


DEAD_LETTERS = web.AppKey("letters", DeadLetters)


async def _state(request: web.Request) -> web.Response:
    return reply(await request.app[DEAD_LETTERS].state(request.match_info["uuid"]))


async def _redelivered(request: web.Request) -> web.StreamResponse:
    return await stream_items(request, request.app[DEAD_LETTERS].redelivered(), _record)


def _record(record: Redelivery) -> dict[str, Any]:
    return {"uuid": record.id, "tries": record.tries, "at": record.at}


async def _dead(request: web.Request) -> web.StreamResponse:
    return await stream_items(request, request.app[DEAD_LETTERS].dead(), _letter)


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {
        "uuid": letter.id,
        "msg": letter.text,
        "reason": letter.reason,
        "by": letter.by,
        "at": letter.at,
        "replayable": letter.replayable,
    }


async def _replay(request: web.Request) -> web.Response:
    return await _change(request, replays=True)


async def _drop(request: web.Request) -> web.Response:
    return await _change(request, replays=False)


async def _change(request: web.Request, *, replays: bool) -> web.Response:
    """Replay or drop the named dead letters; none of them if one does not exist."""
    fields = await read_json(request)
    ids = fields.get("uuids") if isinstance(fields, dict) else None
    if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
        raise MessageError('send {"uuids": ["id", ...]}')
    letters = request.app[DEAD_LETTERS]
    chosen = [await letters.letter(message_id) for message_id in dict.fromkeys(ids)]
    if replays and (foreign := [letter.id for letter in chosen if not letter.replayable]):
        raise MessageError(f"{foreign[0]} is not a message and cannot be replayed; `microq dead drop` removes it")
    change = letters.replay if replays else letters.drop
    for letter in chosen:
        await change(letter)
    return reply({"status": "success", "uuids": [letter.id for letter in chosen]})


_IDS = record({"uuids": listed(TEXT)})
_NUMBER = {"type": "number"}


def _changing(verb: str, handler: Handler, about: str) -> Route:
    return Route(
        "POST",
        f"/dead/{verb}",
        handler,
        about,
        as_json(record({"status": {"const": "success"}, "uuids": listed(TEXT)})),
        takes=as_json(_IDS, {"uuids": ["8f31c2d0"]}),
        errors=[504],
        example=f"""curl -d '{{"uuids": ["8f31c2d0"]}}' URL/dead/{verb}""",
    )


ROUTES = (
    Route(
        "GET",
        "/facade/{uuid}",
        _state,
        "The state of a message: stored (by which instance), pending, dead (and why) or unknown.",
        as_json(
            record({"uuid": TEXT, "state": {"enum": ["stored", "dead", "pending", "unknown"]}}, by=TEXT, reason=TEXT)
        ),
        [Parameter("uuid", "path", "The id of the message.", TEXT, "8f31c2d0", required=True)],
        errors=[504],
        example="curl URL/facade/8f31c2d0",
        pattern="/facade/{uuid:.+}",
    ),
    Route(
        "GET",
        "/redelivered",
        _redelivered,
        "The messages that were put into the queue again, and how often.",
        as_json(listed(record({"uuid": TEXT, "tries": {"type": "integer"}, "at": _NUMBER}))),
        errors=[504],
    ),
    Route(
        "GET",
        "/dead",
        _dead,
        "The dead letters with their reasons, the oldest first.",
        as_json(
            listed(
                record(
                    {
                        "uuid": TEXT,
                        "msg": TEXT,
                        "reason": TEXT,
                        "by": TEXT,
                        "at": _NUMBER,
                        "replayable": {"type": "boolean"},
                    }
                )
            )
        ),
        errors=[504],
    ),
    _changing("replay", _replay, "Put dead letters into the queue again: all named ones, or none."),
    _changing("drop", _drop, "Remove dead letters: all named ones, or none."),
)
"""The calls that use `DEAD_LETTERS`."""
