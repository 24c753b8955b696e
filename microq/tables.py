"""The tables of a configuration: what may be set, what each key means, and its default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from microq import values
from microq.values import Address


def _key(check: Callable[[Any], Any], default: Any) -> Any:
    return field(default=default, metadata={"check": check})


def _local(*ports: int) -> tuple[Address, ...]:
    return tuple(Address("127.0.0.1", port) for port in ports)


@dataclass(frozen=True, slots=True)
class ServiceIps:
    """Table `[service_ips]`: where every service listens."""

    messages_service: tuple[Address, ...] = _key(values.addresses, _local(5001, 5002))
    logging_service: tuple[Address, ...] = _key(values.addresses, _local(5003, 5004, 5005))
    facade_service: Address = _key(Address.parse, *_local(5000))
    config_service: Address = _key(Address.parse, *_local(5006))


@dataclass(frozen=True, slots=True)
class Hazelcast:
    """Table `[hazelcast]`: the cluster. `heartbeat_timeout` is in seconds.

    `split_brain` is what becomes of a cluster whose halves cannot see each other: `merge` lets both go on and merges
    the maps and the queue afterwards, `refuse` lets only the majority go on.
    """

    hazelcast_cluster_name: str = _key(values.text, "microservice")
    hazelcast_clients: tuple[Address, ...] = _key(values.addresses, _local(5701, 5702, 5703))
    managed: bool = _key(values.flag, default=True)
    heap: str = _key(values.heap, "256m")
    partition_count: int = _key(values.whole(1, 271), 13)
    heartbeat_timeout: int = _key(values.whole(2, 300), 3)
    split_brain: str = _key(values.one_of("merge", "refuse"), "merge")


@dataclass(frozen=True, slots=True)
class Kafka:
    """Table `[kafka]`: the brokers of a queue in Kafka.

    The topic has so many `partitions`; a broker that is silent for `session_timeout` seconds is declared dead.
    """

    kafka_brokers: tuple[Address, ...] = _key(values.addresses, _local(9091, 9092, 9093))
    managed: bool = _key(values.flag, default=True)
    heap: str = _key(values.heap, "256m")
    partitions: int = _key(values.whole(1, 100), 3)
    session_timeout: int = _key(values.whole(1, 300), 3)


@dataclass(frozen=True, slots=True)
class Queue:
    """Table `[queue]`. `max_size` counts messages, `backup_count` the copies beside the primary.

    The `backend` is a cluster of its own: a Hazelcast queue, or a topic of Kafka; `name` is the queue's or the topic's.

    What left the queue and is stored nowhere after `visibility_timeout` seconds is delivered again, `max_deliveries`
    times in all.
    """

    backend: str = _key(values.one_of("hazelcast", "kafka"), "hazelcast")
    name: str = _key(values.text, "messages-queue")
    max_size: int = _key(values.whole(1, 2**31 - 1), 100_000)
    backup_count: int = _key(values.whole(0, 6), 2)
    visibility_timeout: int = _key(values.whole(1, 3600), 5)
    max_deliveries: int = _key(values.whole(1, 1000), 5)


@dataclass(frozen=True, slots=True)
class Facade:
    """Table `[facade]`: so many `workers`, processes that share its port, take the requests."""

    workers: int = _key(values.whole(1, 64), 1)


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Table `[dashboard]`: the page on which the system is watched, where it listens, and whether there is one."""

    address: Address = _key(Address.parse, *_local(5080))
    enabled: bool = _key(values.flag, default=True)


@dataclass(frozen=True, slots=True)
class Logs:
    """Table `[logs]`: how the services write their lines, as `text` or as one `json` object each."""

    format: str = _key(values.one_of("text", "json"), "text")


@dataclass(frozen=True, slots=True)
class Tracing:
    """Table `[tracing]`: the base URL of the collector that takes traces by OTLP over HTTP; empty: there are none."""

    endpoint: str = _key(values.url_or_empty, "")


@dataclass(frozen=True, slots=True)
class Limits:
    """Table `[limits]`: what one client may take of a service, and what a messages-service may take of the queue.

    `max_body` is the largest request in bytes. The timeouts are in seconds: for the headers of a request, and for its
    body; of a batch, which may go on for ever, for the time between two pieces. `max_connections` is per service.
    A messages-service that holds `max_held` messages receives none: they stay in the queue, which has a bound as well.
    """

    max_body: int = _key(values.whole(1024, 2**30), 1 << 20)
    header_timeout: int = _key(values.whole(1, 3600), 10)
    read_timeout: int = _key(values.whole(1, 3600), 30)
    max_connections: int = _key(values.whole(8, 100_000), 2000)
    max_held: int = _key(values.whole(1, 2**31 - 1), 1_000_000)
