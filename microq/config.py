"""The configuration: parsed once into frozen types; every error names file, table and key.

The order of precedence: `--set`, then `MICROQ_<TABLE>_<KEY>`, then the file (`--config`, else `MICROQ_CONFIG`, else
`config.toml` in this folder), then the default.

`MICROQ_NAME` selects a system of the project: each name is a separate system with its own state folder.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microq import capacity
from microq.backends import BACKENDS, MAP_STORE, backend, names
from microq.capacity import Capacity
from microq.errors import ConfigError
from microq.settings import (
    EVERYWHERE,
    PORTS,
    Address,
    Dashboard,
    Facade,
    Hazelcast,
    Limits,
    Logs,
    Program,
    Queue,
    ServiceIps,
    Services,
    Tracing,
    system_name,
)
from microq.wire import Call, Wire

if TYPE_CHECKING:  # `microq --help` needs no backend
    from microq.backends.base import Backend

__all__ = [
    "DEFAULT_FILE",
    "FOLDER",
    "Address",
    "Config",
    "Dashboard",
    "Facade",
    "Hazelcast",
    "Limits",
    "Logs",
    "Program",
    "Queue",
    "ServiceIps",
    "Services",
    "Tracing",
    "Wire",
    "kebab",
    "load",
    "located",
]

DEFAULT_FILE = "config.toml"

FOLDER = ".microq"
"""The folder beside the configuration that holds a running system's control socket, records and runs."""

PRIVATE = ("environment", "env")
"""The keys whose values may be secrets, such as a licence or a password for a server."""

NAMES = "names"
"""The folder in `FOLDER` that holds the state folder of each named system."""

NAME_VARIABLE = "MICROQ_NAME"
"""The environment variable that selects a system of the project."""


def _of_backends() -> dict[str, Any]:
    """Return the default tables of the backends that come with microq."""
    return {name: backend(name).table() for name in BACKENDS}


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration.

    `project` is the folder that contains `.microq`. `name` distinguishes the systems of one project; it is empty for
    the unnamed one.
    """

    source: str
    project: Path
    service_ips: ServiceIps = ServiceIps()
    services: Services = Services()
    wire: Wire = Wire()
    backends: Mapping[str, Any] = field(default_factory=_of_backends)
    """Name of a backend -> its table, also of backends that this system does not use."""
    queue: Queue = Queue()
    facade: Facade = Facade()
    dashboard: Dashboard = Dashboard()
    limits: Limits = Limits()
    logs: Logs = Logs()
    tracing: Tracing = Tracing()
    name: str = ""

    @property
    def folder(self) -> Path:
        """The state folder: what a running system needs on disk."""
        return self.project / FOLDER / NAMES / self.name if self.name else self.project / FOLDER

    @property
    def title(self) -> str:
        """The name of this system for people: its folder, and its name if it has one."""
        return f"{self.project} (name {self.name})" if self.name else str(self.project)

    @property
    def by_text(self) -> bool:
        """Whether messages are counted by their texts: a service that has them is external, or the wire is not ours."""
        found = self.services
        external = (found.facade_service, found.logging_service, found.messages_service)
        return any(external) or self.wire != Wire()

    @property
    def hazelcast(self) -> Hazelcast:
        """The table of the members, which keep the maps."""
        found: Hazelcast = self.backends[MAP_STORE]
        return found

    def with_settings(self, of_backend: str, **settings: Any) -> Config:
        """Return a copy with other values in the table of a backend."""
        return self.with_tables({of_backend: dataclasses.replace(self.backends[of_backend], **settings)})

    @property
    def tables(self) -> dict[str, Any]:
        """Every table, by its name."""
        return {"service_ips": self.service_ips, **self.backends, **{name: getattr(self, name) for name in _TABLES}}

    def with_tables(self, tables: Mapping[str, Any]) -> Config:
        """Return a copy with other tables, each in place of the one with its name."""
        of_backends = {name: tables.get(name, table) for name, table in self.backends.items()}
        others = {name: table for name, table in tables.items() if name not in of_backends}
        return dataclasses.replace(self, backends=of_backends, **others)

    @property
    def capacity(self) -> Capacity:
        """The number of messages that fit into the members' memory."""
        return Capacity.of(self.hazelcast, self.queue)

    @property
    def misfits(self) -> list[str]:
        """A line for each setting that allows more than the members' memory carries; empty if they run elsewhere."""
        return list(capacity.misfits(self.hazelcast, self.queue, self.limits)) if self.hazelcast.managed else []

    @property
    def servers(self) -> tuple[Address, ...]:
        """The addresses of the queue's servers."""
        return backend(self.queue.backend).addresses(self)

    @property
    def managed(self) -> bool:
        """Whether microq starts the servers of the queue."""
        return backend(self.queue.backend).managed(self)

    def to_toml(self) -> str:
        """Return all effective values as TOML, for the child processes and for people."""
        lines = [f"# The effective values; they came from {self.source}."]
        for table, rows in self.tables.items():
            lines.append(f"\n[{table}]")
            values = {kebab(f.name): getattr(rows, f.name) for f in dataclasses.fields(rows)}
            inner = {key: value for key, value in values.items() if isinstance(value, Program)}
            lines += [
                f"{key} = {_toml(value)}" for key, value in values.items() if value is not None and key not in inner
            ]
            for key, value in inner.items():
                lines.append(f"\n[{table}.{key}]")
                lines += [f"{f.name} = {_toml(getattr(value, f.name))}" for f in dataclasses.fields(value)]
        return "\n".join(lines) + "\n"


_TABLES: dict[str, type[Any]] = {
    "service_ips": ServiceIps,
    "services": Services,
    "wire": Wire,
    "queue": Queue,
    "facade": Facade,
    "dashboard": Dashboard,
    "limits": Limits,
    "logs": Logs,
    "tracing": Tracing,
}
"""The tables that every system has beside those of the backends."""

_COUNTS = {"messages": ("service_ips", "messages-service"), "logging": ("service_ips", "logging-service")}
"""What `--set messages=3` sets: the number of addresses in a list. Backends add the words for their servers."""

_MOST = 20
"""The largest number of processes of a kind: as many as a laptop carries."""


def load(path: Path | None = None, sets: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration; `path` is a file the user named, `sets` are `table.key=value` or `messages=3`.

    Raises `ConfigError`.
    """
    chosen = _chosen(path, environ)
    source, texts = _read(chosen)
    listed = [*sets]
    of_backends = _backends(texts, listed, environ)
    kinds: dict[str, type[Any]] = {"service_ips": ServiceIps}
    kinds |= {name: each.table for name, each in of_backends.items()} | _TABLES
    tables = _given(source, texts, kinds)
    _overlay(tables, {name: [f.name for f in dataclasses.fields(kind)] for name, kind in kinds.items()}, environ)
    known = _COUNTS | {each.words.servers(2): (name, each.addresses_key) for name, each in of_backends.items()}
    counts = _put(tables, listed, known)
    _check_backend(tables["queue"].get("backend"), of_backends)
    rows = {name: _table(name, kind, tables[name]) for name, kind in kinds.items()}
    backends = {name: rows.pop(name) for name in of_backends}
    rows["services"] = _located(rows["services"], _project(chosen))
    config = Config(source, _project(chosen), backends=backends, **rows, name=_name(environ.get(NAME_VARIABLE, "")))
    config = _adopted(config, {f"{name}.{key}" for name, table in tables.items() for key in table})
    for name, value in counts:
        config = _count(config, known[name], f"{name}={value}", value)
    _check_hosts(config)
    _check_ports(config)
    if not config.hazelcast.managed:
        return config
    if problem := capacity.too_large(config.hazelcast, config.queue, config.limits):
        raise ConfigError(config.source, "[limits] max-body", problem)
    return _fitted(config, tables)


def located(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Return the name and the folder of a system, with default values for the rest: a running system tells its own.

    Raises `ConfigError` for a wrong name.
    """
    chosen = _chosen(path, environ)
    return Config("the defaults", _project(chosen), name=_name(environ.get(NAME_VARIABLE, "")))


def _chosen(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file that the user named, if they did."""
    return path or (Path(environ["MICROQ_CONFIG"]) if environ.get("MICROQ_CONFIG") else None)


def _project(chosen: Path | None) -> Path:
    return chosen.absolute().parent if chosen else Path.cwd()


def _name(text: str) -> str:
    try:
        return system_name(text) if text else ""
    except ValueError as error:
        raise ConfigError(NAME_VARIABLE, "", str(error)) from error


def started_addresses(config: Config, apart_from: Iterable[str] = ()) -> list[Address]:
    """Return the addresses of everything that microq starts, except for the keys `apart_from`, each as `table.key`."""
    left_out = {*apart_from}
    return [
        address
        for name, table in _started(config).items()
        for key, address in _addresses_of(table)
        if f"{name}.{key}" not in left_out
    ]


def with_addresses(config: Config, others: Mapping[Address, Address]) -> Config:
    """Return the configuration with the addresses of what microq starts replaced by `others`; the rest stays."""

    def changed(value: Any) -> Any:
        if isinstance(value, Address):
            return others.get(value, value)
        return tuple(map(changed, value)) if isinstance(value, tuple) else value

    return config.with_tables(
        {
            name: dataclasses.replace(
                table, **{f.name: changed(getattr(table, f.name)) for f in dataclasses.fields(table)}
            )
            for name, table in _started(config).items()
        }
    )


def _started(config: Config) -> dict[str, Any]:
    """Return the tables with addresses of processes that microq starts, by name."""
    managed = {name: table for name, table in config.backends.items() if table.managed}
    return {"service_ips": config.service_ips, **managed, "dashboard": config.dashboard}


def _addresses_of(table: Any) -> Iterable[tuple[str, Address]]:
    for key in dataclasses.fields(table):
        value = getattr(table, key.name)
        listed = value if isinstance(value, tuple) else (value,)
        yield from ((kebab(key.name), address) for address in listed if isinstance(address, Address))


def _fitted(config: Config, tables: _Tables) -> Config:
    """Limit the values that were not set to what fits into the members' memory."""
    limits, queue = config.limits, config.queue
    if "max-held" not in tables["limits"]:
        limits = dataclasses.replace(limits, max_held=max(1, config.capacity.held))
    if "max-size" not in tables["queue"] and not config.hazelcast.config:
        queue = dataclasses.replace(queue, max_size=max(1, min(queue.max_size, config.capacity.waiting)))
    return dataclasses.replace(config, limits=limits, queue=queue)


def _table(name: str, kind: type[Any], rows: dict[str, _Given]) -> Any:
    keys = {kebab(f.name): f for f in dataclasses.fields(kind)}
    checked = {}
    for key, given in rows.items():
        if key not in keys:
            raise ConfigError(given.source, f"[{name}] {key}", f"is not a key; the keys are {', '.join(keys)}")
        try:
            checked[keys[key].name] = keys[key].metadata["check"](given.value)
        except ValueError as error:
            raise ConfigError(given.source, f"[{name}] {key}", str(error)) from error
    return getattr(kind, "made", kind)(**checked)


def _adopted(config: Config, given: Collection[str]) -> Config:
    """Return the configuration with the values of the user's own file of the members, except those that are given."""
    if not config.hazelcast.config:
        return config
    config = config.with_settings(MAP_STORE, config=str(config.project / config.hazelcast.config))
    return backend(MAP_STORE).adopted(config, given)


def _located(services: Services, project: Path) -> Services:
    """Return the external programs with absolute folders: a relative one is relative to the configuration."""
    programs = {f.name: getattr(services, f.name) for f in dataclasses.fields(services)}
    found = {
        name: dataclasses.replace(each, folder=str(project / each.folder)) for name, each in programs.items() if each
    }
    return dataclasses.replace(services, **found)


def _count(config: Config, place: tuple[str, str], setting: str, text: str) -> Config:
    """Return the configuration with this number of addresses at a place: a table and its key."""
    if text not in map(str, range(1, _MOST + 1)):
        raise ConfigError("--set", setting, f"must be a whole number from 1 to {_MOST}")
    table, attribute = place[0], place[1].replace("-", "_")
    listed: list[Address] = list(getattr(config.tables[table], attribute))[: int(text)]
    used = {address.port for *_, address in _all_addresses(config)}
    free = (port for port in range(listed[-1].port + 1, PORTS.stop) if port not in used)
    listed += [Address(listed[-1].host, port) for port in itertools.islice(free, int(text) - len(listed))]
    if len(listed) < int(text):
        raise ConfigError("--set", setting, f"no port is left above {listed[-1].port}")
    return config.with_tables({table: dataclasses.replace(config.tables[table], **{attribute: tuple(listed)})})


def _all_addresses(config: Config) -> Iterable[tuple[str, str, Address]]:
    """Yield every address that is listed, with its table and its key."""
    for name, table in config.tables.items():
        yield from ((name, key, address) for key, address in _addresses_of(table))


def _check_backend(given: _Given | None, of_backends: Collection[str]) -> None:
    """Raise `ConfigError` if there is no such backend."""
    if given and given.value not in [*of_backends]:
        problem = f"must be one of {', '.join(names())}, not {given.value!r}"
        raise ConfigError(given.source, "[queue] backend", problem)


def _check_hosts(config: Config) -> None:
    """Refuse a host that microq cannot listen on or be found at; servers that run elsewhere may have any host."""
    for table, key, address in _all_addresses(config):
        servers = config.backends.get(table)
        if (servers is None or servers.managed) and not address.is_numeric:
            problem = (
                f"{address}: a process of microq needs an IPv4 address of this machine, such as 127.0.0.1, not a name"
            )
            raise ConfigError(config.source, f"[{table}] {key}", problem)
        if servers and servers.managed and address.host == EVERYWHERE:
            problem = f"{address} means every address of this machine, and clients need one of them; write that"
            raise ConfigError(config.source, f"[{table}] {key}", problem)


def _check_ports(config: Config) -> None:
    seen: dict[Address, str] = {}
    for _, key, address in _all_addresses(config):
        for other, its_key in seen.items():
            if other == address:
                raise ConfigError(config.source, key, f"{address} is listed already, in {its_key}")
            if other.port == address.port and EVERYWHERE in (other.host, address.host):
                raise ConfigError(config.source, key, f"{address} takes the port of {other}, in {its_key}")
        seen[address] = key


def without_secrets(toml: str) -> str:
    """Return the output of `Config.to_toml` without the values of environment variables."""
    return "\n".join(map(_without_secrets, toml.split("\n")))


def _without_secrets(line: str) -> str:
    key, _, value = line.partition(" = ")
    if key not in PRIVATE:
        return line
    names = [variable.partition("=")[0] for variable in json.loads(value)]
    return f"{key} = {json.dumps([f'{name}=...' for name in names])}"


def _toml(value: Any) -> str:
    # A JSON text, number, boolean or list of texts is TOML as it stands.
    if isinstance(value, tuple):
        return json.dumps([str(item) for item in value])
    return json.dumps(str(value) if isinstance(value, Address | Call) else value)


# -- where values come from -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Given:
    """A value and its source, so that an error names the right place."""

    value: Any
    source: str


_Tables = dict[str, dict[str, _Given]]
"""Table -> key, as written -> value."""


def _read(chosen: Path | None) -> tuple[str, dict[str, Any]]:
    """Return the source's name and its content: the file `chosen`, else `config.toml` in this folder, else nothing.

    Raises `ConfigError` if the file cannot be read.
    """
    path = chosen or Path(DEFAULT_FILE)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return str(path), tomllib.loads(text)
    except FileNotFoundError as error:
        if chosen is None:
            return "the defaults", {}
        raise ConfigError(str(path), "", "there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(str(path), "", f"cannot be read as UTF-8 text ({why})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(str(path), "", f"is not TOML: {error}") from error


def _backends(texts: Mapping[str, Any], sets: Iterable[str], environ: Mapping[str, str]) -> dict[str, Backend]:
    """Return the backends that come with microq, and those of other packages that the settings name, by name."""
    found = {name: backend(name) for name in BACKENDS}
    asked = [*texts, _literal(environ.get("MICROQ_QUEUE_BACKEND", ""))]
    if isinstance(queue := texts.get("queue"), dict):
        asked.append(queue.get("backend"))
    for setting in sets:
        name, _, value = setting.partition("=")
        asked += [name.partition(".")[0]] if "." in name else []
        asked += [_literal(value)] if name == "queue.backend" else []
    others = {each for each in asked if isinstance(each, str) and each} - {*found, *_TABLES}
    return found | ({name: backend(name) for name in names() if name in others} if others else {})


def _given(source: str, texts: Mapping[str, Any], known: Collection[str]) -> _Tables:
    """Return what a file gives; raises `ConfigError` if it has a table that is not `known`."""
    if isinstance(texts.get("wire"), str):
        texts = {**texts, "wire": {"like": texts["wire"]}}
    for name, table in texts.items():
        if name not in known:
            raise ConfigError(source, f"[{name}]", f"is not a table; the tables are {', '.join(known)}")
        if not isinstance(table, dict):
            raise ConfigError(source, name, f"must be a table; write [{name}]")
    return {name: {k: _Given(v, source) for k, v in texts.get(name, {}).items()} for name in known}


def _overlay(tables: _Tables, fields: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> None:
    """Replace values of the file by those of `MICROQ_<TABLE>_<FIELD>`; `fields` lists the fields of each table."""
    for table, listed in fields.items():
        for name in listed:
            variable = f"MICROQ_{table}_{name}".upper()
            if variable in environ:
                tables[table][kebab(name)] = _Given(_literal(environ[variable]), variable)


def _put(tables: _Tables, sets: Iterable[str], counts: Collection[str]) -> list[tuple[str, str]]:
    """Apply each setting `table.key=value`; return the settings whose name is one of `counts`.

    Raises `ConfigError` for any other setting.
    """
    counted = []
    for setting in sets:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError("--set", setting, 'write it as "queue.max-size=100" or "messages=3"')
        table, _, key = name.partition(".")
        if name in counts:
            counted.append((name, value))
        elif table in tables and key:
            tables[table][key] = _Given(_literal(value), "--set")
        else:
            known = ", ".join([*counts, *(f"{table}.KEY" for table in tables)])
            raise ConfigError("--set", name, f"cannot be set; the names are {known}")
    return counted


def kebab(name: str) -> str:
    """Return a field's name as the key of its table."""
    return name.replace("_", "-")


def _literal(value: str) -> Any:
    """Read a TOML value; anything else is text, so text needs no second pair of quotes in a shell."""
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return value
