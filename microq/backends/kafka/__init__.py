"""Kafka: the queue as a topic, and the brokers that hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from microq.backends.base import Backend, Extra, Trait, Words
from microq.settings import Address, addresses, flag, heap_size, key, local, variables, whole

if TYPE_CHECKING:  # it imports this module
    from microq.config import Config


@dataclass(frozen=True, slots=True)
class Kafka:
    """Table `[kafka]`: the brokers of a queue in Kafka.

    The topic has `partitions` partitions; a broker that is silent for `session_timeout` seconds is declared dead.
    `environment` lists variables for the brokers, as in `[hazelcast]`.
    """

    kafka_brokers: tuple[Address, ...] = key(addresses, local(9091, 9092, 9093))
    managed: bool = key(flag, default=True)
    heap: str = key(heap_size, "256m")
    partitions: int = key(whole(1, 100), 3)
    session_timeout: int = key(whole(1, 300), 3)
    environment: tuple[str, ...] = key(variables, ())


BACKEND = Backend(
    name="kafka",
    package=__name__,
    table=Kafka,
    addresses_key="kafka-brokers",
    words=Words(
        product="Kafka",
        server="broker",
        owner="a leader",
        owner_of_queue="a leader of the queue's partitions",
        other="led no partition",
        owns="leads",
        owned="led",
        owned_with="led partitions with",
        copies="copies",
        copied="had copies of",
        # Kafka makes no copies elsewhere: they are complete again when the broker is back.
        unsettled="not every copy is in sync",
        promise="The facade acknowledges a message only when every replica in sync has it.",
    ),
    traits=frozenset({Trait.PARTITIONED, Trait.QUORUM, Trait.CONFIRMED, Trait.ONE_ACK}),
    default_target="leader",
    extra=Extra("aiokafka", "aiokafka", "a queue in Kafka", "kafka"),
)


def table_of(config: Config) -> Kafka:
    """Return the table `[kafka]` of a configuration."""
    found: Kafka = BACKEND.settings(config)
    return found
