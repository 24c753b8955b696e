"""The way of a message into the system, and of both sets out of it: what the facade does behind its HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import random
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from microq import tracing
from microq.client import Replicas, ReplicasAwayError
from microq.config import Address
from microq.errors import MicroqError, QueueAwayError, QueueError, QueueFullError, QueueUncertainError
from microq.message import Message
from microq.queues.base import MessageQueue
from microq.services.commit import GroupCommit
from microq.services.redelivery import Watch

T = TypeVar("T")

ENVELOPE = 512
"""Bytes that a message takes in JSON beside its text, at most."""

SIZE_SECONDS = 0.2
"""How long the queue may take to tell its size, or its owner."""

PUT_SECONDS = 2.0
"""For how long a message is put into the queue again and again while the queue does not confirm it."""

PUT_PAUSE = 0.1

LOG_PATIENCE = 0.1
"""After how many seconds a logging-service that hangs no longer holds up the messages of the others."""

CONFLICT, UNCERTAIN = 422, 504
"""The HTTP statuses that say: an id is in use for another text; nobody knows whether the message is accepted."""

AGAIN = "send it again with the same Idempotency-Key"


class RefusedError(MicroqError):
    """A message was not accepted, or nobody knows; `status` is the HTTP status that says which."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Logged:
    """What the log has for a message: the `service` that wrote or found it, whether it was `new`, and its time there.

    `repeated` says that another service may have carried the request out before. With a `conflict`, in words, the id
    has another text.
    """

    service: str
    new: bool
    at: float
    repeated: bool
    conflict: str = ""


class Journey:
    """The way in: first the log, then the queue, and the acknowledgement only after both."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        queue: MessageQueue,
        watch: Watch,
        logging_services: Replicas,
        heaviest: int,
    ) -> None:
        self._queue, self._watch = queue, watch
        self._logging = logging_services
        self._logs = GroupCommit(tasks, self._log_each, _weight, heaviest, LOG_PATIENCE)
        self._puts = GroupCommit(tasks, self._put_all, _weight, heaviest)

    async def accept(self, message: Message) -> str:
        """Carry a message into the log and into the queue; return the logging-service that has it.

        The log comes first because an entry can be taken back, and what is in a queue cannot. Raises `RefusedError`.
        """
        async with self._watch.turn(message.id):
            logged = await self._write_log(message)
            self._watch.begin(message.id)
            try:
                await self._enqueue(message, logged)
            finally:
                # Accepted or uncertain: it is looked for until it is stored, or known to be nowhere.
                self._watch.put(message.id)
            return logged.service

    async def _enqueue(self, message: Message, logged: Logged) -> None:
        if not logged.new and await self._watch.has_arrived(message.id):
            return self._watch.settle(message.id)
        try:
            return await self._put(message)
        except (QueueFullError, QueueAwayError) as error:
            if logged.repeated or not logged.new:
                # An earlier try wrote it, so it may be in the queue, or is redelivered.
                raise RefusedError(UNCERTAIN, f"{error}, and it was sent before; {AGAIN}") from error
            await self._take_back(message, logged, error)
            self._watch.settle(message.id)
            raise RefusedError(503, f"{error}; the message was not accepted, send it again later") from error
        except QueueError as error:
            raise RefusedError(UNCERTAIN, f"{error}; {AGAIN}") from error

    async def _put(self, message: Message) -> None:
        """Put into the queue, again while nobody knows: the consumers know an id again, so twice is as good as once."""
        with tracing.span("queue put", "producer"):
            if trace := tracing.traceparent():
                # Whoever receives it goes on with the trace from here.
                message = dataclasses.replace(message, trace=trace)
            return await self._put_until_known(message)

    async def _put_until_known(self, message: Message) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + PUT_SECONDS
        doubt: QueueUncertainError | None = None
        while True:
            try:
                return await self._put_once(message)
            except QueueUncertainError as error:
                doubt = error
                if loop.time() >= end:
                    raise
                await asyncio.sleep(PUT_PAUSE)
            except QueueError as error:
                # What this try says of itself says nothing of the tries before it.
                raise doubt or error from error

    async def _put_once(self, message: Message) -> None:
        if self._queue.gathers:
            return await self._queue.put([message])
        return await self._puts.submit(message)

    async def _put_all(self, messages: Sequence[Message]) -> Sequence[QueueError | None]:
        """Put into the queue together; where they have no room together, each by itself."""
        try:
            await self._queue.put(messages)
        except QueueFullError as error:
            return [error] if len(messages) == 1 else [await self._refused(message) for message in messages]
        return [None] * len(messages)

    async def _refused(self, message: Message) -> QueueError | None:
        try:
            await self._queue.put([message])
        except QueueError as error:
            return error
        return None

    async def _write_log(self, message: Message) -> Logged:
        try:
            with tracing.span("log", "client"):
                logged = await self._log(message)
        except ReplicasAwayError as error:
            if error.sent or message.id in self._watch:
                self._watch.expect(message.id)
                raise RefusedError(UNCERTAIN, f"{error}; {AGAIN}") from error
            raise RefusedError(503, f"{error}; the message was not accepted, send it again later") from error
        if logged.conflict:
            raise RefusedError(CONFLICT, logged.conflict)
        return logged

    async def _log(self, message: Message) -> Logged:
        if tracing.traceparent():
            # What is traced travels alone: the logging-service's part belongs to one trace.
            return (await self._log_all(random.choice(self._logging.addresses), [message]))[0]
        return await self._logs.submit(message)

    async def _log_each(self, messages: Sequence[Message]) -> Sequence[Logged | MicroqError]:
        """Write each message into the log by one random logging-service, those of one service together."""
        shares: dict[Address, list[Message]] = {}
        for message in messages:
            shares.setdefault(random.choice(self._logging.addresses), []).append(message)
        found: dict[str, Logged | MicroqError] = {}

        async def write(address: Address, share: Sequence[Message]) -> None:
            ids = [message.id for message in share]
            try:
                found.update(zip(ids, await self._log_all(address, share), strict=True))
            except MicroqError as error:
                found.update(dict.fromkeys(ids, error))

        await asyncio.gather(*(write(*share) for share in shares.items()))
        # By id, which is in a batch once: its turn is one send's.
        return [found[message.id] for message in messages]

    async def _log_all(self, address: Address, messages: Sequence[Message]) -> list[Logged]:
        """Write messages into the log together, by the logging-service at this address if it answers."""
        answer = await self._logging.call("POST", "/log", [message.to_wire() for message in messages], address)
        body = answer.body
        if "new" not in body:
            raise RefusedError(answer.status, body.get("message", "the logging-service refused the message"))
        conflicts = dict.fromkeys(body.get("uuids", ()), str(body.get("message", "")))
        return [
            Logged(str(body["service"]), new, at, answer.repeated, conflicts.get(message.id, ""))
            for message, new, at in zip(messages, body["new"], body["at"], strict=True)
        ]

    async def _take_back(self, message: Message, written: Logged, cause: QueueError) -> None:
        # This very entry: a logging-service that hangs may carry the request out when the id was sent again.
        query = f"uuid={quote(message.id, safe='')}&at={written.at!r}"
        try:
            answer = await self._logging.call("DELETE", f"/log?{query}")
        except ReplicasAwayError as error:
            raise RefusedError(UNCERTAIN, f"{cause}, and the log could not be told: {error}") from error
        if answer.status != 200:  # noqa: PLR2004 - HTTP's "OK"
            raise RefusedError(UNCERTAIN, f"{cause}, and the log answered {answer.status}") from cause

    async def queue_view(self) -> dict[str, Any]:
        """Return what the queue's client knows of it; a size that takes long, as in a failover, is unknown."""
        size, owner, since = await asyncio.gather(
            _in_time(self._queue.size()), _in_time(self._queue.owner()), _in_time(self._queue.waiting_since())
        )
        return {"size": size, "owner": owner, "oldest_at": None if since == math.inf else since}


def _weight(message: Message) -> int:
    """Return how much of a batch a message takes, in bytes at most: six for a character that JSON must escape."""
    return 6 * len(message.text) + ENVELOPE


async def _in_time(question: Awaitable[T]) -> T | None:
    with contextlib.suppress(TimeoutError, QueueError):
        async with asyncio.timeout(SIZE_SECONDS):
            return await question
    return None
