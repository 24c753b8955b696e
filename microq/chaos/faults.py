"""The faults, one small type each. To add one: its class here and its line in `FAULTS`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from microq.config import Address
from microq.errors import UsageError
from microq.fleet import UP, Operator, ProcessView, Role, Snapshot


@dataclass(frozen=True, slots=True)
class Hit:
    """One process that a fault hit: `owner` says whether it was the queue's primary owner."""

    target: str
    pid: int | None
    address: str
    owner: bool


class Fault(Protocol):
    """Something that is done to a running system, and undone."""

    name: ClassVar[str]

    def check(self, members: Sequence[Address]) -> None:
        """Raise `UsageError` if nothing in a system of these members is such a target."""
        ...

    def choose(self, view: Snapshot) -> Sequence[Hit]:
        """Return what it will hit; raises `UsageError` if that cannot be."""
        ...

    async def inject(self, operator: Operator, hits: Sequence[Hit]) -> None:
        """Do it; return when its effect is seen."""
        ...

    def seen(self, view: Snapshot, hit: Hit) -> bool:
        """Return whether a snapshot shows that it happened."""
        ...

    async def heal(self, operator: Operator, hits: Sequence[Hit]) -> None:
        """Undo it; return when that is seen."""
        ...


@dataclass(frozen=True, slots=True)
class KillMember:
    """SIGKILL to `members` members at the same moment: the lowest address, the primary owner, or one by name.

    A second victim is the lowest address among the others.
    """

    name: ClassVar[str] = "kill-member"

    target: str = "lowest"
    members: int = 1

    def check(self, members: Sequence[Address]) -> None:
        """See `Fault.check`."""
        if len(members) <= self.members:
            raise UsageError(f"{len(members)} members cannot lose {self.members} with one to survive")
        if self.target not in ("lowest", "owner") and not any(self.target in _names(member) for member in members):
            known = ", ".join(_names(member)[0] for member in members)
            raise UsageError(f"--target {self.target} is no member that is up; there are lowest, owner, {known}")

    def choose(self, view: Snapshot) -> Sequence[Hit]:
        """See `Fault.choose`."""
        alive = sorted(
            (process for process in view.having(Role.HAZELCAST) if process.state in UP),
            key=lambda process: Address.parse(process.address),
        )
        self.check([Address.parse(process.address) for process in alive])
        first = self._first(view, alive)
        others = [process for process in alive if process is not first]
        owner = view.queue.owner if view.queue else None
        return [Hit(p.name, p.pid, p.address, p.name == owner) for p in [first, *others][: self.members]]

    def _first(self, view: Snapshot, alive: Sequence[ProcessView]) -> ProcessView:
        if self.target == "lowest":
            return alive[0]
        wanted = self.target
        if wanted == "owner":
            wanted = view.queue.owner or "" if view.queue else ""
        for process in alive:
            if wanted in _names(Address.parse(process.address)):
                return process
        raise UsageError("nobody knows now who owns the queue; see `microq queue`")

    async def inject(self, operator: Operator, hits: Sequence[Hit]) -> None:
        """See `Fault.inject`."""
        await operator.kill([hit.target for hit in hits])

    def seen(self, view: Snapshot, hit: Hit) -> bool:
        """See `Fault.seen`: the process that was there is gone."""
        process = view.named(hit.target)
        return hit.pid is not None and (process.state not in UP or process.pid != hit.pid)

    async def heal(self, operator: Operator, hits: Sequence[Hit]) -> None:
        """See `Fault.heal`: the member starts again and joins the others."""
        await operator.start([hit.target for hit in hits])


def _names(member: Address) -> tuple[str, str, str]:
    """Return what people may call a member: its name, its address, its port."""
    return f"{Role.HAZELCAST}-{member.port}", str(member), str(member.port)


FAULTS: dict[str, type[KillMember]] = {KillMember.name: KillMember}
"""Name on the command line -> fault."""
