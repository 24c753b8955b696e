"""Acceptance of a message: the facade writes it into the log, puts it into the queue, and only then acknowledges it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from microq import tracing
from microq.backends.base import EMPTY, MessageQueue
from microq.config import Address
from microq.errors import (
    MicroqError,
    QueueError,
    QueueFullError,
    QueueIndeterminateError,
    QueueUnavailableError,
    StoreError,
)
from microq.message import Message
from microq.replicas import Answer, Replicas, ReplicasUnavailableError
from microq.services.redelivery import Watch
from microq.services.room import NoRoomError, Room

T = TypeVar("T")
R = TypeVar("R")

MOST = 256
"""The largest number of items in a batch."""


class GroupCommit(Generic[T, R]):
    """Group commit: items that arrive while one batch is in progress leave together in the next batch.

    An item that arrives while no batch is in progress leaves at once, alone. If a batch takes longer than `patience`
    seconds, the next batch starts beside it. `flush` carries out a batch: it returns a result or an error for each
    item, or raises a `MicroqError` for the whole batch. The weights of a batch add up to `heaviest` at most, unless
    it is one item. The number of waiting items is bounded by the callers: each waits for its result.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        flush: Callable[[Sequence[T]], Awaitable[Sequence[R | MicroqError]]],
        weight: Callable[[T], int],
        heaviest: int,
        patience: float,
    ) -> None:
        self._tasks, self._flush, self._weight, self._heaviest = tasks, flush, weight, heaviest
        self._patience = patience
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._at_work = False

    async def submit(self, item: T) -> R:
        """Carry out an item in a batch and return its result; raise its error.

        A submitted item is carried out even if its caller is cancelled.
        """
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if not self._at_work:
            self._at_work = True
            self._tasks.create_task(self._work())
        return await result

    async def _work(self) -> None:
        try:
            while self._waiting:
                carrying = self._tasks.create_task(self._carry_out(self._next()))
                await asyncio.wait((carrying,), timeout=self._patience)
        finally:
            self._at_work = False

    def _next(self) -> list[tuple[T, asyncio.Future[R]]]:
        batch = [self._waiting.popleft()]
        weight = self._weight(batch[0][0])
        while self._waiting and len(batch) < MOST:
            weight += self._weight(self._waiting[0][0])
            if weight > self._heaviest:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _carry_out(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        results: Sequence[R | MicroqError]
        try:
            results = await self._flush([item for item, _ in batch])
        except MicroqError as error:
            results = [error] * len(batch)
        for (_, result), found in zip(batch, results, strict=True):
            if result.done():
                continue  # its caller was cancelled
            if isinstance(found, MicroqError):
                result.set_exception(found)
            else:
                result.set_result(found)


ENVELOPE = 512
"""The largest number of bytes that a message takes in JSON beside its text."""

SIZE_SECONDS = 0.2
"""Seconds that the queue may take to report its size or its owner."""

PUT_SECONDS = 2.0
"""Seconds for which a put that the queue does not confirm is repeated."""

PUT_PAUSE = 0.1

LOG_PATIENCE = 0.1
"""Seconds after which a hanging logging-service no longer delays the messages of the others."""

PUT_PATIENCE = 0.5
"""Seconds after which a put that is not confirmed no longer delays the messages after it.

A member that is killed while it has the copy of an item confirms nothing. That put ends only when the backup timeout
does, 15 s later; the members that are left take others at once.
"""

CONFLICT, INDETERMINATE = 422, 504
"""HTTP statuses: the id is in use for another text; it is indeterminate whether the message is accepted."""

OK, BAD_REQUEST = 200, 400
"""The HTTP status of success, and the lowest one of an error."""

AGAIN = "send it again with the same Idempotency-Key"


class UnacknowledgedError(MicroqError):
    """A message is not acknowledged; the HTTP `status` says whether it is rejected or indeterminate."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Logged:
    """The log entry of a message: the `service` that wrote or found it, whether it is `new`, and its time.

    `repeated`: another logging-service may have carried out the same request before. `conflict` is the message that the
    id is in use for another text, if it is.
    """

    service: str
    new: bool
    at: float
    repeated: bool
    conflict: str = ""


class Acceptance:
    """Accepts messages: writes each into the log, then puts it into the queue, then acknowledges it."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        queue: MessageQueue,
        watch: Watch,
        logging_services: Replicas,
        room: Room,
        heaviest: int,
    ) -> None:
        self._queue, self._watch, self._room = queue, watch, room
        self._logging = logging_services
        self._logs = GroupCommit(tasks, self._log_each, _weight, heaviest, LOG_PATIENCE)
        self._puts = GroupCommit(tasks, self._put_all, _weight, heaviest, PUT_PATIENCE)

    async def accept(self, message: Message) -> str:
        """Write a message into the log and put it into the queue; return the logging-service that wrote it.

        The log comes first because a log entry can be removed again and an item of the queue cannot. Raises
        `UnacknowledgedError`.
        """
        async with self._watch.turn(message.id):
            cost, written = await self._enter(message), True
            try:
                return await self._log_and_put(message)
            except UnacknowledgedError as error:
                written = error.status == INDETERMINATE
                raise
            finally:
                self._room.settle(message.id, cost, written=written, waits=message.id in self._watch)

    async def _enter(self, message: Message) -> int:
        """Reserve the bytes that the message needs and return them; 0 if it is in the log already."""
        try:
            return self._room.enter(message)
        except NoRoomError as error:
            try:
                if await self._watch.has_logged(message.id):
                    return 0
            except StoreError as unknown:
                raise UnacknowledgedError(
                    INDETERMINATE, f"{error}, and whether it was sent before is unknown; {AGAIN}"
                ) from unknown
            raise UnacknowledgedError(503, f"{error}; the message was not accepted, send it again later") from error

    async def _log_and_put(self, message: Message) -> str:
        sent_before = message.id in self._watch
        logged = await self._write_log(message)
        self._watch.begin(message)
        try:
            await self._enqueue(message, logged, sent_before=sent_before or logged.repeated or not logged.new)
        finally:
            # Accepted or indeterminate: it is watched until it is stored, or certainly nowhere.
            self._watch.put(message.id)
        return logged.service

    async def _enqueue(self, message: Message, logged: Logged, *, sent_before: bool) -> None:
        if not logged.new:
            if await self._watch.has_arrived(message.id):
                return self._watch.settle(message.id)
            with contextlib.suppress(StoreError):
                await self._watch.revive(message.id)
        try:
            return await self._put(message)
        except (QueueFullError, QueueUnavailableError) as error:
            if sent_before:
                # It may be in the queue, or is redelivered; its log entry may be new because a merge lost the first.
                raise UnacknowledgedError(INDETERMINATE, f"{error}, and it was sent before; {AGAIN}") from error
            await self._take_back(message, logged, error)
            self._watch.settle(message.id)
            raise UnacknowledgedError(503, f"{error}; the message was not accepted, send it again later") from error
        except QueueError as error:
            raise UnacknowledgedError(INDETERMINATE, f"{error}; {AGAIN}") from error

    async def _put(self, message: Message) -> None:
        """Put into the queue, and repeat an indeterminate put: consumers drop an id that they know already."""
        with tracing.span("queue put", "producer"):
            if trace := tracing.traceparent():
                # The consumer continues the trace from here.
                message = dataclasses.replace(message, trace=trace)
            return await self._put_until_known(message)

    async def _put_until_known(self, message: Message) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + PUT_SECONDS
        doubt: QueueIndeterminateError | None = None
        while True:
            try:
                return await self._put_once(message)
            except QueueIndeterminateError as error:
                doubt = error
                if loop.time() >= end:
                    raise
                await asyncio.sleep(PUT_PAUSE)
            except QueueError as error:
                # The refusal of this attempt does not decide the indeterminate attempts before it.
                raise doubt or error from error

    async def _put_once(self, message: Message) -> None:
        if self._queue.gathers:
            return await self._queue.put([message])
        return await self._puts.submit(message)

    async def _put_all(self, messages: Sequence[Message]) -> Sequence[QueueError | None]:
        """Put messages into the queue together, or one by one if there is no room for all of them."""
        try:
            await self._queue.put(messages)
        except QueueFullError as error:
            return [error] if len(messages) == 1 else [await self._put_alone(message) for message in messages]
        return [None] * len(messages)

    async def _put_alone(self, message: Message) -> QueueError | None:
        try:
            await self._queue.put([message])
        except QueueError as error:
            return error
        return None

    async def _write_log(self, message: Message) -> Logged:
        try:
            with tracing.span("log", "client"):
                logged = await self._log(message)
        except ReplicasUnavailableError as error:
            if error.sent or message.id in self._watch:
                self._watch.expect(message)
                raise UnacknowledgedError(INDETERMINATE, f"{error}; {AGAIN}") from error
            raise UnacknowledgedError(503, f"{error}; the message was not accepted, send it again later") from error
        if logged.conflict:
            raise UnacknowledgedError(CONFLICT, logged.conflict)
        return logged

    async def _log(self, message: Message) -> Logged:
        if tracing.traceparent():
            # A traced message is sent alone: the span of the logging-service belongs to one trace.
            return (await self._log_all(self._logging.choose(), [message]))[0]
        return await self._logs.submit(message)

    async def _log_each(self, messages: Sequence[Message]) -> Sequence[Logged | MicroqError]:
        """Write each message into the log through a random logging-service; those of one service go together."""
        shares: dict[Address, list[Message]] = {}
        for message in messages:
            shares.setdefault(self._logging.choose(), []).append(message)
        found: dict[str, Logged | MicroqError] = {}

        async def write(address: Address, share: Sequence[Message]) -> None:
            ids = [message.id for message in share]
            try:
                found.update(zip(ids, await self._log_all(address, share), strict=True))
            except MicroqError as error:
                found.update(dict.fromkeys(ids, error))

        await asyncio.gather(*(write(*share) for share in shares.items()))
        # An id is in a batch only once, because each send holds the lock of its id.
        return [found[message.id] for message in messages]

    async def _log_all(self, address: Address, messages: Sequence[Message]) -> list[Logged]:
        """Write messages into the log together, through the logging-service at this address if it answers."""
        answer = await self._logging.call("POST", "/log", [message.to_wire() for message in messages], address)
        try:
            return _written(answer, messages)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # Something else listens on this port, and what it did with the request is unknown.
            odd = {str(answer.address): "not an answer of a logging-service"}
            raise ReplicasUnavailableError("logging-service", sent=True, reasons=odd) from error

    async def _take_back(self, message: Message, written: Logged, cause: QueueError) -> None:
        # Only the entry of this time: a hanging logging-service may carry out the request after the id was sent again.
        query = f"uuid={quote(message.id, safe='')}&at={written.at!r}"
        try:
            answer = await self._logging.call("DELETE", f"/log?{query}")
        except ReplicasUnavailableError as error:
            raise UnacknowledgedError(INDETERMINATE, f"{cause}, and its log entry is not removed: {error}") from error
        if answer.status != OK or "removed" not in answer.body:
            raise UnacknowledgedError(INDETERMINATE, f"{cause}, and removing its log entry: {answer.status}") from cause

    async def queue_view(self) -> dict[str, Any]:
        """Return the queue's size, owner and age; None for a fact that takes longer than `SIZE_SECONDS`."""
        size, owner, head = await asyncio.gather(
            _in_time(self._queue.size()), _in_time(self._queue.owner()), _in_time(self._queue.head())
        )
        return {"size": size, "owner": owner, "oldest_at": head.at if head and head != EMPTY else None}


def _written(answer: Answer, messages: Sequence[Message]) -> list[Logged]:
    """Read the answer of a logging-service. Raises `UnacknowledgedError`, or any error if the answer is malformed."""
    body = answer.body
    if answer.status >= BAD_REQUEST and "new" not in body:
        raise UnacknowledgedError(answer.status, body.get("message", "the logging-service refused the message"))
    conflicts = dict.fromkeys(body.get("uuids", ()), str(body.get("message", "")))
    return [
        Logged(str(body["service"]), new, at, answer.repeated, conflicts.get(message.id, ""))
        for message, new, at in zip(messages, body["new"], body["at"], strict=True)
    ]


def _weight(message: Message) -> int:
    """Return the largest number of bytes that a message takes in a batch: a character may take six in JSON."""
    return 6 * len(message.text) + ENVELOPE


async def _in_time(question: Awaitable[T]) -> T | None:
    with contextlib.suppress(TimeoutError, QueueError):
        async with asyncio.timeout(SIZE_SECONDS):
            return await question
    return None
