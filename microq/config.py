"""The configuration: parsed once into frozen types, every error naming file, table and key.

Where a value comes from: `--set` beats `MICROQ_<TABLE>_<KEY>` beats the file (`--config`, else `MICROQ_CONFIG`, else
`config.toml` in this folder) beats the default.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microq import sources, values
from microq.errors import ConfigError
from microq.sources import DEFAULT_FILE, Given, kebab
from microq.tables import Dashboard, Facade, Hazelcast, Kafka, Limits, Logs, Queue, ServiceIps, Tracing
from microq.values import Address

__all__ = [
    "DEFAULT_FILE",
    "FOLDER",
    "Address",
    "Config",
    "Dashboard",
    "Facade",
    "Hazelcast",
    "Kafka",
    "Limits",
    "Logs",
    "Queue",
    "ServiceIps",
    "Tracing",
    "kebab",
    "load",
]

FOLDER = ".microq"
"""The folder beside the configuration that holds a running system's control socket, records and runs."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that is configured. `project` is the folder in which `.microq` lives."""

    source: str
    project: Path
    service_ips: ServiceIps = ServiceIps()
    hazelcast: Hazelcast = Hazelcast()
    kafka: Kafka = Kafka()
    queue: Queue = Queue()
    facade: Facade = Facade()
    dashboard: Dashboard = Dashboard()
    limits: Limits = Limits()
    logs: Logs = Logs()
    tracing: Tracing = Tracing()

    @property
    def folder(self) -> Path:
        """The folder that holds what a running system needs on disk."""
        return self.project / FOLDER

    @property
    def servers(self) -> tuple[Address, ...]:
        """Where the servers of the queue are."""
        return self.kafka.kafka_brokers if self.queue.backend == "kafka" else self.hazelcast.hazelcast_clients

    @property
    def managed(self) -> bool:
        """Whether microq starts the servers of the queue."""
        return self.kafka.managed if self.queue.backend == "kafka" else self.hazelcast.managed

    @property
    def has_brokers(self) -> bool:
        """Whether microq starts brokers of Kafka."""
        return self.queue.backend == "kafka" and self.kafka.managed

    def to_toml(self) -> str:
        """Return all values in force as TOML, for the children and for people to read."""
        lines = [f"# The values in force; they came from {self.source}."]
        for table in _TABLES:
            lines.append(f"\n[{table}]")
            rows = getattr(self, table)
            lines += [f"{kebab(f.name)} = {_toml(getattr(rows, f.name))}" for f in dataclasses.fields(rows)]
        return "\n".join(lines) + "\n"


_TABLES: dict[str, type[Any]] = {
    "service_ips": ServiceIps,
    "hazelcast": Hazelcast,
    "kafka": Kafka,
    "queue": Queue,
    "facade": Facade,
    "dashboard": Dashboard,
    "limits": Limits,
    "logs": Logs,
    "tracing": Tracing,
}

_COUNTS = {
    "messages": ("service_ips", "messages-service"),
    "logging": ("service_ips", "logging-service"),
    "members": ("hazelcast", "hazelcast-clients"),
    "brokers": ("kafka", "kafka-brokers"),
}
"""What `--set messages=3` sets: how many of a list of addresses there are."""

_MOST = 20
"""As many of a kind as a laptop carries."""


def load(path: Path | None = None, sets: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration; `path` is a file the user named, `sets` are `table.key=value` or `messages=3`.

    Raises `ConfigError`.
    """
    chosen = path or (Path(environ["MICROQ_CONFIG"]) if environ.get("MICROQ_CONFIG") else None)
    project = chosen.absolute().parent if chosen else Path.cwd()
    source, tables = sources.read(chosen, _TABLES)
    sources.overlay(
        tables, {name: [f.name for f in dataclasses.fields(kind)] for name, kind in _TABLES.items()}, environ
    )
    counts = sources.put(tables, sets, _COUNTS)
    config = Config(source, project, **{name: _table(name, kind, tables[name]) for name, kind in _TABLES.items()})
    for name, value in counts:
        config = _count(config, name, value)
    _check_ports(config)
    return config


def _table(name: str, kind: type[Any], rows: dict[str, Given]) -> Any:
    keys = {kebab(f.name): f for f in dataclasses.fields(kind)}
    checked = {}
    for key, given in rows.items():
        if key not in keys:
            raise ConfigError(given.source, f"[{name}] {key}", f"is no key of microq; there are {', '.join(keys)}")
        try:
            checked[keys[key].name] = keys[key].metadata["check"](given.value)
        except ValueError as error:
            raise ConfigError(given.source, f"[{name}] {key}", str(error)) from error
    return kind(**checked)


def _count(config: Config, name: str, text: str) -> Config:
    if text not in map(str, range(1, _MOST + 1)):
        raise ConfigError("--set", f"{name}={text}", f"must be a whole number from 1 to {_MOST}")
    table, key = _COUNTS[name]
    attribute = key.replace("-", "_")
    listed: list[Address] = list(getattr(getattr(config, table), attribute))[: int(text)]
    used = {address.port for _, address in _all_addresses(config)}
    free = (port for port in range(listed[-1].port + 1, values.PORTS.stop) if port not in used)
    listed += [Address(listed[-1].host, port) for port in itertools.islice(free, int(text) - len(listed))]
    if len(listed) < int(text):
        raise ConfigError("--set", f"{name}={text}", f"no port is left above {listed[-1].port}")
    changed = dataclasses.replace(getattr(config, table), **{attribute: tuple(listed)})
    return dataclasses.replace(config, **{table: changed})


def _all_addresses(config: Config) -> Iterable[tuple[str, Address]]:
    for table in (config.service_ips, config.hazelcast, config.kafka, config.dashboard):
        for key in dataclasses.fields(table):
            value = getattr(table, key.name)
            listed = value if isinstance(value, tuple) else (value,)
            yield from ((kebab(key.name), address) for address in listed if isinstance(address, Address))


def _check_ports(config: Config) -> None:
    seen: dict[Address, str] = {}
    for key, address in _all_addresses(config):
        if address in seen:
            raise ConfigError(config.source, key, f"{address} is listed already, in {seen[address]}")
        seen[address] = key


def _toml(value: Any) -> str:
    # A JSON text, number, boolean or list of texts is TOML as it stands.
    if isinstance(value, tuple):
        return json.dumps([str(item) for item in value])
    return json.dumps(str(value) if isinstance(value, Address) else value)
