"""The Hazelcast client: connect, translate its errors, let only text through.

Facts about the client are from hazelcast-python-client 5.7.0, read in its source and seen here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from hazelcast.asyncio import HazelcastClient
from hazelcast.config import Config as ClientConfig
from hazelcast.errors import HazelcastError
from hazelcast.serialization.serialization_const import CONSTANT_TYPE_NULL, CONSTANT_TYPE_STRING

from microq.config import Address, Config
from microq.errors import DeadlineError
from microq.hz_scan import PagedMap
from microq.tasks import first

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_SECONDS = 30.0
"""How long `connect` waits for a cluster that is still starting."""

CALL_SECONDS = 10.0
"""How long one call may take, failover included; a member that hangs is declared dead well before."""


class AwayError(Exception):
    """The client has no member to talk to, and sent nothing."""


class UncertainError(Exception):
    """The call was sent, and whether it was carried out is not known."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """An item that is not text. It is never deserialized: the client would unpickle it, and so run its code."""

    type_id: int


def without_stack(record: logging.LogRecord) -> bool:
    """Tell in one line what ended a task of the client that nobody waits for, such as its ping of a killed member.

    A write to a connection that the member has just closed is such a task too.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HazelcastError) or (error and "HazelcastProtocol" in record.getMessage()):
        record.msg, record.args, record.exc_info = "a task of the Hazelcast client ended: %s", (told(error),), None
    return True


logging.getLogger("asyncio").addFilter(without_stack)


class Cluster:
    """A connected client. Made by `connect`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @property
    def connected(self) -> bool:
        """Whether there is a member to talk to now."""
        return bool(self._client.connection_manager_connections())

    async def queue(self, name: str) -> Any:
        """Return the client's proxy of the distributed queue `name`."""
        return await self._client.get_queue(name)

    async def map(self, name: str) -> Any:
        """Return the client's proxy of the distributed map `name`."""
        return await self._client.get_map(name)

    def on_join(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever a member joins, as one of a half that merges does."""
        self._client.cluster_service.add_listener(member_added=lambda _member: tell())

    async def owner(self, name: str) -> Address | None:
        """Return the member that owns the partition of the structure `name`, or None while nobody does."""
        partitions = self._client.partition_service
        owner = partitions.get_partition_owner(await partitions.get_partition_id(name))
        for member in self._client.cluster_service.get_members():
            if member.uuid == owner:
                return Address(member.address.host, member.address.port)
        return None

    async def call(self, request: Awaitable[T], seconds: float = CALL_SECONDS) -> T:
        """Await a call of a proxy under a deadline of `seconds`.

        Raises `AwayError` if nothing was sent, `UncertainError` if the outcome is not known. Not for calls that take
        something out of the cluster: a call that is given up drops its reply, and with it what it took.
        """
        if not self.connected:
            if asyncio.iscoroutine(request):
                request.close()
            raise AwayError
        try:
            async with asyncio.timeout(seconds):
                return await request
        except TimeoutError as error:
            raise UncertainError(f"no answer in {seconds:g} s") from error
        except (HazelcastError, OSError) as error:
            raise UncertainError(told(error)) from error
        except ExceptionGroup as group:
            # What a call on many keys raises, which is one on each partition.
            known, unknown = group.split((HazelcastError, OSError))
            if unknown or known is None:
                raise
            raise UncertainError(told(first(known))) from group


def told(error: BaseException) -> str:
    """Return what an error of the client says in one line; the rest is the server's stack."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


class _TextClient(HazelcastClient):  # type: ignore[misc]  # the client is untyped for mypy
    """The client, with the one method of its serialization that reads replaced."""

    def __init__(self, config: ClientConfig) -> None:
        super().__init__(config)
        service = self._serialization_service
        original = service.to_object

        def to_object(data: Any) -> Any:
            type_id = data.get_type() if hasattr(data, "get_type") else None
            if type_id is None or type_id in (CONSTANT_TYPE_NULL, CONSTANT_TYPE_STRING):
                return original(data)
            return Foreign(type_id)

        # Proxies take this method when they are made, which is after this.
        service.to_object = to_object

    def connection_manager_connections(self) -> dict[Any, Any]:
        connections: dict[Any, Any] = self._connection_manager.active_connections
        return connections

    async def get_map(self, name: str) -> PagedMap:
        plain = await super().get_map(name)  # which makes it known to the cluster
        return PagedMap(plain.service_name, name, self._context)

    async def start(self) -> None:
        await self._start()


def _client_config(config: Config, name: str) -> ClientConfig:
    client = ClientConfig()
    client.cluster_name = config.hazelcast.hazelcast_cluster_name
    client.cluster_members = [str(address) for address in config.hazelcast.hazelcast_clients]
    client.client_name = name
    # Without it a write whose backup acknowledgement is missing for 5 s returns success.
    client.fail_on_indeterminate_operation_state = True
    # Backups acknowledge to the owner, which answers when it has them all. Acknowledging to the client is a hop
    # less, but a member that the client does not listen to yet, as after a start, is then waited for in vain.
    client.backup_ack_to_client_enabled = False
    client.invocation_retry_pause = 0.1
    client.invocation_timeout = CALL_SECONDS
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
    """Connect to the cluster as the client `name`; raises `DeadlineError` if it is not there in `seconds`."""
    client = _TextClient(_client_config(config, name))
    try:
        try:
            async with asyncio.timeout(seconds):
                await client.start()
        except TimeoutError as error:
            members = ", ".join(map(str, config.hazelcast.hazelcast_clients))
            raise DeadlineError(f"no cluster answered at {members} in {seconds:g} s") from error
        yield Cluster(client)
    finally:
        await client.shutdown()
