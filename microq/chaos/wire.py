"""The words for what is spoken over a connection, as far as a fault must understand it: which replies can be lost."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from microq.fleet import Role

GREETING = 3
"""Bytes that say what will be spoken: a client's and a member's first ones; more than any HTTP method needs."""


class Kind(StrEnum):
    """What is spoken over a connection."""

    CLIENT = "client"
    """A client of Hazelcast to a member."""
    MEMBER = "member"
    """A member of Hazelcast to another."""
    KAFKA = "kafka"
    """A client of Kafka to a broker."""
    HTTP = "http"
    """Anything else: HTTP to a service."""


class Reply(StrEnum):
    """The replies that can be lost, by what was carried out."""

    ENQUEUE = "enqueue"
    DEQUEUE = "dequeue"
    """Only a reply that brings items: where nothing was taken, nothing is lost.

    Of Kafka also the one that confirms a commit of an offset: records stay where they are when they are fetched, and it
    is the commit that takes them off the queue.
    """
    STORE = "store"
    HTTP = "http"
    """To a POST or a DELETE; what only reads can be repeated by anybody."""


def kind_of(greeting: bytes, target: str) -> Kind:
    """Return what a connection that begins so, to the process `target`, will speak.

    A client of Kafka does not greet: its first bytes are the size of a request. But nobody else calls a broker there,
    since the brokers talk to each other on ports that have no link.
    """
    if target.startswith(f"{Role.KAFKA}-"):
        return Kind.KAFKA
    return {b"CP2": Kind.CLIENT, b"HZC": Kind.MEMBER}.get(greeting[:GREETING], Kind.HTTP)


class Dialogue(Protocol):
    """Requests one way over a connection, replies the other way."""

    def asked(self, data: bytes) -> None:
        """Hear bytes of requests."""
        ...

    def answered(self, data: bytes) -> tuple[bytes, list[tuple[int, Reply]]]:
        """Hear bytes of replies; return those that can be passed on, and where in them which replies begin."""
        ...
