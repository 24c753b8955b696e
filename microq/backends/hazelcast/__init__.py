"""Hazelcast: the queue as an IQueue, the maps, and the members that hold them."""

from __future__ import annotations

from microq.backends.base import Backend, Trait, Words
from microq.settings import Hazelcast

BACKEND = Backend(
    name="hazelcast",
    package=__name__,
    table=Hazelcast,
    addresses_key="hazelcast-clients",
    words=Words(
        product="Hazelcast",
        server="member",
        owner="the primary owner",
        owner_of_queue="the queue's primary owner",
        other="held only backups of the queue",
        owns="owns",
        owned="owned",
        owned_with="owned",
        copies="backs up",
        copied="backed up",
        unsettled="copies are being made",
        promise="The facade acknowledges a message only when it is on the queue's primary owner, {backups}.",
    ),
    traits=frozenset({Trait.IN_MEMORY, Trait.FORGETS, Trait.REPEATS, Trait.LINKED_PEERS}),
    default_target="lowest",
)
