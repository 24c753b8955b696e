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
from microq.fleet import Role

STAGES: tuple[tuple[Role, ...], ...] = (
    (Role.HAZELCAST,),
    (Role.CONFIG, Role.LOGGING, Role.MESSAGES),
    (Role.FACADE,),
)
"""The order of the start; the stop goes backwards."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to run: its name, what it is, and where it listens."""

    name: str
    role: Role
    address: Address


def specs(config: Config) -> list[ProcessSpec]:
    """Return every process of the configured system, in the order of the start."""
    found = []
    for role in (role for stage in STAGES for role in stage):
        if role is Role.HAZELCAST:
            listed: Sequence[Address] = config.hazelcast.hazelcast_clients if config.hazelcast.managed else ()
        else:
            listed = services.addresses(config, role)
        found += [ProcessSpec(f"{role}-{address.port}", role, address) for address in listed]
    return found


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
    module = ["microq.services.defects", defect] if defect else ["microq.services"]
    return [sys.executable, "-m", *module, role, "--config", str(config_file), "--port", port]


def child_environment(config: Config, run: str) -> dict[str, str]:
    """Return the environment of every child: marked as ours, and without settings, which are in its file."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MICROQ_")}
    marks = {"MICROQ_RUN": run, "MICROQ_PROJECT": str(config.project)}
    # The HTTP library reads the machine's certificates at its import, 2 MB and 40 ms that no service has a use for.
    return {**kept, **marks, "PYTHONUNBUFFERED": "1", "SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
