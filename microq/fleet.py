"""The words for a running system: its processes, what happens to them, and who may operate them.

Views and faults know these words and the `Operator`, never the supervisor: they cannot tell whether it is in this
process or behind the control socket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from microq.values import Address


class Role(StrEnum):
    """What a process is; its value is its group's name on the command line."""

    HAZELCAST = "hazelcast"
    LOGGING = "logging"
    MESSAGES = "messages"
    FACADE = "facade"
    CONFIG = "config"


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
    """Messages that a messages-service holds, entries that a logging-service stored."""


@dataclass(frozen=True, slots=True)
class MemberFigures:
    """What one member says of itself; ages are in seconds, memory is in bytes."""

    name: str
    taken_at: float
    items: int
    backups: int
    oldest: float | None
    offers: int
    polls: int
    rejected: int
    empty_polls: int
    log_entries: int
    log_backups: int
    partitions: int
    cluster_safe: bool
    members_seen: int
    heap_used: int
    heap_max: int


@dataclass(frozen=True, slots=True)
class QueueView:
    """The queue as the facade's client sees it; `owner` is the name of the primary owner, if known.

    `pending` counts the messages whose arrival the facade waits for, `redelivered` those that were put into the queue
    again, `dead` the dead letters; None is unknown.
    """

    backend: str
    name: str
    size: int | None
    max_size: int
    backup_count: int
    owner: str | None
    pending: int | None = None
    redelivered: int | None = None
    dead: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole system at one moment."""

    taken_at: float
    folder: str
    processes: tuple[ProcessView, ...]
    members: tuple[MemberFigures, ...]
    queue: QueueView | None
    managed: bool = True

    def named(self, name: str) -> ProcessView:
        """Return the process called `name`; raises `KeyError` if there is none."""
        for process in self.processes:
            if process.name == name:
                return process
        raise KeyError(name)

    def having(self, role: Role) -> tuple[ProcessView, ...]:
        """Return the processes of one role, in the order of their addresses."""
        return tuple(process for process in self.processes if process.role is role)

    @property
    def joined(self) -> bool:
        """Whether every member that is up answers and sees all the others."""
        up = [process for process in self.having(Role.HAZELCAST) if process.state is ProcessState.READY]
        return [figures.members_seen for figures in self.members] == [len(up)] * len(up)

    @property
    def safe(self) -> bool:
        """Whether the members have joined, and say that every copy is in place."""
        return bool(self.members) and self.joined and all(figures.cluster_safe for figures in self.members)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a process: `kind` is its new state, `detail` says more for people."""

    at: float
    name: str
    kind: str
    detail: str = ""


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

    async def snapshot(self) -> Snapshot:
        """Look at everything now."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """Yield what happens from now on."""
        ...
