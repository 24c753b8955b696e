"""The brokers of a run: how each is started, and whom to ask for figures."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from microq.config import Address, Config
from microq.engines import kafka
from microq.engines.provision import Engine
from microq.errors import MachineError
from microq.fleet import Role
from microq.system import ports
from microq.system.topology import ProcessSpec


class Brokers:
    """The brokers that this run starts; none if they run elsewhere. Their data lives as long as the run."""

    def __init__(self, config: Config, folder: Path, engine: Engine | None, specs: Sequence[ProcessSpec]) -> None:
        self._config, self._engine, self._data = config, engine, folder / "data"
        listed = [spec for spec in specs if spec.role is Role.KAFKA]
        inner = iter(ports.reserve(2 * len(listed), {spec.address.port for spec in specs}))
        self._brokers = {
            spec.name: kafka.Broker(
                number,
                spec.name,
                spec.address,
                Address(spec.address.host, next(inner)),
                Address(spec.address.host, next(inner)),
                folder,
                spec.hidden,
            )
            for number, spec in enumerate(listed, start=1)
        }
        self._cluster_id = kafka.new_id()

    def argv(self, name: str) -> list[str]:
        """Write a broker's files and return its command line; raises `MachineError` if it cannot be started."""
        if self._engine is None or self._engine.kafka is None:
            raise MachineError("[kafka] managed = false: the brokers run elsewhere, microq starts none")
        broker, parts = self._brokers[name], self._engine.kafka
        kafka.write_files(self._config, broker, list(self._brokers.values()), self._cluster_id)
        flags = parts.archive.flags()
        return kafka.argv(self._engine.java, parts.jars, broker, self._config.kafka.heap, flags)

    def remove_data(self) -> None:
        """Remove what the brokers stored: the next run has a cluster of its own."""
        shutil.rmtree(self._data, ignore_errors=True)
