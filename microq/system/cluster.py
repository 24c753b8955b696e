"""The members of a run: how each is started, and whom to ask for figures."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from microq.config import Config
from microq.engines import hazelcast
from microq.engines.provision import Engine
from microq.errors import MachineError
from microq.fleet import Role
from microq.members import Source
from microq.system import ports
from microq.system.topology import ProcessSpec


class Cluster:
    """The members that this run starts; none if they run elsewhere. Each has an agent with a password of this run."""

    def __init__(self, config: Config, folder: Path, engine: Engine | None, specs: Sequence[ProcessSpec]) -> None:
        self._config, self._engine = config, engine
        listed = [spec for spec in specs if spec.role is Role.HAZELCAST]
        agents = [
            hazelcast.Agent(port, secrets.token_urlsafe(16))
            for port in ports.reserve(len(listed), {spec.address.port for spec in specs})
        ]
        self._members = {
            spec.name: hazelcast.Member(spec.name, spec.address, folder, agent, spec.hidden)
            for spec, agent in zip(listed, agents, strict=True)
        }

    def argv(self, name: str, *, alone: bool) -> list[str]:
        """Write a member's files and return its command line; `alone` if no other member is up to be joined."""
        if self._engine is None:
            raise MachineError("[hazelcast] managed = false: the members run elsewhere, microq starts none")
        member, settings, engine = self._members[name], self._config.hazelcast, self._engine
        hazelcast.write_files(self._config, member, [member.address] if alone else settings.hazelcast_clients)
        return hazelcast.argv(
            engine.java, engine.hazelcast, engine.agent, member, settings.heap, engine.archive.flags()
        )

    def sources(self, names: Sequence[str]) -> list[Source]:
        """Return where to ask those of the named processes that are members."""
        agents = [(name, self._members[name].agent) for name in names if name in self._members]
        return [Source(name, agent.url, agent.user, agent.password) for name, agent in agents]
