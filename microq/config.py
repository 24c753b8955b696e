"""The configuration: parsed once into frozen types, every error naming file, table and key.

Where a value comes from: `--set` beats `MICROQ_<TABLE>_<KEY>` beats the file (`--config`, else `MICROQ_CONFIG`, else
`config.toml` in this folder) beats the default.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microq import values
from microq.errors import ConfigError
from microq.tables import Hazelcast, Limits, Queue, ServiceIps
from microq.values import Address

__all__ = ["DEFAULT_FILE", "FOLDER", "Address", "Config", "Hazelcast", "Limits", "Queue", "ServiceIps", "load"]

DEFAULT_FILE = "config.toml"
FOLDER = ".microq"
"""The folder beside the configuration that holds a running system's control socket, records and runs."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that is configured. `project` is the folder in which `.microq` lives."""

    source: str
    project: Path
    service_ips: ServiceIps = ServiceIps()
    hazelcast: Hazelcast = Hazelcast()
    queue: Queue = Queue()
    limits: Limits = Limits()

    @property
    def folder(self) -> Path:
        """The folder that holds what a running system needs on disk."""
        return self.project / FOLDER

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
    "queue": Queue,
    "limits": Limits,
}

_COUNTS = {
    "messages": ("service_ips", "messages-service"),
    "logging": ("service_ips", "logging-service"),
    "members": ("hazelcast", "hazelcast-clients"),
}
"""What `--set messages=3` sets: how many of a list of addresses there are."""

_MOST = 20
"""As many of a kind as a laptop carries."""


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it came, and where from: an error blames the right place."""

    value: Any
    source: str


_Tables = dict[str, dict[str, _Given]]


def load(path: Path | None = None, sets: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration; `path` is a file the user named, `sets` are `table.key=value` or `messages=3`.

    Raises `ConfigError`.
    """
    chosen = path or (Path(environ["MICROQ_CONFIG"]) if environ.get("MICROQ_CONFIG") else None)
    source, tables = _read(chosen)
    project = chosen.absolute().parent if chosen else Path.cwd()
    _overlay(tables, environ)
    counts: list[tuple[str, str]] = []
    for setting in sets:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError("--set", setting, 'write it as "queue.max-size=100" or "messages=3"')
        if name in _COUNTS:
            counts.append((name, value))
        else:
            _put(tables, name, value)
    config = Config(source, project, **{name: _table(name, kind, tables[name]) for name, kind in _TABLES.items()})
    for name, value in counts:
        config = _count(config, name, value)
    _check_ports(config)
    return config


def _read(chosen: Path | None) -> tuple[str, _Tables]:
    path = chosen or Path(DEFAULT_FILE)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        tables = tomllib.loads(text)
    except FileNotFoundError as error:
        if chosen is None:
            return "the defaults", {name: {} for name in _TABLES}
        raise ConfigError(str(path), "", "there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), "", f"cannot be read as UTF-8 text ({error})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(str(path), "", f"is not TOML: {error}") from error
    for name, table in tables.items():
        if name not in _TABLES:
            raise ConfigError(str(path), f"[{name}]", f"is no table of microq; there are {', '.join(_TABLES)}")
        if not isinstance(table, dict):
            raise ConfigError(str(path), name, f"must be a table; write [{name}]")
    given = {name: {k: _Given(v, str(path)) for k, v in tables.get(name, {}).items()} for name in _TABLES}
    return str(path), given


def _overlay(tables: _Tables, environ: Mapping[str, str]) -> None:
    for table, kind in _TABLES.items():
        for key in dataclasses.fields(kind):
            variable = f"MICROQ_{table}_{key.name}".upper()
            if variable in environ:
                tables[table][kebab(key.name)] = _Given(_literal(environ[variable]), variable)


def _put(tables: _Tables, name: str, value: str) -> None:
    table, _, key = name.partition(".")
    if table not in _TABLES or not key:
        known = ", ".join([*_COUNTS, *(f"{name}.KEY" for name in _TABLES)])
        raise ConfigError("--set", name, f"is nothing to set; there are {known}")
    tables[table][key] = _Given(_literal(value), "--set")


def _literal(value: str) -> Any:
    """Read a TOML value; what is none is text, so that nobody must quote twice in a shell."""
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return value


def _table(name: str, kind: type[Any], rows: dict[str, _Given]) -> Any:
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
    for table in (config.service_ips, config.hazelcast):
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


def kebab(name: str) -> str:
    """Return a field's name as the key of its table."""
    return name.replace("_", "-")


def _toml(value: Any) -> str:
    # A JSON text, number, boolean or list of texts is TOML as it stands.
    if isinstance(value, tuple):
        return json.dumps([str(item) for item in value])
    return json.dumps(str(value) if isinstance(value, Address) else value)
