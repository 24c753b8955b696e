"""The configuration: parsed once into frozen types, every error naming file, table and key.

Where a value comes from: `--set` beats `MICROQ_<TABLE>_<KEY>` beats the file (`--config`, else `MICROQ_CONFIG`, else
`config.toml` in this folder) beats the default.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from microq.errors import ConfigError

DEFAULT_FILE = "config.toml"
FOLDER = ".microq"
"""The folder beside the configuration that holds a running system's control socket, records and runs."""

_PORTS = range(1, 65536)


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A host and a port, ordered as the task orders servers: lowest address first."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address as the start of an HTTP URL."""
        return f"http://{self}"

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read `host:port`; raises `ValueError` that says what is wrong."""
        if not isinstance(text, str):
            raise ValueError(f'an address is text such as "127.0.0.1:5001", not {text!r}')
        host, colon, port = text.strip().rpartition(":")
        if not colon or not host or any(c.isspace() or c in '/@"' for c in host) or ":" in host:
            raise ValueError(f'{text!r} is no address; write it as "127.0.0.1:5001"')
        if not (port.isascii() and port.isdigit()) or int(port) not in _PORTS:
            raise ValueError(f"{text!r}: the port must be a number from 1 to 65535")
        return cls(host, int(port))


def _addresses(value: Any) -> tuple[Address, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError('must be a list of addresses such as ["127.0.0.1:5001"]')
    return tuple(Address.parse(item) for item in value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"must be text in one line, not {value!r}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {value!r}")
    return value


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, not {value!r}")
        return value

    return check


def _heap(value: Any) -> str:
    text = _text(value)
    if not (text[:-1].isascii() and text[:-1].isdigit() and text[-1] in "mgMG"):
        raise ValueError(f'must be a size such as "256m" or "1g", not {value!r}')
    return text


def _one_of(*names: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in names:
            raise ValueError(f"must be one of {', '.join(names)}, not {value!r}")
        return str(value)

    return check


def _key(check: Callable[[Any], Any], default: Any) -> Any:
    return field(default=default, metadata={"check": check})


def _local(*ports: int) -> tuple[Address, ...]:
    return tuple(Address("127.0.0.1", port) for port in ports)


@dataclass(frozen=True, slots=True)
class ServiceIps:
    """Table `[service_ips]`: where every service listens."""

    messages_service: tuple[Address, ...] = _key(_addresses, _local(5001, 5002))
    logging_service: tuple[Address, ...] = _key(_addresses, _local(5003, 5004, 5005))
    facade_service: Address = _key(Address.parse, *_local(5000))
    config_service: Address = _key(Address.parse, *_local(5006))


@dataclass(frozen=True, slots=True)
class Hazelcast:
    """Table `[hazelcast]`: the cluster. `heartbeat_timeout` is in seconds."""

    hazelcast_cluster_name: str = _key(_text, "microservice")
    hazelcast_clients: tuple[Address, ...] = _key(_addresses, _local(5701, 5702, 5703))
    managed: bool = _key(_flag, default=True)
    heap: str = _key(_heap, "256m")
    partition_count: int = _key(_whole(1, 271), 13)
    heartbeat_timeout: int = _key(_whole(2, 300), 5)


@dataclass(frozen=True, slots=True)
class Queue:
    """Table `[queue]`. `max_size` counts messages, `backup_count` the copies beside the primary."""

    backend: str = _key(_one_of("hazelcast"), "hazelcast")
    name: str = _key(_text, "messages-queue")
    max_size: int = _key(_whole(1, 2**31 - 1), 100_000)
    backup_count: int = _key(_whole(0, 6), 2)


@dataclass(frozen=True, slots=True)
class Limits:
    """Table `[limits]`. `max_body` is the largest request in bytes."""

    max_body: int = _key(_whole(1024, 2**30), 1 << 20)


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
            values = getattr(self, table)
            lines += [f"{_kebab(f.name)} = {_toml(getattr(values, f.name))}" for f in dataclasses.fields(values)]
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
            _put(tables, "--set", name, value)
    config = Config(source, project, **{name: _table(source, name, kind, tables) for name, kind in _TABLES.items()})
    for name, value in counts:
        config = _count(config, name, value)
    _check_ports(config)
    return config


def _read(chosen: Path | None) -> tuple[str, dict[str, Any]]:
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
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), "", f"is not TOML: {error}") from error
    for name, table in tables.items():
        if name not in _TABLES:
            raise ConfigError(str(path), f"[{name}]", f"is no table of microq; there are {', '.join(_TABLES)}")
        if not isinstance(table, dict):
            raise ConfigError(str(path), name, f"must be a table; write [{name}]")
    return str(path), {name: dict(tables.get(name, {})) for name in _TABLES}


def _overlay(tables: dict[str, Any], environ: Mapping[str, str]) -> None:
    for table, kind in _TABLES.items():
        for key in dataclasses.fields(kind):
            variable = f"MICROQ_{table}_{key.name}".upper()
            if variable in environ:
                tables[table][_kebab(key.name)] = _literal(environ[variable])


def _put(tables: dict[str, Any], source: str, name: str, value: str) -> None:
    table, _, key = name.partition(".")
    if table not in _TABLES or not key:
        known = ", ".join([*_COUNTS, *(f"{name}.KEY" for name in _TABLES)])
        raise ConfigError(source, name, f"is nothing to set; there are {known}")
    tables[table][key] = _literal(value)


def _literal(value: str) -> Any:
    """Read a TOML value; what is none is text, so that nobody must quote twice in a shell."""
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _table(source: str, name: str, kind: type[Any], tables: dict[str, Any]) -> Any:
    keys = {_kebab(f.name): f for f in dataclasses.fields(kind)}
    values = {}
    for key, value in tables[name].items():
        if key not in keys:
            raise ConfigError(source, f"[{name}] {key}", f"is no key of microq; there are {', '.join(keys)}")
        try:
            values[keys[key].name] = keys[key].metadata["check"](value)
        except ValueError as error:
            raise ConfigError(source, f"[{name}] {key}", str(error)) from error
    return kind(**values)


def _count(config: Config, name: str, value: str) -> Config:
    if not (value.isascii() and value.isdigit()) or not 1 <= int(value) <= 20:  # noqa: PLR2004 - a laptop's limit
        raise ConfigError("--set", f"{name}={value}", "must be a whole number from 1 to 20")
    table, key = _COUNTS[name]
    attribute = key.replace("-", "_")
    addresses: list[Address] = list(getattr(getattr(config, table), attribute))[: int(value)]
    used = {address.port for _, address in _all_addresses(config)}
    while len(addresses) < int(value):
        port = next(port for port in range(addresses[-1].port + 1, _PORTS.stop) if port not in used)
        used.add(port)
        addresses.append(Address(addresses[-1].host, port))
    values = dataclasses.replace(getattr(config, table), **{attribute: tuple(addresses)})
    return dataclasses.replace(config, **{table: values})


def _all_addresses(config: Config) -> Iterable[tuple[str, Address]]:
    for table in (config.service_ips, config.hazelcast):
        for key in dataclasses.fields(table):
            value = getattr(table, key.name)
            listed = value if isinstance(value, tuple) else (value,)
            yield from ((_kebab(key.name), address) for address in listed if isinstance(address, Address))


def _check_ports(config: Config) -> None:
    seen: dict[Address, str] = {}
    for key, address in _all_addresses(config):
        if address in seen:
            raise ConfigError(config.source, key, f"{address} is listed already, in {seen[address]}")
        seen[address] = key


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def _toml(value: Any) -> str:
    # A JSON text, number, boolean or list of texts is TOML as it stands.
    if isinstance(value, tuple):
        return json.dumps([str(item) for item in value])
    return json.dumps(str(value) if isinstance(value, Address) else value)
