"""Which processes the configuration asks for, and in which order they start."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from microq import services
from microq.config import Address, Config
from microq.errors import UnknownNameError
from microq.fleet import Detour, Role
from microq.system import ports

SERVICE = ("-m", "microq.services")
"""What follows the interpreter in the command line of a service."""

FORKSERVER = (sys.executable, "-m", "microq.services.forkserver")
"""The command line of what forks into services."""

STAGES: tuple[tuple[Role, ...], ...] = (
    (Role.HAZELCAST, Role.KAFKA),
    (Role.CONFIG, Role.LOGGING, Role.MESSAGES),
    (Role.FACADE,),
)
"""The order of the start; the stop goes backwards."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to run: its name, what it is, and where everybody finds it.

    With a detour it listens elsewhere, at `hidden`, and somebody else leads there from its address.
    """

    name: str
    role: Role
    address: Address
    hidden: Address | None = None

    @property
    def door(self) -> Address:
        """Where the process itself listens."""
        return self.hidden or self.address


def specs(config: Config, detours: Sequence[Detour] = ()) -> list[ProcessSpec]:
    """Return every process of the configured system, in the order of the start."""
    hidden = {detour.name: detour.hidden for detour in detours}
    found = []
    for role in (role for stage in STAGES for role in stage):
        listed = _addresses(config, role)
        named = [(f"{role}-{address.port}", address) for address in listed]
        found += [ProcessSpec(name, role, address, hidden.get(name)) for name, address in named]
    return found


def _addresses(config: Config, role: Role) -> Sequence[Address]:
    """Return where the processes of a role listen; none of servers that run elsewhere, or are not wanted."""
    if role is Role.HAZELCAST:
        return config.hazelcast.hazelcast_clients if config.hazelcast.managed else ()
    if role is Role.KAFKA:
        return config.kafka.kafka_brokers if config.has_brokers else ()
    return services.addresses(config, role)


def check_ports(listed: Sequence[ProcessSpec]) -> None:
    """Raise `PortTakenError` if somebody listens where one of these processes must."""
    for spec in listed:
        ports.check(spec.name, spec.door)


def plan_detours(config: Config) -> list[Detour]:
    """Return a detour to every process of the system, each through a free port of loopback.

    Whoever starts the system with them opens the links first. Raises `PortTakenError` if one of the configured
    addresses, which are where the links listen, is in use.
    """
    listed = specs(config)
    check_ports(listed)
    # The configured ports are free as well, and a link is to have them.
    hidden = ports.reserve(len(listed), {spec.address.port for spec in listed})
    return [
        Detour(spec.name, spec.address, Address("127.0.0.1", port)) for spec, port in zip(listed, hidden, strict=True)
    ]


def select(known: Sequence[ProcessSpec], words: Sequence[str]) -> list[str]:
    """Return the names that words on a command line mean: a name, a group such as `messages`, a port, or `all`.

    Raises `UnknownNameError`.
    """
    chosen: set[str] = set()
    for word in words:
        hits = {spec.name for spec in known if word in (spec.name, spec.role.value, str(spec.address.port), "all")}
        if not hits:
            groups = sorted({spec.role.value for spec in known})
            raise UnknownNameError(word, [*groups, *(spec.name for spec in known)])
        chosen |= hits
    return [spec.name for spec in known if spec.name in chosen]


def service_argv(spec: ProcessSpec, config_file: Path, defect: str = "") -> list[str]:
    """Return the command line of a service, or of one with a defect that a scenario asks for."""
    role, port = spec.role.value, str(spec.address.port)
    module = ("-m", "microq.services.defects", defect) if defect else SERVICE
    bind = ["--bind", str(spec.hidden)] if spec.hidden else []
    return [sys.executable, *module, role, "--config", str(config_file), "--port", port, *bind]


def child_environment(config: Config, run: str) -> dict[str, str]:
    """Return the environment of every child: marked as ours, and without settings, which are in its file."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MICROQ_")}
    marks = {"MICROQ_RUN": run, "MICROQ_PROJECT": str(config.project)}
    # The HTTP library reads the machine's certificates at its import, 2 MB and 40 ms that no service has a use for.
    return {**kept, **marks, "PYTHONUNBUFFERED": "1", "SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
