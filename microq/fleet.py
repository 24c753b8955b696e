"""The words for a running system: its processes, what happens to them, and who may operate them.

Views and faults know these words and the `Operator`, never the supervisor: they cannot tell whether it is in this
process or behind the control socket.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, Self

from microq.figures import BrokerFigures, Figures, MemberFigures, PartitionView, QueueView
from microq.layout import fullest
from microq.values import Address


class Role(StrEnum):
    """What a process is; its value is its group's name on the command line."""

    HAZELCAST = "hazelcast"
    KAFKA = "kafka"
    LOGGING = "logging"
    MESSAGES = "messages"
    FACADE = "facade"
    CONFIG = "config"


FLOW = {
    Role.FACADE: "messages_acknowledged",
    Role.LOGGING: "messages_logged",
    Role.MESSAGES: "messages_received",
}
"""The counter of a service that tells how many messages went through it."""


class ProcessState(StrEnum):
    """Where a process is in its life."""

    STARTING = "starting"
    READY = "ready"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    EXITED = "exited"
    """It ended although nobody asked it to, or was killed."""


UP = frozenset({ProcessState.STARTING, ProcessState.READY, ProcessState.PAUSED, ProcessState.STOPPING})
"""The states in which a process exists."""


@dataclass(frozen=True, slots=True)
class Detour:
    """A way around: what is sent to the `address` of the process `name` goes to a link, which leads to `hidden`.

    Everybody is configured with the address; the process itself listens at the hidden one.
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
    held: int | None = None
    """Messages that a messages-service holds, or entries that a logging-service wrote since it started."""
    full: bool | None = None
    """Whether a messages-service holds as many as it may, and receives none."""
    cpu_s: float | None = None
    """Seconds of a processor that it has used since its start."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """What a service counted since its start, under the names that its metrics have without `microq_` and `_total`."""
    latency: tuple[int, ...] = ()
    """How long the facade took to acknowledge, counted in the buckets of `latency.BOUNDS`."""


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
    backend: str = Role.HAZELCAST.value
    brokers: tuple[BrokerFigures, ...] = ()
    partitions: tuple[PartitionView, ...] = ()

    @property
    def queue_role(self) -> Role:
        """What the servers of the queue are."""
        return Role(self.backend)

    @property
    def figures(self) -> tuple[Figures, ...]:
        """What all servers say, those of the queue and those of the maps."""
        return (*self.members, *self.brokers)

    @property
    def servers(self) -> tuple[Figures, ...]:
        """What the servers of the queue say."""
        return self.brokers if self.queue_role is Role.KAFKA else self.members

    @property
    def owners(self) -> frozenset[str]:
        """Who holds primaries of the queue: its one owner, or every broker that leads a partition."""
        leaders = {partition.leader for partition in self.partitions if partition.leader}
        return frozenset(leaders or ({self.owner} if self.owner else set()))

    @property
    def owner(self) -> str | None:
        """Who holds the primary of the queue, if known; of several leaders the one with the most messages."""
        leader = fullest((partition.leader, partition.waiting) for partition in self.partitions if partition.leader)
        return leader or (self.queue.owner if self.queue else None)

    def named(self, name: str) -> ProcessView:
        """Return the process called `name`; raises `KeyError` if there is none."""
        return {process.name: process for process in self.processes}[name]

    def having(self, role: Role) -> tuple[ProcessView, ...]:
        """Return the processes of one role, in the order of their addresses."""
        return tuple(process for process in self.processes if process.role is role)

    @property
    def joined(self) -> bool:
        """Whether every server that is up answers and sees all the others of its cluster."""
        return self._joined(Role.HAZELCAST, self.members) and self._joined(Role.KAFKA, self.brokers)

    def _joined(self, role: Role, figures: Sequence[Figures]) -> bool:
        up = [process for process in self.having(role) if process.state is ProcessState.READY]
        return [each.members_seen for each in figures] == [len(up)] * len(up)

    @property
    def safe(self) -> bool:
        """Whether the servers have joined, and say that every copy is in place."""
        return bool(self.figures) and self.joined and all(each.cluster_safe for each in self.figures)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it, which `from_json` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read it back from decoded JSON."""
        listed = {
            "processes": tuple(map(_process, body["processes"])),
            "members": tuple(MemberFigures(**figures) for figures in body["members"]),
            "brokers": tuple(
                BrokerFigures(**{**figures, "leads": tuple(figures["leads"]), "follows": tuple(figures["follows"])})
                for figures in body["brokers"]
            ),
            "partitions": tuple(PartitionView(**{**p, "in_sync": tuple(p["in_sync"])}) for p in body["partitions"]),
            "queue": QueueView(**body["queue"]) if body["queue"] else None,
        }
        return cls(**{**body, **listed})


def _process(body: Mapping[str, Any]) -> ProcessView:
    known = {"role": Role(body["role"]), "state": ProcessState(body["state"]), "latency": tuple(body["latency"])}
    return ProcessView(**{**body, **known})


class Topic(StrEnum):
    """What an event is about."""

    PROCESS = "process"
    """The process `name` has the new state `kind`."""
    SCENARIO = "scenario"
    """The scenario `name` does or sees something: `kind` is that of an event of its history, or `verdict` or `says`."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a wall time: see `Topic`; `detail` says more for people, `facts` for programs."""

    at: float
    name: str
    kind: str
    detail: str = ""
    topic: Topic = Topic.PROCESS
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it, which `from_json` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read it back from decoded JSON."""
        return cls(**{**body, "topic": Topic(body["topic"])})


class Operator(Protocol):
    """Who may start and break processes. Every verb returns once its effect is seen.

    Each takes names of processes, and answers with the names it acted on. Errors: `UnknownNameError`,
    `DeadlineError` when the effect did not show in time, `ExitedEarlyError`.
    """

    async def start(self, names: Sequence[str]) -> list[str]:
        """Start what does not run, and wait until it is ready."""
        ...

    async def stop(self, names: Sequence[str]) -> list[str]:
        """SIGTERM, then after a grace SIGKILL; wait until nothing of the process group is left."""
        ...

    async def kill(self, names: Sequence[str]) -> list[str]:
        """SIGKILL, and wait until nothing of the process group is left."""
        ...

    async def pause(self, names: Sequence[str]) -> list[str]:
        """SIGSTOP, and wait until the process is stopped."""
        ...

    async def resume(self, names: Sequence[str]) -> list[str]:
        """SIGCONT, and wait until the process runs."""
        ...

    async def restart(self, names: Sequence[str]) -> list[str]:
        """Stop, then start."""
        ...

    async def sabotage(self, role: str, defect: str) -> None:
        """From its next start on, run the services of a role with a defect; an empty text ends that.

        The defects are those of `services.defects`. Only scenarios ask for one, to prove that a loss would be seen.
        """
        ...

    async def announce(self, event: Event) -> None:
        """Tell everybody who listens to the events what a scenario does or sees."""
        ...

    async def snapshot(self) -> Snapshot:
        """Look at everything now."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """Yield what happens from now on."""
        ...
