"""A third backend of the queue, small and in memory, kept by nodes in plain Python: it proves that one can be added."""

from __future__ import annotations

from dataclasses import dataclass

from microq.backends.base import Backend, Trait, Words
from microq.settings import Address, addresses, flag, key, local, variables


@dataclass(frozen=True, slots=True)
class Memory:
    """Table `[memory]`: the nodes."""

    memory_nodes: tuple[Address, ...] = key(addresses, local(9191, 9192, 9193))
    managed: bool = key(flag, default=True)
    environment: tuple[str, ...] = key(variables, ())


BACKEND = Backend(
    name="memory",
    package=__name__,
    table=Memory,
    addresses_key="memory-nodes",
    words=Words(
        product="Memory",
        server="node",
        owner="the primary",
        owner_of_queue="the queue's primary",
        other="held only copies of the queue",
        owns="owns",
        owned="owned",
        owned_with="owned",
        copies="copies",
        copied="had copies of",
        unsettled="copies are being made",
        promise="The facade acknowledges a message only when it is on the primary, {backups}.",
    ),
    traits=frozenset({Trait.IN_MEMORY, Trait.FORGETS}),
    default_target="lowest",
    in_java=False,
)
