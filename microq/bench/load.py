"""The load: messages over kept connections, at a fixed rate or through the batch API, and reads; with their results.

A load generator shares the machine with the system that it measures: aiohttp's client takes five times as long for a
POST and would be the bottleneck. `Connection` supports only the part of HTTP that microq's services use for a POST.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import aiohttp

from microq.backends.hazelcast import client as hz
from microq.client import in_words, one_by_one, send_all
from microq.config import Address, Config
from microq.errors import DeadlineError, NotRunningError
from microq.message import Message, Outcome

OK = 200


class Answer:
    """An answer: its status, and its head and body, which are parsed only if needed."""

    __slots__ = ("body", "head", "status")

    def __init__(self, status: int, head: bytes, body: bytes) -> None:
        self.status, self.head, self.body = status, head, body

    @property
    def retry_after(self) -> float:
        """The pause in seconds that the service asked for."""
        return float(_field(self.head, b"retry-after:") or 0)

    @property
    def reason(self) -> str:
        """Why it is not an acknowledgement, if possible in the service's words."""
        try:
            return str(json.loads(self.body)["message"])
        except (ValueError, LookupError, TypeError):
            return f"answered {self.status}"


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._got = b""
        self._answer: asyncio.Future[Answer] | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)  # that of TCP

    def connection_lost(self, _error: Exception | None) -> None:
        """Fail the waiting request."""
        self._transport = None
        self._fail("the connection was closed")

    def data_received(self, data: bytes) -> None:
        """Finish the waiting request when the answer is complete."""
        self._got = self._got + data if self._got else data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._got[:end].lower()
        length = _field(head, b"content-length:")
        if length is None:
            self._fail("an answer without a length")
        elif len(self._got) >= end + 4 + int(length):
            body, self._got = self._got[end + 4 :], b""
            if self._answer and not self._answer.done():
                self._answer.set_result(Answer(int(head[9:12]), head, body))

    def _fail(self, why: str) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionError(why))

    def post(self, path: str, message_id: str, body: bytes) -> asyncio.Future[Answer]:
        """Send a message; the future fails with `ConnectionError` if no answer can come."""
        if self._transport is None:
            raise ConnectionError("the connection is closed")
        self._answer = self._loop.create_future()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {message_id}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        return self._answer

    def close(self) -> None:
        """Close it at once."""
        if self._transport:
            self._transport.abort()


def _field(head: bytes, name: bytes) -> bytes | None:
    """Return the value of a header; the head is in lower case."""
    begin = head.find(b"\r\n" + name)
    if begin < 0:
        return None
    begin += 2 + len(name)
    end = head.find(b"\r\n", begin)
    return head[begin : end if end >= 0 else None].strip()


@asynccontextmanager
async def open_connections(address: Address, count: int) -> AsyncIterator[list[Connection]]:
    """Open `count` connections; raises `NotRunningError` if no process listens."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(count):
            try:
                _, connection = await loop.create_connection(Connection, address.host, address.port)
            except OSError as error:
                raise NotRunningError(f"nothing listens at {address}") from error
            stack.callback(connection.close)
            opened.append(connection)
        yield opened


TEXT = "a message of the benchmark"

LONGEST_PAUSE = 1.0
"""Maximum seconds that a connection waits if the facade asks for a pause."""

ANSWER_SECONDS = 20.0
"""Seconds that the last answers may take, failover of the cluster included."""

TICK = 0.0005
"""A message that is due within this number of seconds is sent at once: the loop's clock has no finer resolution."""

_BODY = json.dumps({"msg": TEXT}).encode()


@dataclass(frozen=True, slots=True)
class Sent:
    """The result of sending for `seconds`, until the last answer.

    `latencies` are those of the acknowledged messages, in seconds, sorted. `client_cpu` is the share of one core that
    this process used: near 1 the generator was the bottleneck. `reason` is that of the last failure with an answer.
    """

    acknowledged: int
    failed: int
    seconds: float
    latencies: tuple[float, ...]
    client_cpu: float
    reason: str = ""

    @property
    def per_second(self) -> float:
        """The number of messages that were acknowledged per second."""
        return self.acknowledged / self.seconds


async def send_for(address: Address, connections: int, seconds: float) -> Sent:
    """Send one message after another over each connection; each waits for its answer, with a deadline.

    Raises `NotRunningError` if no process listens.
    """
    latencies: list[float] = []
    sent, reason = 0, ""
    prefix, clock = uuid.uuid4().hex, time.perf_counter

    async def work(connection: Connection, began: float) -> None:
        nonlocal sent, reason
        while (now := clock()) - began < seconds:
            sent += 1
            try:
                answer = await connection.post("/facade", f"{prefix}-{sent}", _BODY)
            except OSError:
                return
            if answer.status == OK:
                latencies.append(clock() - now)
                continue
            reason = answer.reason
            await asyncio.sleep(min(answer.retry_after, LONGEST_PAUSE))

    took, cpu = await _all_at_work(address, connections, seconds, work)
    rounded = tuple(round(each, 6) for each in sorted(latencies))
    return Sent(len(latencies), sent - len(latencies), took, rounded, cpu, reason)


@dataclass(frozen=True, slots=True)
class Spaced:
    """The result of sending at a fixed rate for `seconds`, until the last answer.

    `acknowledged` is id -> wall time of the acknowledgement. `late_s` is the largest delay of a message: if every
    connection waits for an answer, the rate is not kept. `reason` is as in `Sent`.
    """

    acknowledged: Mapping[str, float]
    failed: int
    seconds: float
    late_s: float
    client_cpu: float
    reason: str = ""

    @property
    def per_second(self) -> float:
        """The number of messages that were acknowledged per second."""
        return len(self.acknowledged) / self.seconds


async def send_spaced(address: Address, connections: int, rate: float, seconds: float) -> Spaced:
    """Send `rate` messages a second without waiting for earlier ones, if there are enough connections.

    Raises `NotRunningError` if no process listens.
    """
    acknowledged: dict[str, float] = {}
    late, taken, reason = 0.0, 0, ""
    prefix, clock = uuid.uuid4().hex, time.perf_counter
    most = math.ceil(rate * seconds)

    async def work(connection: Connection, began: float) -> None:
        nonlocal late, taken, reason
        while taken < most:
            number, taken = taken, taken + 1
            wait = began + number / rate - clock()
            if wait > TICK:
                await asyncio.sleep(wait)
            late = max(late, clock() - began - number / rate)
            try:
                answer = await connection.post("/facade", f"{prefix}-{number}", _BODY)
            except OSError:
                return
            if answer.status == OK:
                acknowledged[f"{prefix}-{number}"] = time.time()
            else:
                reason = answer.reason

    took, cpu = await _all_at_work(address, connections, seconds, work)
    return Spaced(acknowledged, taken - len(acknowledged), took, late, cpu, reason)


async def _all_at_work(
    address: Address, connections: int, seconds: float, work: Callable[[Connection, float], Coroutine[Any, Any, None]]
) -> tuple[float, float]:
    """Run `work` on each connection, with the common start time, for about `seconds`.

    Return the seconds until the last answer, and the share of one core that this process used.
    """
    async with open_connections(address, connections) as opened:
        began, used = time.perf_counter(), time.process_time()
        # A message without an answer by then has failed; a deadline for each message would cost too much.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + ANSWER_SECONDS), asyncio.TaskGroup() as tasks:
                for connection in opened:
                    tasks.create_task(work(connection, began))
        took = time.perf_counter() - began
        return took, (time.process_time() - used) / took


IN_FLIGHT = 256
"""Messages in flight at the same time, as in `microq send`."""

MARK = "of the benchmark"
"""The part that all texts of the benchmark contain, by which a reader counts them."""

TEXT_LENGTH = 100

ENOUGH = 0.99
"""The share of messages that must be acknowledged: a rate of refusals is not a rate of messages."""


@dataclass(frozen=True, slots=True)
class Batched:
    """The result of a batch, until its last outcome. `client_cpu` is the share of one core of the sender.

    `reason` is that of the last failure.
    """

    acknowledged: int
    failed: int
    seconds: float
    client_cpu: float
    reason: str = ""

    @property
    def per_second(self) -> float:
        """The number of messages that were acknowledged per second."""
        return self.acknowledged / self.seconds


async def send_lines(session: aiohttp.ClientSession, address: Address, count: int) -> Batched:
    """Send `count` texts of 100 characters through the batch API; stop if too many fail."""
    acknowledged, failed, reason = 0, 0, ""
    began, used = time.perf_counter(), time.process_time()
    async for receipt in send_all(session, address, one_by_one(_texts(count)), IN_FLIGHT):
        if receipt.outcome is Outcome.ACKNOWLEDGED:
            acknowledged += 1
        else:
            failed, reason = failed + 1, receipt.reason
            if failed > (1 - ENOUGH) * count:
                break  # each refusal causes a pause, so the rest would take too long
    took = time.perf_counter() - began
    return Batched(acknowledged, failed, took, (time.process_time() - used) / took, reason)


def _texts(count: int) -> Iterator[str]:
    return (f"line {number} {MARK} ".ljust(TEXT_LENGTH, ".") for number in range(count))


READ_SECONDS = 120.0
"""Maximum seconds of one read."""


@dataclass(frozen=True, slots=True)
class Read:
    """One GET: status, length, number of texts of the benchmark, and seconds until its end."""

    status: int
    bytes: int
    texts: int
    seconds: float
    first_s: float
    """Seconds until its first byte."""


async def read(session: aiohttp.ClientSession, address: Address, path: str) -> Read:
    """Read a path to its end without keeping it. Raises `NotRunningError` or `DeadlineError`."""
    mark, rest = MARK.encode(), b""
    length = texts = 0
    first = None
    began = time.perf_counter()
    try:
        async with asyncio.timeout(READ_SECONDS), session.get(address.url + path) as response:
            async for piece in response.content.iter_any():
                first = first or time.perf_counter()
                length += len(piece)
                seen = rest + piece
                texts += seen.count(mark)
                rest = seen[-len(mark) + 1 :]
    except TimeoutError as error:
        raise DeadlineError(f"{address}{path} was not read in {READ_SECONDS:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise NotRunningError(f"reading {address}{path} broke off ({in_words(error)})") from error
    ended = time.perf_counter()
    return Read(response.status, length, texts, ended - began, (first or ended) - began)


async def read_for(session: aiohttp.ClientSession, address: Address, path: str, seconds: float) -> int:
    """Read a path repeatedly for `seconds`, until the last read has ended; return how often."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        await read(session, address, path)
        count += 1
    return count


# -- of the bare client of Hazelcast, on the same members --------------------------------------------------------------

BATCH = 256

ROUND = 20
"""Batches of one round. Between rounds the queue is emptied, unmeasured: the members' memory is limited."""


@dataclass(frozen=True, slots=True)
class Bare:
    """Items per second: appended to a queue in batches, and put into a map if absent, with `IN_FLIGHT` in flight."""

    add_all_per_s: float
    put_if_absent_per_s: float


async def bare(config: Config, seconds: float) -> Bare:
    """Measure each for this time, on structures of its own, which are destroyed afterwards.

    There is no facade, no log and no consumer. Such a queue has one backup, where the one of the system has
    `[queue] backup-count`. Raises `DeadlineError` without a cluster, and the client's errors as `hz.UnavailableError`
    and `hz.IndeterminateError`.
    """
    async with hz.connect(config, "bench") as cluster:
        name = f"bench-{uuid.uuid4().hex}"
        queue, keys = await cluster.queue(name), await cluster.map(name)
        try:
            return Bare(await _append(cluster, queue, seconds), await _put(cluster, keys, seconds))
        finally:
            await cluster.call(queue.destroy())
            await cluster.call(keys.destroy())


async def _append(cluster: hz.Cluster, queue: Any, seconds: float) -> float:
    items = [Message(str(uuid.uuid4()), TEXT, time.time()).to_json() for _ in range(BATCH)]
    took = count = 0.0
    while took < seconds:
        began = time.perf_counter()
        for _ in range(ROUND):
            await cluster.call(queue.add_all(items))
        took += time.perf_counter() - began
        count += ROUND * BATCH
        await cluster.call(queue.clear())
    return count / took


async def _put(cluster: hz.Cluster, keys: Any, seconds: float) -> float:
    count = 0
    began = time.perf_counter()

    async def work() -> None:
        nonlocal count
        while time.perf_counter() - began < seconds:
            message = Message(str(uuid.uuid4()), TEXT, time.time())
            await cluster.call(keys.put_if_absent(message.id, message.to_json()))
            count += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(BATCH):
            tasks.create_task(work())
    return count / (time.perf_counter() - began)
