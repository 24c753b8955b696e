"""HTTP clients: of the facade, as its users see it, and of a group of equal services, in random order."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import aiohttp

from microq import tracing
from microq.config import Address
from microq.errors import DeadlineError, MicroqError, NotRunningError, UsageError
from microq.message import Message, Outcome, Reading, Receipt

ATTEMPT_SECONDS = 2.0
"""How long one replica may take before the next one is asked."""

PIECE_SECONDS = 10.0
"""How long an answer may pause between two of its pieces."""

SEND_SECONDS = 20.0
"""How long the facade may take for one message, failover of the cluster included."""

_NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Errors that say that the request never left."""


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session that keeps its connections and sets no limit to their number."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=20)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=ATTEMPT_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield session


class ReplicasAwayError(MicroqError):
    """No replica answered; `sent` says whether one of them may have carried the request out."""

    def __init__(self, group: str, sent: bool, reasons: dict[str, str]) -> None:  # noqa: FBT001 - a fact of the error
        self.group, self.sent, self.reasons = group, sent, reasons
        super().__init__(f"no {group} answered ({', '.join(f'{a}: {r}' for a, r in reasons.items())})")


class BrokenOffError(MicroqError):
    """An answer that came in pieces has no end."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a replica answered: the HTTP status and the decoded JSON body.

    `repeated` says whether another replica may have carried the request out before, without an answer.
    """

    address: Address
    status: int
    body: Any
    repeated: bool = False


class Stream:
    """An answer that comes in pieces, the first of which is here. It is to be closed."""

    def __init__(self, address: Address, response: aiohttp.ClientResponse, first: bytes) -> None:
        self.address, self.first, self._response = address, first, response

    @property
    def whole(self) -> bool:
        """Whether the first piece is all of it."""
        return self._response.content.at_eof()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield all pieces, the first one too. Raises `BrokenOffError`."""
        piece = self.first
        while piece:
            yield piece
            try:
                async with asyncio.timeout(PIECE_SECONDS):
                    piece = await self._response.content.readany()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise BrokenOffError(f"{self.address} broke off its answer ({type(error).__name__})") from error

    def close(self) -> None:
        """Let go of the connection; where the answer has not ended its server notices."""
        self._response.close()


class Replicas:
    """A group of equal services: each call goes to a random one, then to the others while none answers."""

    def __init__(self, session: aiohttp.ClientSession, group: str, addresses: Sequence[Address]) -> None:
        self._session, self._group, self.addresses = session, group, addresses

    async def call(self, method: str, path: str, body: Any = None, first: Address | None = None) -> Answer:
        """Send a request that may be carried out twice without harm, to the replica `first` before all others.

        An answer below 500 is final. Raises `ReplicasAwayError` when every replica failed.
        """
        return await self._first_of(lambda address: self._ask(address, method, path, body), first)

    async def open(self, path: str, query: Mapping[str, str]) -> Stream:
        """GET what may be long, of the first replica that begins to answer. Raises as `call` does."""
        answer = await self._first_of(lambda address: self._open(address, path, query))
        stream: Stream = answer.body
        return stream

    async def _first_of(self, ask: Callable[[Address], Awaitable[Answer]], first: Address | None = None) -> Answer:
        sent = False
        reasons: dict[str, str] = {}
        in_order = random.sample(self.addresses, len(self.addresses))
        for address in sorted(in_order, key=lambda each: each != first) if first else in_order:
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    answer = await ask(address)
            except _NOT_SENT as error:
                reasons[str(address)] = f"unreachable ({type(error).__name__})"
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                sent = True
                reasons[str(address)] = f"no answer ({type(error).__name__})"
            else:
                if answer.status < 500:  # noqa: PLR2004 - HTTP's server errors
                    return replace(answer, repeated=sent)
                # 503 says that nothing was done; 504, and an error of its own, leave it open.
                sent = sent or answer.status != 503  # noqa: PLR2004 - HTTP's "unavailable"
                reasons[str(address)] = f"{answer.status}"
        raise ReplicasAwayError(self._group, sent, reasons)

    async def _ask(self, address: Address, method: str, path: str, body: Any) -> Answer:
        # Text as it is: escaped it would grow beyond what the client was allowed to send. A stream, for any size.
        data = None if body is None else io.BytesIO(json.dumps(body, ensure_ascii=False).encode())
        headers = {"Content-Type": "application/json", **tracing.headers()}
        async with self._session.request(method, address.url + path, data=data, headers=headers) as response:
            return Answer(address, response.status, await response.json(content_type=None))

    async def _open(self, address: Address, path: str, query: Mapping[str, str]) -> Answer:
        response = await self._session.get(address.url + path, params=query, headers=tracing.headers())
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(response.close)
            response.raise_for_status()
            if not (first := await response.content.readany()):
                raise ValueError("an empty answer")
            stack.pop_all()
        return Answer(address, response.status, Stream(address, response, first))


class FacadeClient:
    """A user of the facade. It makes the ids, and so can count what became of each."""

    def __init__(self, session: aiohttp.ClientSession, address: Address) -> None:
        self._session, self._address = session, address

    async def send(self, text: str, message_id: str = "", seconds: float = SEND_SECONDS) -> Receipt:
        """POST one message and return what is known of it afterwards; no error is raised for a failed send."""
        message_id = message_id or str(uuid.uuid4())
        began = time.perf_counter()
        outcome, details = await self._post(message_id, text, seconds)
        return Receipt(message_id, text, outcome, time.perf_counter() - began, **details)

    async def _post(self, message_id: str, text: str, seconds: float) -> tuple[Outcome, dict[str, Any]]:
        headers = {"Idempotency-Key": message_id}
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.post(self._address.url + "/facade", json={"msg": text}, headers=headers) as response,
            ):
                body = await response.json(content_type=None)
                return outcome_of(response.status, body, float(response.headers.get("Retry-After", 0)))
        except _NOT_SENT:
            return Outcome.REJECTED, {"reason": f"no facade at {self._address}"}
        except TimeoutError:
            return Outcome.INDETERMINATE, {"reason": f"no answer in {seconds:g} s"}
        except (aiohttp.ClientError, OSError, ValueError, AttributeError) as error:
            return Outcome.INDETERMINATE, {"reason": f"the connection broke ({type(error).__name__})"}

    async def read(self, limit: int | None = None, after: float | None = None) -> Reading:
        """GET both sets, or of each the oldest `limit` of what is later than `after`, in seconds since the epoch.

        Raises `UsageError`, `NotRunningError` or `DeadlineError`.
        """
        asked = {"full": "true", "limit": limit, "after": after}
        body = await self.get("/facade?" + urlencode({key: value for key, value in asked.items() if value is not None}))
        return Reading(
            logs=tuple(map(read_wire, body["logs"])),
            messages=tuple(map(read_wire, body["message"])),
            logging_service=body["logging-service"],
            messages_service=body["messages-service"],
        )

    async def get(self, path: str) -> Any:
        """GET any path of the facade as JSON. Raises `NotRunningError` or `DeadlineError`."""
        return await get_json(self._session, self._address, path)

    async def dead_letters(self) -> list[dict[str, Any]]:
        """Return the dead letters as the facade shows them, oldest first. Raises as `get` does."""
        letters: list[dict[str, Any]] = await self.get("/dead")
        return letters

    async def change_letters(self, verb: str, ids: Sequence[str]) -> None:
        """Replay or drop dead letters, all or, if one is none, nothing: `UsageError`. Else raises as `get` does."""
        await _ask_json(self._session, "POST", self._address, f"/dead/{verb}", PIECE_SECONDS, {"uuids": list(ids)})


def outcome_of(status: int, body: dict[str, Any], pause: float = 0.0) -> tuple[Outcome, dict[str, Any]]:
    """Return what an answer of the facade says of a message, and the other facts of its receipt."""
    if status == 200:  # noqa: PLR2004 - HTTP's "OK"
        return Outcome.ACKNOWLEDGED, {"logged_by": body.get("logging-service", "")}
    uncertain = status >= 500 and status != 503  # noqa: PLR2004 - 503: not accepted
    outcome = Outcome.INDETERMINATE if uncertain else Outcome.REJECTED
    return outcome, {"reason": f"{status} {body.get('message', '')}", "retry_after": pause}


async def get_json(session: aiohttp.ClientSession, address: Address, path: str, seconds: float = PIECE_SECONDS) -> Any:
    """GET a path of one service as JSON of any length, none of it later than `seconds` after what came before it.

    Raises `NotRunningError` or `DeadlineError`.
    """
    return await _ask_json(session, "GET", address, path, seconds)


async def _ask_json(
    session: aiohttp.ClientSession, method: str, address: Address, path: str, seconds: float, body: Any = None
) -> Any:
    # By pieces: how long the whole of it takes depends on how much there is to tell.
    patience = aiohttp.ClientTimeout(total=None, sock_connect=min(seconds, ATTEMPT_SECONDS), sock_read=seconds)
    try:
        async with session.request(method, address.url + path, json=body, timeout=patience) as response:
            body = await response.json(content_type=None)
    except TimeoutError as error:
        raise DeadlineError(f"{address} did not answer in {seconds:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NotRunningError(
            f"nothing of microq answers at {address}; `microq up` starts the system, `microq status` shows it"
        ) from error
    if response.status != 200:  # noqa: PLR2004 - HTTP's "OK"
        told = body.get("message", body) if isinstance(body, dict) else body
        if response.status == 400:  # noqa: PLR2004 - HTTP's "bad request"
            raise UsageError(told)
        raise NotRunningError(f"{address} answered {response.status}: {told}")
    return body


def read_wire(fields: Any) -> Message:
    """Read a message as the services show it with `?full=true`."""
    return Message(fields["uuid"], fields["msg"], float(fields["at"]), fields["by"])


async def read_messages(session: aiohttp.ClientSession, address: Address, path: str) -> list[Message]:
    """Return everything that one logging-service (`/log`) or messages-service (`/messages`) shows."""
    return [read_wire(fields) for fields in await get_json(session, address, f"{path}?full=true")]
