"""The tables of a configuration: their keys, with meanings, checks and defaults.

The table of a backend is in its package; that of the members is here, because every system has members.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from microq import values
from microq.values import Address


def key(check: Callable[[Any], Any], default: Any) -> Any:
    """Return the field of a key, with the check of its values and its default."""
    return field(default=default, metadata={"check": check})


def local(*ports: int) -> tuple[Address, ...]:
    """Return addresses of this machine."""
    return tuple(Address("127.0.0.1", port) for port in ports)


@dataclass(frozen=True, slots=True)
class ServiceIps:
    """Table `[service_ips]`: the addresses of the services."""

    messages_service: tuple[Address, ...] = key(values.addresses, local(5001, 5002))
    logging_service: tuple[Address, ...] = key(values.addresses, local(5003, 5004, 5005))
    facade_service: Address = key(Address.parse, *local(5000))
    config_service: Address = key(Address.parse, *local(5006))


@dataclass(frozen=True, slots=True)
class Hazelcast:
    """Table `[hazelcast]`: the members, which keep the maps, whatever backend keeps the queue.

    A member that is silent for `heartbeat_timeout` seconds is declared dead. Heartbeats older than half of that are
    ignored.

    `split_brain` decides what happens if the halves of a cluster cannot see each other: with `merge` both continue and
    their maps are merged afterwards; with `refuse` only the majority continues.

    `environment` lists variables, each `NAME=value`, that the members get beside the harmless ones of this process.
    """

    hazelcast_cluster_name: str = key(values.text, "microservice")
    hazelcast_clients: tuple[Address, ...] = key(values.addresses, local(5701, 5702, 5703))
    managed: bool = key(values.flag, default=True)
    heap: str = key(values.heap, "256m")
    partition_count: int = key(values.whole(1, 271), 13)
    heartbeat_timeout: int = key(values.whole(2, 300), 15)
    split_brain: str = key(values.one_of("merge", "refuse"), "merge")
    environment: tuple[str, ...] = key(values.variables, ())


@dataclass(frozen=True, slots=True)
class Queue:
    """Table `[queue]`. `max_size` counts messages, `backup_count` the copies beside the primary.

    The `backend` says what the queue is: a Hazelcast queue, a Kafka topic, or that of another package; `name` is its
    name.

    A message that left the queue and is not stored after `visibility_timeout` seconds is delivered again, at most
    `max_deliveries` times in total.

    If a messages-service is silent for `take_over_after` seconds, the others take over its messages; 0: never.
    """

    backend: str = key(values.text, "hazelcast")
    name: str = key(values.name, "messages-queue")
    max_size: int = key(values.whole(1, 2**31 - 1), 100_000)
    backup_count: int = key(values.whole(0, 6), 2)
    visibility_timeout: int = key(values.whole(1, 3600), 5)
    max_deliveries: int = key(values.whole(1, 1000), 5)
    take_over_after: int = key(values.whole(0, 86_400), 30)


@dataclass(frozen=True, slots=True)
class Facade:
    """Table `[facade]`: `workers` is the number of processes that share its port."""

    workers: int = key(values.whole(1, 64), 1)


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Table `[dashboard]`: the page of the system: its address, and whether it is served."""

    address: Address = key(Address.parse, *local(5080))
    enabled: bool = key(values.flag, default=True)


@dataclass(frozen=True, slots=True)
class Logs:
    """Table `[logs]`: the format of the services' lines: `text`, or `json` for one JSON object a line."""

    format: str = key(values.one_of("text", "json"), "text")


@dataclass(frozen=True, slots=True)
class Tracing:
    """Table `[tracing]`: the base URL of a collector of traces, by OTLP over HTTP; empty: no traces."""

    endpoint: str = key(values.url_or_empty, "")


@dataclass(frozen=True, slots=True)
class Limits:
    """Table `[limits]`: bounds of requests to a service, and of the messages that a messages-service holds.

    `max_body` is the size of the largest request in bytes. The timeouts are in seconds: for the headers of a request
    and for its body; for a batch, which may be endless, between two pieces. `max_connections` is per service.
    `max_under_way` bounds the bytes of all bodies and lines of batches that a process of the facade has in memory at
    one time; further ones wait, and are refused if they wait too long.
    A messages-service that holds `max_held` messages receives no more: they stay in the queue, which is bounded too.
    Its default is what fits into the members' heap.
    """

    max_body: int = key(values.whole(1024, 2**30), 1 << 20)
    header_timeout: int = key(values.whole(1, 3600), 10)
    read_timeout: int = key(values.whole(1, 3600), 30)
    max_under_way: int = key(values.whole(1024, 2**40), 32 << 20)
    max_connections: int = key(values.whole(8, 100_000), 2000)
    max_held: int = key(values.whole(1, 2**31 - 1), 200_000)
