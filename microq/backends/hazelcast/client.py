"""The Hazelcast client: connects, translates errors, and reads only text.

Facts about the client are from hazelcast-python-client 5.7.0: read in its source, and observed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from hazelcast.asyncio import HazelcastClient
from hazelcast.config import Config as ClientConfig
from hazelcast.errors import AuthenticationError, HazelcastClientNotActiveError, HazelcastError
from hazelcast.internal.asyncio_proxy.map import Map
from hazelcast.protocol.builtin import DataCodec, EntryListCodec, FixSizedTypesCodec, ListMultiFrameCodec, StringCodec
from hazelcast.protocol.client_message import (
    REQUEST_HEADER_SIZE,
    SIZE_OF_FRAME_LENGTH_AND_FLAGS,
    OutboundMessage,
    create_initial_buffer,
)
from hazelcast.serialization.bits import BE_INT, INT_SIZE_IN_BYTES, LE_INT, LE_UINT16
from hazelcast.serialization.data import DATA_OFFSET
from hazelcast.serialization.serialization_const import CONSTANT_TYPE_NULL, CONSTANT_TYPE_STRING

from microq.aio import first
from microq.config import Address, Config
from microq.errors import DeadlineError, UsageError

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_SECONDS = 30.0
"""Seconds that `connect` waits for a cluster that is still starting."""

CALL_SECONDS = 5.0
"""Seconds that a call may take beyond the time after which a member that hangs is declared dead."""


class UnavailableError(Exception):
    """The client is connected to no member, and sent nothing."""


class IndeterminateError(Exception):
    """The call was sent; whether it was carried out is unknown."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """An item that is not text. It is never deserialized: the client would unpickle it and so execute its code."""

    type_id: int


def without_stack(record: logging.LogRecord) -> bool:
    """Filter of the log: shorten the error of a background task of the client to one line.

    Such a task is the ping of a killed member, or a write to a connection that the member has just closed. A task
    that ended because we shut the client down is not logged.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HazelcastClientNotActiveError):
        return False
    if isinstance(error, HazelcastError) or (error and "HazelcastProtocol" in record.getMessage()):
        record.msg, record.args, record.exc_info = "a task of the Hazelcast client ended: %s", (described(error),), None
    return True


logging.getLogger("asyncio").addFilter(without_stack)


class Cluster:
    """A connected client. `connect` makes it."""

    def __init__(self, client: Any, patience: float = CALL_SECONDS) -> None:
        self._client, self._patience = client, patience

    @property
    def connected(self) -> bool:
        """Whether it is connected to a member now."""
        return bool(self._client.connection_manager_connections())

    @property
    def retries(self) -> int:
        """The number of requests that the client has repeated by itself, as it does while a member leaves."""
        retries: int = self._client.retries
        return retries

    async def queue(self, name: str) -> Any:
        """Return the client's proxy of the distributed queue `name`."""
        return await self._client.get_queue(name)

    async def map(self, name: str) -> Any:
        """Return the client's proxy of the distributed map `name`."""
        return await self._client.get_map(name)

    def on_join(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever a member joins, for instance a member of a half that merges."""
        self._client.cluster_service.add_listener(member_added=lambda _member: tell())

    async def owner(self, name: str) -> Address | None:
        """Return the member that owns the partition of the structure `name`, or None if there is none."""
        partitions = self._client.partition_service
        owner = partitions.get_partition_owner(await partitions.get_partition_id(name))
        for member in self._client.cluster_service.get_members():
            if member.uuid == owner:
                return Address(member.address.host, member.address.port)
        return None

    async def call(self, request: Awaitable[T]) -> T:
        """Await a call of a proxy, for as long as a failover may take.

        Raises `UnavailableError` if nothing was sent, `IndeterminateError` if the outcome is unknown. Do not use it for
        calls that take items out of the cluster: a call that times out drops its reply and the items in it.
        """
        if not self.connected:
            if asyncio.iscoroutine(request):
                request.close()
            raise UnavailableError
        try:
            async with asyncio.timeout(self._patience):
                return await request
        except TimeoutError as error:
            raise IndeterminateError(f"no answer in {self._patience:g} s") from error
        except (HazelcastError, OSError) as error:
            raise IndeterminateError(described(error)) from error
        except ExceptionGroup as group:
            # A call on many keys is one call for each partition, and raises a group.
            known, unknown = group.split((HazelcastError, OSError))
            if unknown or known is None:
                raise
            raise IndeterminateError(described(first(known))) from group


def described(error: BaseException) -> str:
    """Return the first line of an error of the client; the other lines are the server's stack."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


class _TextClient(HazelcastClient):  # type: ignore[misc]  # the client is untyped for mypy
    """The client, with the method replaced that deserializes."""

    def __init__(self, config: ClientConfig) -> None:
        super().__init__(config)
        service = self._serialization_service
        original = service.to_object

        def to_object(data: Any) -> Any:
            type_id = data.get_type() if hasattr(data, "get_type") else None
            if type_id is None or type_id in (CONSTANT_TYPE_NULL, CONSTANT_TYPE_STRING):
                return original(data)
            return Foreign(type_id)

        # Proxies copy this method when they are made, which is later.
        service.to_object = to_object
        self.refused: set[Address] = set()
        """Members that have another cluster name or want other credentials: the client would try them for ever."""
        self.nobody_takes_it = asyncio.Event()
        """Set while every configured address belongs to such a member."""
        self.retries = 0
        invocations = self._invocation_service
        should_retry = invocations._should_retry  # noqa: SLF001 - no public call reports a retry

        def counted(invocation: Any, error: Any) -> bool:
            again = bool(should_retry(invocation, error))
            self.retries += again
            return again

        invocations._should_retry = counted  # noqa: SLF001
        connections, wanted = self._connection_manager, {Address.parse(each) for each in config.cluster_members}
        authenticate = connections._on_auth  # noqa: SLF001 - no public call gives the reason

        async def on_auth(response: Any, connection: Any) -> Any:
            try:
                return await authenticate(response, connection)
            except AuthenticationError:
                at = connection.connected_address
                self.refused.add(Address(at.host, at.port))
                if self.refused >= wanted:
                    self.nobody_takes_it.set()
                raise

        connections._on_auth = on_auth  # noqa: SLF001

    def connection_manager_connections(self) -> dict[Any, Any]:
        connections: dict[Any, Any] = self._connection_manager.active_connections
        return connections

    async def get_map(self, name: str) -> PagedMap:
        plain = await super().get_map(name)  # this makes it known to the cluster
        return PagedMap(plain.service_name, name, self._context)

    async def start(self) -> None:
        await self._start()


def call_seconds(config: Config) -> float:
    """Return the seconds that a call may take, failover included: more than until a hanging member is declared dead."""
    return config.hazelcast.heartbeat_timeout + CALL_SECONDS


def _client_config(config: Config, name: str) -> ClientConfig:
    client = ClientConfig()
    client.cluster_name = config.hazelcast.hazelcast_cluster_name
    client.cluster_members = [str(address) for address in config.hazelcast.hazelcast_clients]
    client.client_name = name
    # Without it a write whose backup acknowledgement is missing for 5 s returns success.
    client.fail_on_indeterminate_operation_state = True
    # Backups acknowledge to the owner, which answers when it has them all. Acknowledging to the client is a hop
    # less, but the client would wait for a member that it does not listen to yet, as after a start.
    client.backup_ack_to_client_enabled = False
    client.invocation_retry_pause = 0.1
    client.invocation_timeout = call_seconds(config)
    client.heartbeat_interval = 1.0
    client.heartbeat_timeout = float(config.hazelcast.heartbeat_timeout)
    client.connection_timeout = 2.0
    client.retry_initial_backoff = 0.05
    client.retry_max_backoff = 0.5
    client.retry_multiplier = 1.5
    # A service outlives its cluster: it reconnects for as long as it runs.
    client.cluster_connect_timeout = -1
    return client


@asynccontextmanager
async def connect(config: Config, name: str, seconds: float = CONNECT_SECONDS) -> AsyncIterator[Cluster]:
    """Connect to the cluster as the client `name`.

    Raises `DeadlineError` if no member accepts it within `seconds`, `UsageError` if the members refuse the client.
    """
    client = _TextClient(_client_config(config, name))
    try:
        if not await _started(client, seconds):
            raise _refused(config, client.refused) if client.refused else _silent(config, seconds)
        yield Cluster(client, call_seconds(config))
    finally:
        await client.shutdown()


async def _started(client: _TextClient, seconds: float) -> bool:
    """Return whether a client is connected to a member within `seconds`; False at once if every member refuses it."""
    tasks = [asyncio.create_task(client.start()), asyncio.create_task(client.nobody_takes_it.wait())]
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if tasks[0] in done:
        tasks[0].result()
    return tasks[0] in done


def _refused(config: Config, by: Iterable[Address]) -> UsageError:
    name = config.hazelcast.hazelcast_cluster_name
    return UsageError(
        f"the cluster at {', '.join(map(str, sorted(by)))} refuses the client: its name is not "
        f'"{name}", as [hazelcast] hazelcast-cluster-name says, or it wants a password'
    )


def _silent(config: Config, seconds: float) -> DeadlineError:
    members = ", ".join(map(str, config.hazelcast.hazelcast_clients))
    return DeadlineError(f"no cluster answered at {members} in {seconds:g} s")


_FETCH_KEYS = 0x013700
_FETCH_ENTRIES = 0x013800

_FINAL_FRAME = 1 << 13
_TEXT = DATA_OFFSET + INT_SIZE_IN_BYTES
_POINTER = 2 * INT_SIZE_IN_BYTES

Place = tuple[tuple[int, int], ...]

START: Place = ((2**31 - 1, -1),)
"""The place of a partition's first page."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some keys or values of a partition; `place` is where the next page begins, None if it was the last page."""

    items: Sequence[Any]
    place: Place | None


class PagedMap(Map):  # type: ignore[misc]  # the client is untyped for mypy
    """The client's proxy of a map, with two requests of the protocol that the Python client lacks: to read a page.

    A page begins at a place, which the member returned with the page before. A place is a list of (index, size): the
    position in the hash table of a partition, and the size of the table at that time. The position of an entry follows
    from its key, so a place is valid on every member; if the table has grown, the member skips what it has returned.
    An entry that exists all the time comes once; one that is written or removed meanwhile may or may not come.
    """

    def partitions(self) -> int:
        """Return the number of partitions, including empty ones."""
        return int(self._partition_service.partition_count)

    async def page_of_keys(self, partition: int, place: Place, most: int) -> Page:
        """Return at most about `most` keys of a partition from a place on."""
        return await self._page(_FETCH_KEYS, partition, place, most)

    async def page_of_values(self, partition: int, place: Place, most: int) -> Page:
        """Return at most about `most` values of a partition from a place on."""
        return await self._page(_FETCH_ENTRIES, partition, place, most)

    async def _page(self, kind: int, partition: int, place: Place, most: int) -> Page:
        def decode(answer: Any) -> Page:
            answer.next_frame()  # the header
            following = _read_place(answer.next_frame().buf)
            if kind == _FETCH_KEYS:
                found = ListMultiFrameCodec.decode(answer, DataCodec.decode)
            else:
                found = [value for _, value in EntryListCodec.decode(answer, DataCodec.decode, DataCodec.decode)]
            ended = not found or following[-1][0] < 0
            return Page([self._read(data) for data in found], None if ended else following)

        page: Page = await self._ainvoke_on_partition(_request(kind, self.name, place, most), partition, decode)
        return page

    def _read(self, data: Any) -> Any:
        """Return text; anything else is read as the client reads it."""
        if data.get_type() != CONSTANT_TYPE_STRING:
            return self._to_object(data)
        # The same as the client does, in a third of the time: a length, then this number of bytes of UTF-8.
        raw = data.buffer
        length: int = BE_INT.unpack_from(raw, DATA_OFFSET)[0]
        return raw[_TEXT : _TEXT + length].decode(errors="replace")


def _request(kind: int, name: str, place: Place, most: int) -> Any:
    buffer = create_initial_buffer(REQUEST_HEADER_SIZE + INT_SIZE_IN_BYTES, kind)
    FixSizedTypesCodec.encode_int(buffer, REQUEST_HEADER_SIZE, most)
    StringCodec.encode(buffer, name)
    frame = bytearray(SIZE_OF_FRAME_LENGTH_AND_FLAGS + len(place) * _POINTER)
    LE_INT.pack_into(frame, 0, len(frame))
    LE_UINT16.pack_into(frame, INT_SIZE_IN_BYTES, _FINAL_FRAME)
    for number, (index, size) in enumerate(place):
        offset = SIZE_OF_FRAME_LENGTH_AND_FLAGS + number * _POINTER
        FixSizedTypesCodec.encode_int(frame, offset, index)
        FixSizedTypesCodec.encode_int(frame, offset + INT_SIZE_IN_BYTES, size)
    buffer.extend(frame)
    return OutboundMessage(buffer, True)  # noqa: FBT003 - the client's word for a request that may be repeated


def _read_place(frame: Any) -> Place:
    return tuple(
        (
            FixSizedTypesCodec.decode_int(frame, offset),
            FixSizedTypesCodec.decode_int(frame, offset + INT_SIZE_IN_BYTES),
        )
        for offset in range(0, len(frame), _POINTER)
    )
