"""A group of equal services: a request goes to a random one; one that hangs is left out for a while.

A replica that has not answered after `PATIENCE` is asked for its health (`GET /healthz`). If it answers, it is only
slow, as all are while the cluster recovers, and is waited for. If it does not, it hangs or is stopped, and another
replica gets the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from microq import tracing
from microq.aio import task_group
from microq.client import ATTEMPT_SECONDS, NOT_SENT, PIECE_SECONDS, in_words
from microq.config import Address
from microq.errors import MicroqError

log = logging.getLogger(__name__)

PATIENCE = 0.05
"""Seconds without an answer after which a replica is asked for its health."""

HEALTH_SECONDS = 0.05
"""Seconds for an answer about its health; then another replica gets the request too, 100 ms after the first one."""

BETWEEN_CHECKS = 0.5
"""Seconds after which a replica that is healthy and still has not answered is asked for its health again."""

SHORTEST_REST, LONGEST_REST = 0.25, 2.0
"""Seconds for which a replica is left out: twice as long each time, until it answers a request."""

MERGING = "Microq-Merging"
"""The header of an answer that may show only some of the messages: members joined, perhaps to merge.

Its value is `true`; other answers do not have it.
"""

_UNAVAILABLE, _SERVER_ERROR = 503, 500
"""HTTP statuses: the request was not carried out, try later; the lowest status of a server's error."""


class ReplicasUnavailableError(MicroqError):
    """No replica answered; `sent` says whether one of them may have carried out the request."""

    def __init__(self, group: str, sent: bool, reasons: dict[str, str]) -> None:  # noqa: FBT001 - a fact of the error
        self.group, self.sent, self.reasons = group, sent, reasons
        super().__init__(f"no {group} answered ({', '.join(f'{a}: {r}' for a, r in reasons.items())})")


class BrokenOffError(MicroqError):
    """An answer in pieces was cut off."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a replica: the HTTP status and the decoded JSON body.

    `repeated` says whether another replica may have carried out the request too, or may still do so.
    """

    address: Address
    status: int
    body: Any
    repeated: bool = False


class Stream:
    """An answer in pieces, of which the first has come. The caller closes it."""

    def __init__(self, address: Address, response: aiohttp.ClientResponse, first: bytes) -> None:
        self.address, self.first, self._response = address, first, response

    @property
    def whole(self) -> bool:
        """Whether the first piece is the whole answer."""
        return self._response.content.at_eof()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield all pieces, including the first one. Raises `BrokenOffError`."""
        piece = self.first
        while piece:
            yield piece
            try:
                async with asyncio.timeout(PIECE_SECONDS):
                    piece = await self._response.content.readany()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise BrokenOffError(f"{self.address} broke off its answer ({in_words(error)})") from error

    @property
    def merging(self) -> bool:
        """Whether it has the header `MERGING`: it may show only some of the messages."""
        return MERGING in self._response.headers

    def close(self) -> None:
        """Close the connection; if the answer has not ended, its server notices."""
        self._response.close()


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a replica gave no valid answer; `sent` says whether it may have carried out the request."""

    reason: str
    sent: bool


_Attempt = asyncio.Task[Answer | _Failure]


@dataclass(slots=True, eq=False)
class _Replica:
    """One service of the group; `rest` is how long it was left out last (seconds), 0 once it has answered a request."""

    address: Address
    rest: float = 0.0
    resting: asyncio.Task[None] | None = None
    check: asyncio.Task[bool] | None = None


class Replicas:
    """A group of equal services; each call goes to a random one of those that answer. `open_replicas` makes one.

    The health of replicas that are left out is checked by tasks of the group `tasks`.
    """

    def __init__(
        self, tasks: asyncio.TaskGroup, session: aiohttp.ClientSession, group: str, addresses: Sequence[Address]
    ) -> None:
        self._tasks, self._session, self._group, self.addresses = tasks, session, group, addresses
        self._replicas = [_Replica(address) for address in addresses]
        self._fit = list(addresses)

    def close(self) -> None:
        """End all health checks."""
        for replica in self._replicas:
            for task in (replica.resting, replica.check):
                if task is not None:
                    task.cancel()

    def choose(self) -> Address:
        """Return a random replica that is not left out, or of all if all are left out."""
        return random.choice(self._fit or [each.address for each in self._replicas])

    async def call(self, method: str, path: str, body: Any = None, first: Address | None = None) -> Answer:
        """Send a request that may be carried out twice without harm; the replica `first` is asked first.

        An answer with a status below 500 is final. Raises `ReplicasUnavailableError` if every replica failed.
        """
        return await self._first_of(lambda address: self._ask(address, method, path, body), first)

    async def open(self, path: str, query: Mapping[str, str]) -> Stream:
        """GET a long answer from the first replica that begins to answer. Raises as `call` does."""
        answer = await self._first_of(lambda address: self._open(address, path, query))
        stream: Stream = answer.body
        return stream

    async def _first_of(self, ask: Callable[[Address], Awaitable[Answer]], first: Address | None = None) -> Answer:
        failures: dict[str, _Failure] = {}
        in_flight: dict[_Attempt, _Replica] = {}
        waiting = self._in_order(first)
        async with task_group() as tasks:
            try:
                while waiting or in_flight:
                    if waiting:
                        newest = waiting.pop(0)
                        in_flight[tasks.create_task(self._attempt(ask, newest))] = newest
                    for attempt in await self._ended(in_flight, newest, more=bool(waiting)):
                        found = attempt.result()
                        replica = in_flight.pop(attempt)
                        if isinstance(found, Answer):
                            # A request in flight may be carried out later, even if its connection is closed.
                            repeated = bool(in_flight) or any(each.sent for each in failures.values())
                            return replace(found, repeated=repeated)
                        failures[str(replica.address)] = found
            finally:
                _let_go(in_flight)
        sent = any(failure.sent for failure in failures.values())
        raise ReplicasUnavailableError(self._group, sent, {address: f.reason for address, f in failures.items()})

    def _in_order(self, first: Address | None) -> list[_Replica]:
        """Return all replicas in the order in which they are asked: those that are left out last."""
        shuffled = random.sample(self._replicas, len(self._replicas))
        return sorted(shuffled, key=lambda each: (each.resting is not None, each.address != first))

    async def _ended(self, in_flight: Iterable[_Attempt], newest: _Replica, *, more: bool) -> set[_Attempt]:
        """Return the attempts that ended; none if `more` replicas can be asked and the newest one is not healthy."""
        attempts = set(in_flight)
        patience = PATIENCE if more else None
        while True:
            ended, _ = await asyncio.wait(attempts, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if ended:
                return ended
            check = self._health_check(newest)
            await asyncio.wait({*attempts, check}, return_when=asyncio.FIRST_COMPLETED)
            if check.done() and not check.result():
                return {attempt for attempt in attempts if attempt.done()}
            patience = BETWEEN_CHECKS

    async def _attempt(self, ask: Callable[[Address], Awaitable[Answer]], replica: _Replica) -> Answer | _Failure:
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                answer = await ask(replica.address)
        except NOT_SENT as error:
            failure = _Failure(f"cannot be reached ({in_words(error)})", sent=False)
        except (aiohttp.ClientResponseError, ValueError) as error:  # not a service of microq, but it answered
            return _Failure(f"no answer ({in_words(error)})", sent=True)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failure = _Failure(f"no answer ({in_words(error)})", sent=True)
        else:
            if answer.status < _SERVER_ERROR:
                replica.rest = 0.0
                return answer
            # 503: certainly not carried out; 504 or an internal error: indeterminate.
            return _Failure(f"{answer.status}", sent=answer.status != _UNAVAILABLE)
        self._leave_out(replica, failure.reason)
        return failure

    # -- health -------------------------------------------------------------------------------------------------------

    def _health_check(self, replica: _Replica) -> asyncio.Task[bool]:
        """Return the health check of a replica: one at a time, which all callers share."""
        if replica.check is None or replica.check.done():
            replica.check = self._tasks.create_task(self._check_health(replica))
        return replica.check

    async def _check_health(self, replica: _Replica) -> bool:
        lives = await self._answers_health(replica, HEALTH_SECONDS)
        if not lives:
            self._leave_out(replica, "it does not answer")
        return lives

    async def _answers_health(self, replica: _Replica, seconds: float) -> bool:
        """Return whether a replica answers a health request, with any answer."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with asyncio.timeout(seconds), self._session.get(replica.address.url + "/healthz"):
                return True
        return False

    def _leave_out(self, replica: _Replica, reason: str) -> None:
        if replica.resting is None:
            log.warning("%s at %s is left out until it answers: %s", self._group, replica.address, reason)
            replica.resting = self._tasks.create_task(self._rest(replica))
            self._fit.remove(replica.address)

    async def _rest(self, replica: _Replica) -> None:
        """Leave a replica out, and check its health after growing pauses."""
        lives = False
        while not lives:
            replica.rest = min(max(2 * replica.rest, SHORTEST_REST), LONGEST_REST)
            await asyncio.sleep(replica.rest)
            lives = await self._answers_health(replica, ATTEMPT_SECONDS)
        replica.resting = None
        self._fit.append(replica.address)
        log.info("%s at %s answers again", self._group, replica.address)

    # -- one request --------------------------------------------------------------------------------------------------

    async def _ask(self, address: Address, method: str, path: str, body: Any) -> Answer:
        # Letters are not escaped: the body would grow beyond the size that its client may send. A stream has no limit.
        data = None if body is None else io.BytesIO(json.dumps(body, ensure_ascii=False).encode())
        headers = {"Content-Type": "application/json", **tracing.headers()}
        async with self._session.request(method, address.url + path, data=data, headers=headers) as response:
            answer = await response.json(content_type=None)
            if not isinstance(answer, dict):
                raise ValueError("not a JSON object")  # noqa: TRY004 - as for what is not JSON: no service of microq
            return Answer(address, response.status, answer)

    async def _open(self, address: Address, path: str, query: Mapping[str, str]) -> Answer:
        response = await self._session.get(address.url + path, params=query, headers=tracing.headers())
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(response.close)
            response.raise_for_status()
            if not (first := await response.content.readany()):
                raise ValueError("an empty answer")
            stack.pop_all()
        return Answer(address, response.status, Stream(address, response, first))


@asynccontextmanager
async def open_replicas(
    session: aiohttp.ClientSession, group: str, addresses: Sequence[Address]
) -> AsyncIterator[Replicas]:
    """Open a client of a group of services; `group` is the name of their kind."""
    async with task_group() as tasks:
        replicas = Replicas(tasks, session, group, addresses)
        try:
            yield replicas
        finally:
            replicas.close()


def _let_go(attempts: Iterable[_Attempt]) -> None:
    """Cancel attempts that are no longer needed."""
    for attempt in attempts:
        attempt.cancel()
        if attempt.done() and isinstance(answer := attempt.result(), Answer) and isinstance(answer.body, Stream):
            answer.body.close()
