"""Faults of the services, and the restart of everything."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from microq.chaos.faults.base import SERVERS, Arena, Fault, Hit, gone, option, paused, restarted
from microq.fleet import STAGES, Role, Snapshot

TIMES = "The number of hits."

JUMP = 300.0
"""Seconds by which a clock must differ to count as changed."""


@dataclass(frozen=True, slots=True)
class ServiceFault(Fault):
    """Hits a random service of one role, at random moments of the traffic, `times` times.

    Moments are counted in messages, so a seed repeats them.
    """

    role: ClassVar[Role]
    spacing: ClassVar[int]
    """The largest number of messages between two hits."""

    times: int = option(3, TIMES, 1, 1000)

    async def strike(self, arena: Arena) -> None:
        """Hit a random service of the role at each of `times` random moments."""
        for _ in range(self.times):
            await arena.flow.passes(arena.random.randint(1, min(self.spacing, max(1, arena.messages // 5))))
            await self.hit(arena, arena.random.choice(await arena.those_up(self.role)))

    @abstractmethod
    async def hit(self, arena: Arena, hit: Hit) -> None:
        """Apply the fault to one service, and undo it."""


@dataclass(frozen=True, slots=True)
class ServiceKill(ServiceFault):
    """SIGKILL, and a start. While it is down, the others of its role acknowledge up to `meanwhile` more messages."""

    spacing: ClassVar[int] = 200
    meanwhile: ClassVar[int] = 0

    async def hit(self, arena: Arena, hit: Hit) -> None:
        """Kill the service, let some messages pass, and start it again."""
        async with arena.hitting([hit], "killed", gone) as names:
            await arena.operator.kill(names)
        if self.meanwhile and await arena.those_up(self.role):
            await arena.flow.passes(min(self.meanwhile, arena.messages // 10))
        await arena.operator.start(names)


@dataclass(frozen=True, slots=True)
class KillConsumer(ServiceKill):
    """Kill a random messages-service with SIGKILL at a random point of its loop and restart it, repeatedly."""

    name: ClassVar[str] = "kill-consumer"
    reorders: ClassVar[bool] = True
    role: ClassVar[Role] = Role.MESSAGES

    times: int = option(20, TIMES, 1, 1000)


@dataclass(frozen=True, slots=True)
class KillLogging(ServiceKill):
    """Kill a random logging-service with SIGKILL under traffic, and restart it a little later."""

    name: ClassVar[str] = "kill-logging"
    role: ClassVar[Role] = Role.LOGGING
    meanwhile: ClassVar[int] = 200


@dataclass(frozen=True, slots=True)
class KillFacade(ServiceKill):
    """Kill the facade with SIGKILL under traffic and restart it; the client sends again with the same ids."""

    name: ClassVar[str] = "kill-facade"
    role: ClassVar[Role] = Role.FACADE


@dataclass(frozen=True, slots=True)
class ServicePause(ServiceFault):
    """Stops a service with SIGSTOP for some `seconds`. It keeps its connections and answers nothing."""

    spacing: ClassVar[int] = 100

    seconds: float = option(3.0, "The duration, in seconds.", 0.1, 120)
    times: int = option(2, TIMES, 1, 100)

    async def hit(self, arena: Arena, hit: Hit) -> None:
        """Pause the service for some seconds and resume it."""
        async with arena.pausing([hit], self.seconds, "paused", paused):
            pass
        arena.step(f"{hit.target} runs again")


@dataclass(frozen=True, slots=True)
class PauseLogging(ServicePause):
    """Freeze a random logging-service under traffic: the others do its work; when it resumes it finishes its own."""

    name: ClassVar[str] = "pause-logging"
    role: ClassVar[Role] = Role.LOGGING


@dataclass(frozen=True, slots=True)
class PauseConsumer(ServicePause):
    """Freeze a random messages-service while it holds messages that are not stored, and resume it."""

    name: ClassVar[str] = "pause-consumer"
    # Messages that are taken over meanwhile follow those that the others have.
    reorders: ClassVar[bool] = True
    role: ClassVar[Role] = Role.MESSAGES

    seconds: float = option(8.0, "The duration, in seconds.", 0.1, 120)


@dataclass(frozen=True, slots=True)
class RollingRestart(Fault):
    """Restart every member and broker, then every service, one after another; each waits for the one before."""

    name: ClassVar[str] = "rolling-restart"
    breaks: ClassVar[frozenset[str]] = frozenset({SERVERS, *chain(*STAGES)})
    reorders: ClassVar[bool] = True

    async def strike(self, arena: Arena) -> None:
        """Restart one process after another, each when the cluster is safe again."""
        for role in chain(*STAGES):
            for hit in await arena.those_up(role):
                async with arena.hitting([hit], "restarted", restarted) as names:
                    await arena.operator.restart(names)
                if not await arena.until_settled():
                    return


@dataclass(frozen=True, slots=True)
class JumpClock(Fault):
    """Restart the facade with its wall clock 10 minutes back, then 10 minutes ahead, under traffic, then correct.

    Only the clock of its process changes, not that of the machine.
    """

    name: ClassVar[str] = "jump-clock"
    needs_own: ClassVar[frozenset[str]] = frozenset({Role.FACADE})
    role: ClassVar[Role] = Role.FACADE
    reorders: ClassVar[bool] = True

    passing: int = option(100, "The number of messages that pass after each jump.", 1, 100_000)

    async def strike(self, arena: Arena) -> None:
        """Set the clock back, then ahead; messages that a jump delays are redelivered after the visibility timeout."""
        for defect, way in (("clock-back", -1), ("clock-ahead", 1)):
            await arena.flow.passes(arena.random.randint(1, min(self.passing, max(1, arena.messages // 5))))
            hits = await arena.those_up(self.role)
            ahead: list[float | None] = [None]
            jumped = lambda view, hit, way=way, ahead=ahead: _jumped(view, hit, way, ahead[-1])  # noqa: E731 - a proof
            await arena.operator.sabotage(self.role, defect)
            async with arena.hitting(
                hits, f"restarted, with its clock {defect.removeprefix('clock-')}", jumped
            ) as names:
                await arena.operator.restart(names)
                ahead.append(await arena.flow.ahead())
            await arena.flow.passes(self.passing)
            await asyncio.sleep(arena.config.queue.visibility_timeout + 1)

    async def heal(self, arena: Arena) -> None:
        """Restart the facade with the clock of this machine."""
        await arena.operator.sabotage(self.role, "")
        ahead = await arena.flow.ahead()
        if ahead is None or abs(ahead) >= JUMP:
            await arena.operator.restart([self.role])
            arena.step("the facade has the time of this machine again")


def _jumped(view: Snapshot, hit: Hit, way: int, ahead: float | None) -> bool:
    """Prove a jump: a new process answers, and its time differs from the time here."""
    return restarted(view, hit) and ahead is not None and way * ahead >= JUMP
