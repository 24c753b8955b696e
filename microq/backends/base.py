"""What every backend provides: a queue (`tests/contract` proves its promises), servers, words, and its protocol."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from microq.allowance import Allowance
from microq.backends import MAP_STORE
from microq.backends.jars import Archive, Engine, Jar
from microq.backends.java import Java
from microq.errors import ExtraMissingError
from microq.figures import Figures, PartitionView
from microq.message import Message
from microq.settings import Address

if TYPE_CHECKING:  # `microq --help` needs none of these modules
    import aiohttp

    from microq.config import Config  # it is made of the backends' tables


@dataclass(frozen=True, slots=True)
class Refused:
    """An item of the queue that is not a microq message; `reason` says why, `raw` is its content if it is text."""

    reason: str
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """When the next message of the queue was accepted; both times are infinite if the queue is empty.

    `at` is wall time, for people: it jumps if a clock is set. `since` is monotonic time within `epoch`, one life of a
    facade; it orders the messages that this facade accepted.
    """

    at: float
    since: float
    epoch: str = ""


EMPTY = Head(math.inf, math.inf)


class MessageQueue(Protocol):
    """A replicated queue of messages: first in, first out, as a whole or in each of its partitions."""

    @property
    def gathers(self) -> bool:
        """Whether the queue's client gathers single puts into batches.

        The client of a queue with partitions does so for each partition; a common batch would wait for the slowest.
        """
        ...

    async def put(self, messages: Sequence[Message]) -> None:
        """Append messages; return only when each is on the primary and on its backups.

        Raises `QueueFullError` or `QueueUnavailableError` if none is in the queue, `QueueIndeterminateError` if each
        may be in it or not. The client may retry a put while a member leaves, and so append a message twice:
        the receiver must recognise an id that it has seen.
        """
        ...

    async def receive(self, most: int, seconds: float) -> list[Message | Refused]:
        """Take up to `most` items; wait up to `seconds` on the server for the first one. Empty if none came.

        If the caller dies before it has stored the items, the backend decides whether they are delivered again:
        Hazelcast does not keep delivered items, Kafka gives them to another consumer. Never cancel this call: the
        reply of a cancelled call is dropped with its items. Raises `QueueUnavailableError` if nothing was sent, and
        `QueueIndeterminateError` if the reply was lost.
        """
        ...

    async def ack(self) -> None:
        """Acknowledge that all items that `receive` has returned are stored: they need not be delivered again.

        Raises `QueueIndeterminateError` if this was not confirmed: they may be delivered again.
        """
        ...

    async def leave(self) -> None:
        """Give the messages that wait for this consumer to others, until it receives again. Raises as `ack` does."""
        ...

    async def head(self) -> Head | None:
        """Return when the next message was accepted: messages that were in the queue before have left it.

        None: unknown, for example because the next item is not a message. Raises as `size` does.
        """
        ...

    async def size(self) -> int:
        """Return the number of waiting messages; with Kafka including those that are received and not acknowledged.

        Raises `QueueUnavailableError` or `QueueIndeterminateError`.
        """
        ...

    async def owner(self) -> str | None:
        """Return the address of the server that holds the primary now, or None if there is none.

        Of several primaries the one with the most messages counts.
        """
        ...


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a server of a run listens: at its address, or at `hidden` behind a detour."""

    name: str
    address: Address
    hidden: Address | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What the servers of one cluster report at one moment; those that do not answer are missing."""

    figures: tuple[Figures, ...] = ()
    partitions: tuple[PartitionView, ...] = ()


class Servers(Protocol):
    """The servers of one cluster: starts and queries them, in one run."""

    def argv(self, name: str, *, alone: bool) -> list[str]:
        """Write the files of a server and return its command line; `alone`: no other server is up that it can join.

        Raises `MachineError` if it cannot be started.
        """
        ...

    async def ask(self, session: aiohttp.ClientSession, up: Sequence[str]) -> Answers:
        """Query the servers named in `up`, concurrently."""
        ...

    def remove_data(self) -> None:
        """Remove what the servers stored on disk: the next run starts a new cluster."""
        ...


Reserve = Callable[[int], list[int]]
"""Returns this number of free ports that no process of this system is configured with."""


@dataclass(frozen=True, slots=True)
class Extra:
    """A library that only some configurations need: its name, its module, what needs it, and the extra of microq."""

    library: str
    module: str
    need: str
    name: str

    def check(self) -> None:
        """Raise `ExtraMissingError` if it cannot be imported."""
        try:
            import_module(self.module)
        except ImportError as error:
            raise ExtraMissingError(self.library, self.need, self.name) from error


GREETING = 3
"""The number of first bytes of a connection from which its protocol is known."""


class Kind(StrEnum):
    """The two ends of a connection."""

    CLIENT = "client"
    """A client of the queue or of the maps with a server."""
    PEER = "peer"
    """A server with another server of its cluster."""
    HTTP = "http"
    """HTTP with a service; every other connection counts as this."""


class Reply(StrEnum):
    """The kinds of replies that a fault can lose, by what was carried out."""

    ENQUEUE = "enqueue"
    DEQUEUE = "dequeue"
    """A reply that contains items; a reply without items takes nothing from the queue.

    If messages stay in the queue until they are acknowledged, also the reply to the acknowledgement.
    """
    STORE = "store"
    HTTP = "http"
    """The reply to a POST or a DELETE; a request that only reads can be repeated without harm."""


class Dialogue(Protocol):
    """Follows a connection: requests in one direction, replies in the other."""

    def asked(self, data: bytes) -> None:
        """Take bytes of requests."""
        ...

    def answered(self, data: bytes) -> tuple[bytes, list[tuple[int, Reply]]]:
        """Take bytes of replies; return the bytes that can be passed on, and (offset, reply) for replies that begin."""
        ...


@dataclass(frozen=True, slots=True)
class Wire:
    """The protocol of a backend's servers, as far as a fault of the links must understand it."""

    dialogue: Callable[[], Dialogue]
    """Makes what follows the connection of a client."""
    client: bytes = b""
    """The greeting of a client, `GREETING` bytes; empty: clients send none, and every connection counts as one."""
    peer: bytes = b""
    """The greeting of a server to another one; empty if servers use ports without links among themselves."""
    introduction: int = 0
    """Bytes after that greeting within which a server introduces itself, if it does."""
    introduced: Callable[[bytes, int, Mapping[int, str]], str] = lambda _said, _called, _names: ""
    """Returns the name of the server that introduces itself, from the bytes so far, the port that it called, and the
    names of the servers by their ports; empty if it has not done so yet."""

    def kind_of(self, greeting: bytes) -> Kind:
        """Return the kind of a connection that begins with the bytes `greeting`."""
        if self.peer and greeting.startswith(self.peer):
            return Kind.PEER
        return Kind.CLIENT if greeting.startswith(self.client) else Kind.HTTP


class Trait(Enum):
    """A property that some backends have: it decides which faults and controls apply."""

    PARTITIONED = auto()
    """The queue has partitions, each with a leader and an order of its own. Else one server owns the whole queue."""
    QUORUM = auto()
    """It refuses puts unless a majority of its servers is up. Else one server is enough."""
    IN_MEMORY = auto()
    """Data without a copy is lost with its server. Else the restarted server has it on disk."""
    FORGETS = auto()
    """A delivered message is no longer in the queue."""
    CONFIRMED = auto()
    """A message is delivered again, if necessary to another consumer, until it is acknowledged."""
    REPEATS = auto()
    """A put that the client retries may append a message twice. Else the servers recognise the retry."""
    LINKED_PEERS = auto()
    """The servers connect to each other at the addresses for clients, so a link can separate them."""
    ONE_ACK = auto()
    """A put can succeed with one copy: the queue has the defect `one-ack`."""


@dataclass(frozen=True, slots=True)
class Words:
    """The words for the servers of a backend and for their part in the queue."""

    product: str
    """The name of the product: Kafka."""
    server: str
    """One of its servers: broker."""
    owner: str
    """A server that holds a primary: a leader."""
    owner_of_queue: str
    """The same in full: a leader of the queue's partitions."""
    other: str
    """What a server without a primary did: led no partition."""
    owns: str
    owned: str
    owned_with: str
    """What the owner does with messages, in present and past: leads; led; led partitions with."""
    copies: str
    copied: str
    """What another server does with them, in present and past: copies; had copies of."""
    unsettled: str
    """Why the cluster is not safe although its servers have joined: not every copy is in sync."""
    promise: str
    """When a message is acknowledged; `{backups}` stands for the number of backups."""

    def servers(self, count: int) -> str:
        """Return the word for this number of servers, in the singular or plural."""
        return self.server if count == 1 else f"{self.server}s"


@dataclass(frozen=True, slots=True)
class Backend:
    """Everything in which backends differ; modules of `package` are imported when they are used."""

    name: str
    package: str
    """The package of its modules.

    Its module `queue` has `open_queue` and `put_raw`, `partition_of` if the queue has partitions, and `DEFECTS` if a
    negative control needs one. Its module `server` has `VERSION`, `READY_LINE` and `open_servers`, and for servers in
    Java also `JARS`, `JVM_FLAGS`, and `lone_argv`, which runs a single server to make an archive. Its module `protocol`
    has `WIRE`.
    """
    table: type[Any]
    """Its configuration table, a dataclass with fields made by `microq.settings.key`: `managed` (whether microq starts
    the servers), `environment` (variables for them), the list of their addresses, and keys of its own."""
    addresses_key: str
    """The key of that configuration table that lists its servers."""
    words: Words
    traits: frozenset[Trait]
    default_target: str
    """The server that a fault hits if the user names none."""
    extra: Extra | None = None
    """The library that its client needs beyond microq's dependencies."""
    in_java: bool = True
    """Whether its servers run in Java."""

    @property
    def ready_line(self) -> str:
        """The text that a server logs when it is ready."""
        return str(self._module("server").READY_LINE)

    @property
    def version(self) -> str:
        """The version of its servers."""
        return str(self._module("server").VERSION)

    @property
    def jars(self) -> tuple[Jar, ...]:
        """The jars of its servers in Java."""
        found: tuple[Jar, ...] = self._module("server").JARS if self.in_java else ()
        return found

    def archive(self, runtime: Java) -> Archive:
        """Return the class-data archive of its servers in Java."""
        return Archive(runtime, self.jars, self._module("server").JVM_FLAGS)

    def open_servers(
        self, config: Config, folder: Path, engine: Engine | None, seats: Sequence[Seat], reserve: Reserve
    ) -> AbstractAsyncContextManager[Servers]:
        """Open the servers of a run, whose files are in a folder; there are none if they run elsewhere."""
        opened = self._module("server").open_servers(config, folder, engine, seats, reserve)
        return cast("AbstractAsyncContextManager[Servers]", opened)

    def adopted(self, config: Config, given: Collection[str]) -> Config:
        """Return a configuration with the values of the user's own file of the servers, except the keys `given`."""
        found: Config = self._module("template").adopt(config, given)
        return found

    def additions(self, config: Config) -> list[str]:
        """Return a line for each thing that is added to the user's own file of the servers, or that it leaves open."""
        found: list[str] = self._module("template").additions(config)
        return found

    def lone_argv(self, config: Config, folder: Path, engine: Engine, reserve: Reserve) -> list[str]:
        """Write the files of a server that forms a cluster alone, and return its command line."""
        argv: list[str] = self._module("server").lone_argv(config, folder, engine, reserve)
        return argv

    def _module(self, name: str) -> Any:
        return import_module(f"{self.package}.{name}")

    @property
    def keeps_maps(self) -> bool:
        """Whether its servers hold the maps too."""
        return self.name == MAP_STORE

    @property
    def partitioned(self) -> bool:
        """Whether the queue has partitions, each with a leader."""
        return Trait.PARTITIONED in self.traits

    def settings(self, config: Config) -> Any:
        """Return its table in a configuration."""
        return config.backends[self.name]

    def addresses(self, config: Config) -> tuple[Address, ...]:
        """Return the addresses of its servers, the lowest first."""
        found: tuple[Address, ...] = getattr(self.settings(config), self.addresses_key.replace("-", "_"))
        return tuple(sorted(found))

    @property
    def key(self) -> str:
        """The key that lists its servers, in the form for people: [kafka] kafka-brokers."""
        return f"[{self.name}] {self.addresses_key}"

    def managed(self, config: Config) -> bool:
        """Return whether microq starts its servers."""
        managed: bool = self.settings(config).managed
        return managed

    def open_queue(
        self, config: Config, name: str, bound: Allowance | None = None
    ) -> AbstractAsyncContextManager[MessageQueue]:
        """Open the configured queue as `microq.backends.open_queue` does."""
        opened = self._module("queue").open_queue(config, name, bound=bound)
        return cast("AbstractAsyncContextManager[MessageQueue]", opened)

    def open_defective_queue(self, defect: str, config: Config, name: str) -> AbstractAsyncContextManager[MessageQueue]:
        """Open the queue with a defect, one of the module's `DEFECTS`; raises `KeyError` if there is no such defect."""
        opened = self._module("queue").DEFECTS[defect](config, name)
        return cast("AbstractAsyncContextManager[MessageQueue]", opened)

    def partition_of(self, message_id: str, partitions: int) -> int | None:
        """Return the partition of a message, of `partitions` partitions; None if it is not known."""
        if not self.partitioned:
            return None
        try:
            number: int = self._module("queue").partition_of(message_id, partitions)
        except ImportError:  # the client is an extra, and a finished run can be read without it
            return None
        return number

    @property
    def wire(self) -> Wire:
        """The protocol of its servers."""
        found: Wire = self._module("protocol").WIRE
        return found

    async def put_raw(self, config: Config, items: Sequence[str]) -> None:
        """Put texts into the queue as they are. Raises as `MessageQueue.put` does."""
        await self._module("queue").put_raw(config, items)


def unknown(name: str) -> Backend:
    """Return a backend of which only the name is known, from the record of a run."""
    words = Words(
        product=name,
        server="server",
        owner="an owner",
        owner_of_queue="an owner of the queue",
        other="did not own the queue",
        owns="owns",
        owned="owned",
        owned_with="owned",
        copies="copies",
        copied="had copies of",
        unsettled="not every copy is in place",
        promise="The facade acknowledges a message only when the queue has confirmed it.",
    )
    return Backend(name, "", object, "", words, frozenset(), "lowest")
