"""The processes that a configuration asks for: their order, command lines and environments, and the open servers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from microq import backends, hints, interpreter
from microq.backends import java
from microq.backends.base import Answers, Seat
from microq.backends.jars import Engine
from microq.config import NAME_VARIABLE, Address, Config
from microq.errors import UnknownNameError, UsageError
from microq.fleet import (
    SERVERS,
    STAGES,
    Detour,
    Role,
    addresses,
    backend_of,
    called,
    group_of,
    name_of,
    program_of,
)
from microq.settings import Program
from microq.supervisor import ports

SERVICE = (*interpreter.PYTHON_M, "microq.services")
"""The start of a service's command line."""

FORKSERVER = (*interpreter.PYTHON_M, "microq.services.forkserver")
"""The command line of the fork server of the services."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to run: its name, its role and its address, and the external program that it is, if it is one.

    Behind a detour it listens at `hidden`, and a link at its address forwards to it.
    """

    name: str
    role: Role
    address: Address
    hidden: Address | None = None
    program: Program | None = None

    @property
    def door(self) -> Address:
        """The address at which the process itself listens."""
        return self.hidden or self.address


def specs(config: Config, detours: Sequence[Detour] = ()) -> list[ProcessSpec]:
    """Return every process of the configured system, in the order of the start."""
    hidden = {detour.name: detour.hidden for detour in detours}
    found = []
    for role in (role for stage in STAGES for role in stage):
        listed = _addresses(config, role)
        named = [(name_of(config, role, address), address) for address in listed]
        program = program_of(config, role)
        found += [ProcessSpec(name, role, address, hidden.get(name), program) for name, address in named]
    return found


def _addresses(config: Config, role: Role) -> Sequence[Address]:
    """Return the addresses of a role's processes; none for servers that run elsewhere or are not configured."""
    servers = backend_of(config, role)
    return () if servers and not servers.managed(config) else addresses(config, role)


def check_ports(listed: Sequence[ProcessSpec]) -> None:
    """Raise `PortTakenError` if another process listens on an address of these processes."""
    for spec in listed:
        ports.check(spec.name, spec.door)


def plan_detours(config: Config) -> list[Detour]:
    """Return a detour for every process of the system, each with a free port of loopback.

    The links listen at the configured addresses and are opened before the system starts. Raises `PortTakenError` if
    one of these addresses is in use, and `UsageError` if a program listens at a port of its own choice.
    """
    listed = specs(config)
    if fixed := [spec.name for spec in listed if spec.program and not spec.program.takes_port]:
        raise UsageError(f"no link can be put before {', '.join(fixed)}: its command has no {{port}}")
    check_ports(listed)
    # The configured ports are free too, but the links need them.
    hidden = ports.reserve(len(listed), {spec.address.port for spec in listed})
    return [
        Detour(spec.name, spec.address, Address("127.0.0.1", port)) for spec, port in zip(listed, hidden, strict=True)
    ]


def select(known: Sequence[ProcessSpec], words: Sequence[str]) -> list[str]:
    """Return the names that words on a command line select: a name, a group such as `messages`, an address, or `all`.

    The port of an address is enough if only one process has it. Raises `UnknownNameError` and `UsageError`.
    """
    addresses = [(spec.name, spec.address) for spec in known]
    chosen: set[str] = set()
    for word in words:
        hits = {spec.name for spec in known if word in (group_of(spec.name), spec.role.value, "all")}
        if not hits and (name := called(word, addresses)):
            hits = {name}
        if not hits:
            groups = sorted({group_of(spec.name) for spec in known})
            raise UnknownNameError(word, [*groups, *(spec.name for spec in known)])
        chosen |= hits
    return [spec.name for spec in known if spec.name in chosen]


def service_argv(
    spec: ProcessSpec, config_file: Path, defect: str = "", beside: Sequence[ProcessSpec] = ()
) -> list[str]:
    """Return the command line of a service, with a defect if a scenario asks for one.

    `beside` are services of its role that start at the same time: they share the waiting messages from the start.
    """
    role, place = spec.role.value, ["--host", spec.address.host, "--port", str(spec.address.port)]
    begin = (*interpreter.PYTHON_M, "microq.services.faulty", defect) if defect else SERVICE
    bind = ["--bind", str(spec.hidden)] if spec.hidden else []
    others = [word for other in beside for word in ("--beside", str(other.door))]
    return [*begin, role, "--config", str(config_file), *place, *bind, *others]


def program_argv(config: Config, spec: ProcessSpec, program: Program) -> list[str]:
    """Return the command line of an external program."""
    return program.argv(_placeholders(config, spec))


def program_environment(config: Config, spec: ProcessSpec, program: Program, run: str) -> dict[str, str]:
    """Return the environment of an external program: that of this process, and what is configured."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MICROQ_")}
    # Without a terminal Python would write its lines in blocks, long after it printed them.
    return {**kept, "PYTHONUNBUFFERED": "1", **program.variables(_placeholders(config, spec)), **_marks(config, run)}


def _placeholders(config: Config, spec: ProcessSpec) -> dict[str, str]:
    """Return the values of `PLACEHOLDERS` for a process."""
    listed = {role.value: ",".join(map(str, addresses(config, role))) for role in Role}
    return {
        **listed,
        "host": spec.door.host,
        "port": str(spec.door.port),
        "config_url": config.service_ips.config_service.url,
        "servers": ",".join(map(str, config.servers)),
        "members": ",".join(map(str, sorted(config.hazelcast.hazelcast_clients))),
        "cluster": config.hazelcast.hazelcast_cluster_name,
        "queue": config.queue.name,
    }


def child_environment(config: Config, run: str) -> dict[str, str]:
    """Return the environment of services: without microq's variables, whose values are in the configuration file."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MICROQ_")}
    # The HTTP library reads the machine's certificates when it is imported: 2 MB and 40 ms that no service needs.
    return {
        **interpreter.environment(kept),
        **_marks(config, run),
        "PYTHONUNBUFFERED": "1",
        "SSL_CERT_FILE": os.devnull,
        "SSL_CERT_DIR": os.devnull,
    }


def server_environment(config: Config, role: Role, run: str) -> dict[str, str]:
    """Return the environment of the servers of a role: it contains only configured and harmless variables."""
    servers = backend_of(config, role)
    settings = servers.settings(config).environment if servers else ()
    return {**java.environment(settings), **_marks(config, run)}


def _marks(config: Config, run: str) -> dict[str, str]:
    """Return the environment variables that mark a child of this run, and with which it suggests commands."""
    return {
        **hints.variables(),
        "MICROQ_RUN": run,
        "MICROQ_PROJECT": str(config.project),
        NAME_VARIABLE: config.name,
        "MICROQ_SUPERVISOR": str(os.getpid()),
    }


# -- their servers ----------------------------------------------------------------------------------------------------


class Servers:
    """The servers of each role. `open_servers` makes it; `specs` are all processes of the run."""

    def __init__(
        self, engine: Engine | None, specs: Sequence[ProcessSpec], of_role: Mapping[Role, backends.base.Servers]
    ) -> None:
        self.engine, self.specs, self._of_role = engine, specs, of_role

    def argv(self, spec: ProcessSpec, *, alone: bool) -> list[str]:
        """Return a server's command line; `alone`: no server is up that it can join. Raises `MachineError`."""
        return self._of_role[spec.role].argv(spec.name, alone=alone)

    async def ask(self, session: aiohttp.ClientSession, ready: Sequence[ProcessSpec]) -> dict[Role, Answers]:
        """Query those servers concurrently that are among the `ready` processes."""
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
