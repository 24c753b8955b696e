"""The servers of a run, those of the queue and those of the maps: their command lines and their figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from microq import backends
from microq.backends.base import Answers, Seat
from microq.backends.jars import Engine
from microq.config import Config
from microq.fleet import SERVERS, ProcessState, Role, backend_of
from microq.supervisor import ports
from microq.supervisor.process import Process
from microq.supervisor.topology import ProcessSpec


class Servers:
    """The servers of each role. `open_servers` makes it; `specs` are all processes of the run."""

    def __init__(
        self, engine: Engine | None, specs: Sequence[ProcessSpec], of_role: Mapping[Role, backends.base.Servers]
    ) -> None:
        self.engine, self.specs, self._of_role = engine, specs, of_role

    def argv(self, spec: ProcessSpec, *, alone: bool) -> list[str]:
        """Return a server's command line; `alone`: no server is up that it can join. Raises `MachineError`."""
        return self._of_role[spec.role].argv(spec.name, alone=alone)

    async def ask(self, session: aiohttp.ClientSession, processes: Sequence[Process]) -> dict[Role, Answers]:
        """Query the servers that are ready, concurrently."""
        ready = [process.spec for process in processes if process.state is ProcessState.READY]
        found = await asyncio.gather(
            *(
                servers.ask(session, [spec.name for spec in ready if spec.role is role])
                for role, servers in self._of_role.items()
            )
        )
        return dict(zip(self._of_role, found, strict=True))

    def remove_data(self) -> None:
        """Remove what the servers stored on disk."""
        for servers in self._of_role.values():
            servers.remove_data()


@asynccontextmanager
async def open_servers(
    config: Config, folder: Path, engine: Engine | None, specs: Sequence[ProcessSpec]
) -> AsyncIterator[Servers]:
    """Yield the servers of a run."""
    taken = {spec.address.port for spec in specs}

    def reserve(count: int) -> list[int]:
        found = ports.reserve(count, taken)
        taken.update(found)
        return found

    async with AsyncExitStack() as stack:
        of_role = {}
        for role in SERVERS:
            if of_servers := backend_of(config, role):
                seats = [Seat(spec.name, spec.address, spec.hidden) for spec in specs if spec.role is role]
                opening = of_servers.open_servers(config, folder, engine, seats, reserve)
                of_role[role] = await stack.enter_async_context(opening)
        yield Servers(engine, specs, of_role)
