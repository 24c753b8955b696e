"""Faults of the services, and the restart of everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from microq.chaos.faults.base import Arena, Fault, Hit, gone, option, restarted
from microq.fleet import Role

TIMES = "How many times."

ORDER = (Role.HAZELCAST, Role.KAFKA, Role.CONFIG, Role.LOGGING, Role.MESSAGES, Role.FACADE)
"""The order in which everything is restarted: the servers, then the services."""


@dataclass(frozen=True, slots=True)
class ServiceKill(Fault):
    """SIGKILL to a random service of one role, at a random moment of the traffic; started again, `times` over.

    Moments are counted in messages, so that a seed repeats them. While it is gone up to `away` more are acknowledged.
    """

    role: ClassVar[Role]
    spacing: ClassVar[int] = 200
    """How many messages lie between two kills at most."""
    away: ClassVar[int] = 0

    times: int = option(3, TIMES, 1, 1000)

    async def strike(self, arena: Arena) -> None:
        """See `Fault.strike`."""
        for _ in range(self.times):
            await arena.flow.passes(arena.random.randint(1, min(self.spacing, max(1, arena.messages // 5))))
            await self._kill(arena, arena.random.choice(await arena.those_up(self.role)))

    async def _kill(self, arena: Arena, hit: Hit) -> None:
        async with arena.hitting([hit], "killed", gone) as names:
            await arena.operator.kill(names)
        if self.away:
            await arena.flow.passes(min(self.away, arena.messages // 10))
        await arena.operator.start(names)


@dataclass(frozen=True, slots=True)
class KillConsumer(ServiceKill):
    """Kill a random messages-service with SIGKILL at a random point of its loop and restart it, again and again."""

    name: ClassVar[str] = "kill-consumer"
    role: ClassVar[Role] = Role.MESSAGES

    times: int = option(20, TIMES, 1, 1000)


@dataclass(frozen=True, slots=True)
class KillLogging(ServiceKill):
    """Kill a random logging-service with SIGKILL under traffic, and restart it a little later."""

    name: ClassVar[str] = "kill-logging"
    role: ClassVar[Role] = Role.LOGGING
    away: ClassVar[int] = 200


@dataclass(frozen=True, slots=True)
class KillFacade(ServiceKill):
    """Kill the facade with SIGKILL under traffic and restart it; the client sends again with the same ids."""

    name: ClassVar[str] = "kill-facade"
    role: ClassVar[Role] = Role.FACADE


@dataclass(frozen=True, slots=True)
class RollingRestart(Fault):
    """Restart every member and broker, then every service, one after another, each when the one before is ready."""

    name: ClassVar[str] = "rolling-restart"

    async def strike(self, arena: Arena) -> None:
        """See `Fault.strike`."""
        for role in ORDER:
            for hit in await arena.those_up(role):
                async with arena.hitting([hit], "restarted", restarted) as names:
                    await arena.operator.restart(names)
                if not await arena.until_safe():
                    return
