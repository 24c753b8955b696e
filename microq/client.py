"""HTTP clients: of the facade, as its users see it, and of a group of equal services, in random order."""

from __future__ import annotations

import asyncio
import io
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from microq import tracing
from microq.config import Address
from microq.errors import DeadlineError, MicroqError, NotRunningError, UsageError
from microq.message import Message, Outcome, Reading, Receipt

ATTEMPT_SECONDS = 2.0
"""How long one replica may take before the next one is asked."""

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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a replica answered: the HTTP status and the decoded JSON body.

    `repeated` says whether another replica may have carried the request out before, without an answer.
    """

    address: Address
    status: int
    body: Any
    repeated: bool = False


class Replicas:
    """A group of equal services: each call goes to a random one, then to the others while none answers."""

    def __init__(self, session: aiohttp.ClientSession, group: str, addresses: Sequence[Address]) -> None:
        self._session, self._group, self.addresses = session, group, addresses

    async def call(self, method: str, path: str, body: Any = None, first: Address | None = None) -> Answer:
        """Send a request that may be carried out twice without harm, to the replica `first` before all others.

        An answer below 500 is final. Raises `ReplicasAwayError` when every replica failed.
        """
        sent = False
        reasons: dict[str, str] = {}
        in_order = random.sample(self.addresses, len(self.addresses))
        for address in sorted(in_order, key=lambda each: each != first) if first else in_order:
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    answer = await self._ask(address, method, path, body)
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

    async def read(self) -> Reading:
        """GET both sets. Raises `NotRunningError` if the facade does not answer."""
        body = await self.get("/facade?full=true")
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
        await _ask_json(self._session, "POST", self._address, f"/dead/{verb}", {"uuids": list(ids)})


def outcome_of(status: int, body: dict[str, Any], pause: float = 0.0) -> tuple[Outcome, dict[str, Any]]:
    """Return what an answer of the facade says of a message, and the other facts of its receipt."""
    if status == 200:  # noqa: PLR2004 - HTTP's "OK"
        return Outcome.ACKNOWLEDGED, {"logged_by": body.get("logging-service", "")}
    uncertain = status >= 500 and status != 503  # noqa: PLR2004 - 503: not accepted
    outcome = Outcome.INDETERMINATE if uncertain else Outcome.REJECTED
    return outcome, {"reason": f"{status} {body.get('message', '')}", "retry_after": pause}


async def get_json(session: aiohttp.ClientSession, address: Address, path: str, seconds: float = 10.0) -> Any:
    """GET a path of one service as JSON. Raises `NotRunningError` or `DeadlineError`."""
    return await _ask_json(session, "GET", address, path, seconds=seconds)


async def _ask_json(
    session: aiohttp.ClientSession, method: str, address: Address, path: str, body: Any = None, seconds: float = 10.0
) -> Any:
    try:
        async with asyncio.timeout(seconds), session.request(method, address.url + path, json=body) as response:
            body = await response.json(content_type=None)
    except TimeoutError as error:
        raise DeadlineError(f"{address} did not answer in {seconds:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NotRunningError(f"nothing of microq answers at {address}; `microq up` starts the system") from error
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
    return [read_wire(fields) for fields in await get_json(session, address, f"{path}?full=true", seconds=30.0)]
