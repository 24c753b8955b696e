"""A running system: its roles, processes, snapshots and events, and the `Operator` that acts on its processes.

Views and faults use these types and the `Operator`, never the supervisor: it may be in this process or behind the
control socket.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, Self

from microq.aio import poll_until
from microq.backends import MAP_STORE, backend, described
from microq.config import Config
from microq.errors import UnknownServerError, UsageError
from microq.figures import BrokerFigures, Figures, MemberFigures, PartitionView, QueueView, fullest
from microq.settings import Address, Program

if TYPE_CHECKING:  # `microq --help` needs no backend
    from microq.backends.base import Backend, Words


class Role(StrEnum):
    """The purpose of a process."""

    QUEUE = "queue"
    """A server that holds the queue, and also the maps if its backend keeps them."""
    MAPS = "maps"
    """A server that holds only the maps: the queue is in another backend."""
    LOGGING = "logging"
    MESSAGES = "messages"
    FACADE = "facade"
    CONFIG = "config"


SERVERS = frozenset({Role.QUEUE, Role.MAPS})
"""The roles of servers; their processes are named after their backend."""

LOST_LINES = "log_lines_lost"
"""The counter that every service has."""

_OF_ALL = {LOST_LINES: "Lines of the log that could not be written: the disk is full, or the reader is gone."}


@dataclass(frozen=True, slots=True)
class Service:
    """The facts about a kind of service. Its code is the module `microq.services.<role>`."""

    help: str
    """The help text of its command."""
    stage: int
    """Services of a lower stage start first; servers are stage 0."""
    addresses: Callable[[Config], Sequence[Address]]
    counters: Mapping[str, str] = field(default_factory=dict)
    """Its counters and their meanings; `/metrics` shows each as `microq_<name>_total`."""
    flow: str = ""
    """The name of the counter of the messages that it handled."""
    has_queue: bool = False
    """Whether it is a client of the queue."""


SERVICES = {
    Role.CONFIG: Service(
        "Run the config-service in this terminal.",
        stage=1,
        addresses=lambda config: [config.service_ips.config_service],
        counters=_OF_ALL,
    ),
    Role.LOGGING: Service(
        "Run a logging-service in this terminal.",
        stage=1,
        addresses=lambda config: config.service_ips.logging_service,
        counters={"messages_logged": "Messages that this instance wrote into the log.", **_OF_ALL},
        flow="messages_logged",
    ),
    Role.MESSAGES: Service(
        "Run a messages-service in this terminal.",
        stage=1,
        addresses=lambda config: config.service_ips.messages_service,
        counters={
            "messages_received": "Messages received from the queue and shown here.",
            "duplicates_ignored": "Messages received from the queue that were stored already, here or elsewhere.",
            "messages_taken_over": "Messages shown here because the instance that stored them is silent.",
            "messages_yielded": "Messages given up: another instance owns them since a merge or a takeover.",
            "items_refused": "Items of the queue that are not messages; each became a dead letter.",
            **_OF_ALL,
        },
        flow="messages_received",
        has_queue=True,
    ),
    Role.FACADE: Service(
        "Run the facade in this terminal.",
        stage=2,
        addresses=lambda config: [config.service_ips.facade_service],
        counters={
            "messages_acknowledged": "Messages answered with success: they are in the log and in the queue.",
            "messages_rejected": "Messages that were certainly not accepted.",
            "messages_indeterminate": "Indeterminate messages: they may or may not be accepted.",
            "messages_redelivered": "Messages put into the queue again: they had left it and were stored nowhere.",
            "messages_relogged": "Messages written into the log again: a merge of the cluster had lost their entries.",
            **_OF_ALL,
        },
        flow="messages_acknowledged",
        has_queue=True,
    ),
}
"""Every kind of service. A new one needs a module, a `Role` and a record here, and a key in `settings.py`."""

STAGES: tuple[tuple[Role, ...], ...] = (
    (Role.MAPS, Role.QUEUE),
    *(
        tuple(role for role, service in SERVICES.items() if service.stage == stage)
        for stage in sorted({service.stage for service in SERVICES.values()})
    ),
)
"""The roles in the order of the start; the stop has the reverse order."""


def addresses(config: Config, role: Role) -> tuple[Address, ...]:
    """Return the configured addresses of a role, the lowest first."""
    if role in SERVERS:
        return servers.addresses(config) if (servers := backend_of(config, role)) else ()
    return tuple(sorted(SERVICES[role].addresses(config)))


def program_of(config: Config, role: Role) -> Program | None:
    """Return the external program that runs in place of a service; None for microq's own, and for servers."""
    program: Program | None = getattr(config.services, f"{role}_service", None)
    return program


def external_roles(config: Config) -> tuple[Role, ...]:
    """Return the roles that external programs have."""
    return tuple(role for role in SERVICES if program_of(config, role))


def map_role(config: Config) -> Role:
    """Return the role of the servers that hold the maps."""
    return Role.QUEUE if backend(config.queue.backend).keeps_maps else Role.MAPS


def backend_of(config: Config, role: Role) -> Backend | None:
    """Return the backend whose servers have a role; None for services, and for `MAPS` if the queue is there too."""
    if role not in SERVERS:
        return None
    of_queue = backend(config.queue.backend)
    return of_queue if role is Role.QUEUE else None if of_queue.keeps_maps else backend(MAP_STORE)


def name_of(config: Config, role: Role, address: Address) -> str:
    """Return the name of the process of a role at an address: `messages-5001`.

    If two processes of a role have the same port, all their names contain the host too: `messages-127.0.0.2-5001`.
    """
    ports = [each.port for each in {*addresses(config, role), address}]
    host = f"{address.host}-" if len(set(ports)) < len(ports) else ""
    servers = backend_of(config, role)
    return f"{servers.name if servers else role}-{host}{address.port}"


def group_of(name: str) -> str:
    """Return the group of a process on the command line, with which its name begins: a role or a server's backend."""
    return name.partition("-")[0]


def called(word: str, listed: Iterable[tuple[str, Address]]) -> str | None:
    """Return the name of the process that a word means: its name, its address or its port; None if there is none.

    Raises `UsageError` if several of the `listed` processes have the port.
    """
    hits = [(name, address) for name, address in listed if word in (name, str(address), str(address.port))]
    if len(hits) > 1:
        names = ", ".join(name for name, _ in hits)
        raise UsageError(f"several processes have the port {word}: {names}; give a name, or an address: {hits[0][1]}")
    return hits[0][0] if hits else None


def role_of(name: str) -> Role:
    """Return the role of a service, from its name."""
    return Role(group_of(name))


FLOW = {role: service.flow for role, service in SERVICES.items() if service.flow}
"""Role -> the counter of the messages that a service handled."""


class ProcessState(StrEnum):
    """The state of a process."""

    STARTING = "starting"
    READY = "ready"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    EXITED = "exited"
    """It ended by itself, or was killed."""


LOWEST = "lowest"

SERVER_WORDS = (LOWEST, "owner", "leader")
"""Words that select a server of the queue by its role; a leader owns a partition."""

UP = frozenset({ProcessState.STARTING, ProcessState.READY, ProcessState.PAUSED, ProcessState.STOPPING})
"""The states in which a process exists."""

OUT_OF_MEMORY = 3
"""The exit status of a JVM that ran out of memory (`-XX:+ExitOnOutOfMemoryError`)."""


@dataclass(frozen=True, slots=True)
class Detour:
    """A link in front of a process: clients of `name` connect to `address`, and the link forwards to `hidden`.

    Everything is configured with the address; only the process itself listens at the hidden one.
    """

    name: str
    address: Address
    hidden: Address


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One process as it is now. Times are seconds since the epoch, memory is in bytes."""

    name: str
    role: Role
    address: str
    state: ProcessState
    pid: int | None = None
    started_at: float | None = None
    restarts: int = 0
    exit_status: int | None = None
    rss: int | None = None
    external: bool = False
    """Whether it is an external program: it reports no health and no figures."""
    silent: bool = False
    """Whether a ready service did not answer the last health request."""
    held: int | None = None
    """Messages that a messages-service holds, or entries that a logging-service has written since its start."""
    full: bool | None = None
    """Whether a messages-service has reached its bound and receives no more, or a facade refuses for lack of memory."""
    merging: bool = False
    """Whether a service may show only some of the messages: the halves of a cluster may be merging."""
    cpu_s: float | None = None
    """Processor time since its start, in seconds."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """The counters of a service since its start: names of its metrics without `microq_` and `_total`."""
    latency: tuple[int, ...] = ()
    """Times that the facade took to acknowledge, counted in the buckets of `metrics.BOUNDS`."""

    @property
    def out_of_memory(self) -> bool:
        """Whether it is a server that ended for lack of memory."""
        return self.state is ProcessState.EXITED and self.role in SERVERS and self.exit_status == OUT_OF_MEMORY


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole system at one moment."""

    taken_at: float
    folder: str
    processes: tuple[ProcessView, ...]
    members: tuple[MemberFigures, ...]
    queue: QueueView | None
    managed: bool = True
    """Whether microq started the servers of the queue."""
    backend: str = MAP_STORE
    brokers: tuple[BrokerFigures, ...] = ()
    partitions: tuple[PartitionView, ...] = ()
    backup_count: int | None = None
    """Configured number of backups; None in the records of older runs."""

    @property
    def partitioned(self) -> bool:
        """Whether the queue has partitions, each with a leader."""
        return described(self.backend).partitioned

    @property
    def words(self) -> Words:
        """The words for the servers of the queue."""
        return described(self.backend).words

    def words_of(self, role: Role) -> Words:
        """Return the words for the servers of a role."""
        return self.words if role is Role.QUEUE else described(MAP_STORE).words

    @property
    def figures(self) -> tuple[Figures, ...]:
        """The figures of all servers, those of the queue and those of the maps."""
        return (*self.members, *self.brokers)

    @property
    def servers(self) -> tuple[Figures, ...]:
        """The figures of the queue's servers."""
        return self.members if described(self.backend).keeps_maps else self.brokers

    @property
    def map_role(self) -> Role:
        """The role of the servers that hold the maps."""
        return Role.QUEUE if described(self.backend).keeps_maps else Role.MAPS

    @property
    def keepers(self) -> tuple[Figures, ...]:
        """The figures of the servers that hold only the maps."""
        return () if described(self.backend).keeps_maps else self.members

    @property
    def owners(self) -> frozenset[str]:
        """The names of the servers with primaries of the queue: its owner, or every broker that leads a partition."""
        leaders = {partition.leader for partition in self.partitions if partition.leader}
        return frozenset(leaders or ({self.owner} if self.owner else set()))

    @property
    def owner(self) -> str | None:
        """The server with the queue's primary, if known; of several leaders the one with the most messages."""
        leader = fullest((partition.leader, partition.waiting) for partition in self.partitions if partition.leader)
        return leader or (self.queue.owner if self.queue else None)

    def server(self, word: str) -> ProcessView:
        """Return the server of the queue that is up and that one of `SERVER_WORDS` selects.

        That is the server with the lowest address, or the owner of the queue; of several leaders the one with the most
        messages. Raises `UnknownServerError`.
        """
        up = [process for process in self.having(Role.QUEUE) if process.state in UP]
        if not up:
            raise UnknownServerError(f"no server is the {word}: no server of the queue is up here; see `microq status`")
        if word == LOWEST:
            return min(up, key=lambda process: Address.parse(process.address))
        for process in up:
            if process.name == self.owner:
                return process
        down = [p.name for p in self.having(Role.FACADE) if p.state is not ProcessState.READY]
        why = f"{down[0]} reports it, and is not ready" if down and not self.partitions else "no server reports it"
        raise UnknownServerError(f"the {word} is unknown now: {why}; see `microq queue`")

    def named(self, name: str) -> ProcessView:
        """Return the process called `name`; raises `KeyError` if there is none."""
        return {process.name: process for process in self.processes}[name]

    def having(self, role: Role) -> tuple[ProcessView, ...]:
        """Return the processes of one role, in the order of their addresses."""
        return tuple(process for process in self.processes if process.role is role)

    @property
    def joined(self) -> bool:
        """Whether every server that is up answers and sees all others of its cluster."""
        return self._joined(Role.QUEUE, self.servers) and self._joined(Role.MAPS, self.keepers)

    def _joined(self, role: Role, figures: Sequence[Figures]) -> bool:
        count = len(self.ready(role))
        return [each.members_seen for each in figures] == [count] * count

    def ready(self, role: Role) -> frozenset[str]:
        """Return the names of the processes of one role that are ready."""
        return frozenset(process.name for process in self.having(role) if process.state is ProcessState.READY)

    @property
    def settled(self) -> bool:
        """Whether the servers have joined and no copy is still being made.

        A single server is settled and has no backup at all; `safe` is stricter.
        """
        return bool(self.figures) and self.joined and all(each.cluster_safe for each in self.figures)

    @property
    def wanted(self) -> int | None:
        """The configured number of backups, if known."""
        return self.queue.backup_count if self.backup_count is None and self.queue else self.backup_count

    @property
    def copies(self) -> int | None:
        """The number of backups of each primary, of queue and maps, at most the configured number; None: unknown.

        They are counted on the servers. An empty or moving structure counts with the number of backups that the
        servers are configured for and can hold.
        """
        clusters = [self.members] if described(self.backend).keeps_maps else [self.members, self.brokers]
        if not all(clusters) or self.wanted is None:
            return None
        found = [_copies(each) for each in clusters]
        known = [self.wanted, *(each for each in found if each is not None)]
        return min(known) if len(known) > len(found) else None

    @property
    def safe(self) -> bool | None:
        """Whether every configured copy is in place; False if no backup is configured; None: unknown."""
        if not self.settled or self.wanted == 0:
            return False
        return None if self.copies is None else self.copies == self.wanted

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object, with values that are computed from it; `from_json` reads it."""
        return {**dataclasses.asdict(self), "safe": self.safe, "copies": self.copies}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read it back from decoded JSON."""
        known = {field.name for field in dataclasses.fields(cls)}
        listed = {
            "processes": tuple(_process(process, body["backend"]) for process in body["processes"]),
            "members": tuple(MemberFigures(**_tuples(figures, "differs")) for figures in body["members"]),
            "brokers": tuple(
                BrokerFigures(**_tuples(figures, "differs", "leads", "follows")) for figures in body["brokers"]
            ),
            "partitions": tuple(PartitionView(**{**p, "in_sync": tuple(p["in_sync"])}) for p in body["partitions"]),
            "queue": QueueView(**body["queue"]) if body["queue"] else None,
        }
        return cls(**{key: value for key, value in {**body, **listed}.items() if key in known})


def _copies(servers: Sequence[Figures]) -> int | None:
    """Return how many backups one cluster has of everything, if known."""
    evidence = [each.copies for each in servers]
    if all(each.cluster_safe for each in servers):
        evidence += [each.backup_count for each in servers]
    known = [each for each in evidence if each is not None]
    return min([len(servers) - 1, *known]) if known else None


def _tuples(body: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return a record with its lists of these names as tuples."""
    return {**body, **{name: tuple(body[name]) for name in names if name in body}}


def _process(body: Mapping[str, Any], of_queue: str) -> ProcessView:
    role = body["role"]
    if role not in set(Role):  # the records of older runs name the backend of a server
        role = Role.QUEUE if role == of_queue else Role.MAPS
    known = {"role": Role(role), "state": ProcessState(body["state"]), "latency": tuple(body["latency"])}
    return ProcessView(**{**body, **known})


RUNNING, LOST, LEFT = "running", "folder removed", "left behind"
"""States of a system: its supervisor answers; its folder was removed, so it cannot be asked; only its children run."""


@dataclass(frozen=True, slots=True)
class SystemView:
    """One system of this user: its folder, name, run, start (seconds since the epoch) and state.

    The name is empty for the unnamed system of a folder.
    """

    folder: str
    name: str
    run: str
    state: str
    since: float
    processes: int
    supervisor: int | None = None
    queue: str | None = None
    page: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return dataclasses.asdict(self)


class Topic(StrEnum):
    """The subject of an event."""

    PROCESS = "process"
    """The process `name` has the new state `kind`."""
    SCENARIO = "scenario"
    """A step of the scenario `name`: `kind` is the kind of an event of its history, or `verdict` or `says`."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a wall time; `detail` says more for people, `facts` for programs."""

    at: float
    name: str
    kind: str
    detail: str = ""
    topic: Topic = Topic.PROCESS
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object, which `from_json` reads."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read it back from decoded JSON."""
        return cls(**{**body, "topic": Topic(body["topic"])})


VERBS = ("start", "stop", "kill", "pause", "resume", "restart")
"""What can be done to processes; `Operator` has a method for each."""


LOOK = 0.1
"""Seconds between two snapshots of `Operator.look`."""


class Operator(Protocol):
    """Starts and breaks processes. Every verb returns once its effect is observed."""

    async def act(self, verb: str, names: Sequence[str]) -> list[str]:
        """Apply one of `VERBS` to the named processes; return the names that it acted on.

        Raises `UnknownNameError`, `DeadlineError` if the effect was not observed in time, and `ExitedEarlyError`.
        """
        ...

    async def start(self, names: Sequence[str]) -> list[str]:
        """Start those that do not run, and wait until they are ready."""
        return await self.act("start", names)

    async def stop(self, names: Sequence[str]) -> list[str]:
        """Send SIGTERM, and SIGKILL after a grace period; wait until the process group is empty."""
        return await self.act("stop", names)

    async def kill(self, names: Sequence[str]) -> list[str]:
        """Send SIGKILL, and wait until the process group is empty."""
        return await self.act("kill", names)

    async def pause(self, names: Sequence[str]) -> list[str]:
        """Send SIGSTOP, and wait until the process is stopped."""
        return await self.act("pause", names)

    async def resume(self, names: Sequence[str]) -> list[str]:
        """Send SIGCONT, and wait until the process runs."""
        return await self.act("resume", names)

    async def restart(self, names: Sequence[str]) -> list[str]:
        """Stop, then start."""
        return await self.act("restart", names)

    async def sabotage(self, role: str, defect: str) -> None:
        """Run the services of a role with a defect from their next start on; an empty text removes it.

        The defects are those of `services.faulty`. Only scenarios use them, to prove that a loss would be found.
        """
        ...

    async def announce(self, event: Event) -> None:
        """Send an event of a scenario to all listeners of `events`."""
        ...

    async def snapshot(self) -> Snapshot:
        """Return the state of the system now."""
        ...

    async def look(self, suffices: Callable[[Snapshot], bool], seconds: float, pause: float = LOOK) -> Snapshot:
        """Take snapshots until one suffices, at most for `seconds`; return the last one.

        On a busy machine a server or service may not answer a single snapshot in time.
        """
        view: Snapshot | None = None

        async def seen() -> bool:
            nonlocal view
            view = await self.snapshot()
            return suffices(view)

        await poll_until(seen, pause, seconds)
        return view or await self.snapshot()

    def events(self) -> AsyncIterator[Event]:
        """Yield the events from now on."""
        ...
