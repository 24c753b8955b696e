"""The settings: the tables of `config.toml`, and the checks of their values.

A check returns a valid value or raises `ValueError`. The table of a backend is in its package; that of the members is
here, because every system has members.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import total_ordering
from typing import Any, Self

PORTS = range(1, 65536)

EVERYWHERE = "0.0.0.0"  # noqa: S104 - it is compared with, never bound by itself
"""The host that means every address of this machine: a service can listen there, a client cannot connect there."""


@total_ordering
@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port. The order is that of the task: lowest IP address first, as a number; host names last."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def __lt__(self, other: Address) -> bool:
        return self._place < other._place

    @property
    def _place(self) -> tuple[bool, int, str, int]:
        return (
            not self.is_numeric,
            int(ipaddress.IPv4Address(self.host)) if self.is_numeric else 0,
            self.host,
            self.port,
        )

    @property
    def is_numeric(self) -> bool:
        """Whether the host is an IPv4 address, not a name."""
        try:
            ipaddress.IPv4Address(self.host)
        except ValueError:
            return False
        return True

    @property
    def url(self) -> str:
        """The address as the start of an HTTP URL."""
        return f"http://{self}"

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read `host:port`; raises `ValueError` with what is wrong.

        `localhost` is read as 127.0.0.1: servers and clients could resolve it to different addresses.
        """
        if not isinstance(text, str):
            raise ValueError(f'an address is text such as "127.0.0.1:5001", not {text!r}')
        host, colon, port = text.strip().rpartition(":")
        if host.startswith("[") or host.count(":") > 1:
            right = f"127.0.0.1:{port if port.isdigit() else 5001}"
            raise ValueError(f'{text!r}: microq listens on IPv4 only; write the address as "{right}"')
        if not colon or not host or any(c.isspace() or c in '/@"' for c in host) or ":" in host:
            raise ValueError(f'{text!r} is not an address; write it as "127.0.0.1:5001"')
        if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) not in PORTS:  # noqa: PLR2004 - digits of 65535
            raise ValueError(f"{text!r}: the port must be a number from 1 to 65535")
        return cls("127.0.0.1" if host.lower() == "localhost" else host, int(port))


def addresses(value: Any) -> tuple[Address, ...]:
    """Read a list of addresses."""
    if not isinstance(value, list) or not value:
        raise ValueError('must be a list of addresses such as ["127.0.0.1:5001"]')
    return tuple(Address.parse(item) for item in value)


def one_line(value: Any) -> str:
    """Read text without a line break."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"must be text in one line, not {value!r}")
    return value


def one_line_or_empty(value: Any) -> str:
    """Read text without a line break; an empty text is valid too."""
    return "" if value == "" else one_line(value)


def plain_name(value: Any) -> str:
    """Read a name that both backends and all their tools accept."""
    called = one_line(value)
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", called) or called in {".", "..", "default"}:
        raise ValueError(f"must be a name of letters, digits, '.', '_' and '-', not {value!r}")
    return called


def system_name(value: str) -> str:
    """Read the name of a system: it is used in a folder, an option and an environment variable."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", value):
        raise ValueError(
            f"a system's name has 1 to 32 lower-case letters, digits, '-' and '_', the first a letter or digit, "
            f"not {value!r}"
        )
    return value


def flag(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {value!r}")
    return value


def whole(low: int, high: int) -> Callable[[Any], int]:
    """Return a check for a whole number between two limits."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, not {value!r}")
        return value

    return check


def variables(value: Any) -> tuple[str, ...]:
    """Read a list of environment variables, each `NAME=value`."""
    if not isinstance(value, list):
        raise ValueError('must be a list of variables such as ["JAVA_TOOL_OPTIONS=-Xlog:gc"]')
    for each in value:
        name, equals, _ = one_line(each).partition("=")
        if not equals or not name or any(letter.isspace() for letter in name):
            raise ValueError(f'{each!r} is not a variable; write it as "NAME=value"')
    return tuple(value)


def heap_size(value: Any) -> str:
    """Read a size in the form of the JVM."""
    size = value.strip() if isinstance(value, str) else ""
    if not (size[:-1].isascii() and size[:-1].isdigit() and size[-1] in "mgMG"):
        raise ValueError(f'must be a size such as "256m" or "1g", not {value!r}')
    return size


def heap_bytes(size: str) -> int:
    """Return the bytes of a size in the form of the JVM."""
    return int(size[:-1]) << {"m": 20, "g": 30}[size[-1].lower()]


def url_or_empty(value: Any) -> str:
    """Read a URL and remove a slash at its end; an empty text is valid too."""
    if value == "":
        return ""
    url = one_line(value)
    scheme, _, rest = url.partition("://")
    if scheme not in {"http", "https"} or not rest or any(c.isspace() or c == '"' for c in url):
        raise ValueError(f'must be a URL such as "http://127.0.0.1:4318", or empty, not {value!r}')
    return url.rstrip("/")


def one_of(*names: str) -> Callable[[Any], str]:
    """Return a check for one of some names."""

    def check(value: Any) -> str:
        if value not in names:
            raise ValueError(f"must be one of {', '.join(names)}, not {value!r}")
        return str(value)

    return check


def key(check: Callable[[Any], Any], default: Any) -> Any:
    """Return the field of a key, with the check of its values and its default."""
    return field(default=default, metadata={"check": check})


def local(*ports: int) -> tuple[Address, ...]:
    """Return addresses of this machine."""
    return tuple(Address("127.0.0.1", port) for port in ports)


@dataclass(frozen=True, slots=True)
class ServiceIps:
    """Table `[service_ips]`: the addresses of the services."""

    messages_service: tuple[Address, ...] = key(addresses, local(5001, 5002))
    logging_service: tuple[Address, ...] = key(addresses, local(5003, 5004, 5005))
    facade_service: Address = key(Address.parse, *local(5000))
    config_service: Address = key(Address.parse, *local(5006))


PLACEHOLDERS = ("host", "port", "config_url", "servers", "members", "cluster", "queue", "facade", "logging", "messages")
"""The placeholders of an external program's command and variables, in braces; values of the system replace them."""

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def filled(text: str, values: Mapping[str, str]) -> str:
    """Replace each placeholder of a text by its value."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def check_placeholders(text: str, known: tuple[str, ...]) -> None:
    """Raise `ValueError` if a text has a placeholder that is not known."""
    for name in _PLACEHOLDER.findall(text):
        if name not in known:
            listed = ", ".join(f"{{{each}}}" for each in known)
            raise ValueError(f"{{{name}}} is not a placeholder; the placeholders are {listed}")


@dataclass(frozen=True, slots=True)
class Program:
    """An external program in place of a service of microq.

    `command` is split into words as a shell does, and no shell runs it. `env` lists variables, each `NAME=value`.
    `ready` says how to see that it is ready: a path such as `/health`, which answers 2xx; the text of a line of its
    output; or, if empty, its open port.
    """

    command: str
    folder: str = "."
    env: tuple[str, ...] = ()
    ready: str = ""

    @property
    def takes_port(self) -> bool:
        """Whether its port can be chosen; else it is written in the program."""
        return any("{port}" in text for text in (self.command, *self.env))

    def argv(self, values: Mapping[str, str]) -> list[str]:
        """Return its command line. A program with a path, such as `./run`, is in its folder."""
        first, *rest = (filled(word, values) for word in shlex.split(self.command))
        return [f"{self.folder}/{first}" if "/" in first and not first.startswith("/") else first, *rest]

    def variables(self, values: Mapping[str, str]) -> dict[str, str]:
        """Return its environment variables."""
        pairs = (each.partition("=") for each in self.env)
        return {name: filled(value, values) for name, _, value in pairs}


def program(value: Any) -> Program:
    """Read the table of an external program."""
    if not isinstance(value, dict):
        raise ValueError('must be a table such as {command = "python messages.py --port {port}"}')
    known = ("command", "folder", "env", "ready")
    if unknown := [name for name in value if name not in known]:
        raise ValueError(f"{unknown[0]!r} is not a key of a program; the keys are {', '.join(known)}")
    try:
        words = shlex.split(one_line(value.get("command")))
    except ValueError as error:
        raise ValueError(f"command: {error}") from error
    env = value.get("env", [])
    if isinstance(env, dict):
        env = [f"{name}={one_line(each) if each else each}" for name, each in env.items()]
    found = Program(
        command=value["command"],
        folder=one_line(value.get("folder", ".")),
        env=variables(env),
        ready=value.get("ready", "") and one_line(value["ready"]),
    )
    for text in (*words, *found.env):
        check_placeholders(text, PLACEHOLDERS)
    return found


@dataclass(frozen=True, slots=True)
class Services:
    """Table `[services]`: the external programs that run in place of services of microq; None: microq's own."""

    messages_service: Program | None = key(program, None)
    logging_service: Program | None = key(program, None)
    facade_service: Program | None = key(program, None)
    config_service: Program | None = key(program, None)


@dataclass(frozen=True, slots=True)
class Hazelcast:
    """Table `[hazelcast]`: the members. They keep the maps, also if another backend keeps the queue.

    A member that is silent for `heartbeat_timeout` seconds is declared dead. Heartbeats older than half of that are
    ignored.

    `split_brain` decides what happens if the halves of a cluster cannot see each other: with `merge` both continue and
    their maps are merged afterwards; with `refuse` only the majority continues.

    `environment` lists variables, each `NAME=value`, that the members get beside the harmless ones of this process.

    `config` is a file in XML, the user's own configuration of the members, which is completed for each member. What is
    not set here then has the file's value.
    """

    hazelcast_cluster_name: str = key(one_line, "microservice")
    hazelcast_clients: tuple[Address, ...] = key(addresses, local(5701, 5702, 5703))
    managed: bool = key(flag, default=True)
    heap: str = key(heap_size, "256m")
    partition_count: int = key(whole(1, 271), 13)
    heartbeat_timeout: int = key(whole(2, 300), 15)
    split_brain: str = key(one_of("merge", "refuse"), "merge")
    environment: tuple[str, ...] = key(variables, ())
    config: str = key(one_line_or_empty, "")


@dataclass(frozen=True, slots=True)
class Queue:
    """Table `[queue]`. `max_size` counts messages, `backup_count` the copies beside the primary.

    The `backend` says what the queue is: a Hazelcast queue, a Kafka topic, or that of another package; `name` is its
    name.

    A message that left the queue and is not stored after `visibility_timeout` seconds is delivered again, at most
    `max_deliveries` times in total.

    If a messages-service is silent for `take_over_after` seconds, the others take over its messages; 0: never.
    """

    backend: str = key(one_line, "hazelcast")
    name: str = key(plain_name, "messages-queue")
    max_size: int = key(whole(1, 2**31 - 1), 100_000)
    backup_count: int = key(whole(0, 6), 2)
    visibility_timeout: int = key(whole(1, 3600), 5)
    max_deliveries: int = key(whole(1, 1000), 5)
    take_over_after: int = key(whole(0, 86_400), 30)


@dataclass(frozen=True, slots=True)
class Facade:
    """Table `[facade]`: `workers` is the number of processes that share its port."""

    workers: int = key(whole(1, 64), 1)


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Table `[dashboard]`: the page of the system: its address, and whether it is served."""

    address: Address = key(Address.parse, *local(5080))
    enabled: bool = key(flag, default=True)


@dataclass(frozen=True, slots=True)
class Logs:
    """Table `[logs]`: the format of the services' lines: `text`, or `json` for one JSON object a line."""

    format: str = key(one_of("text", "json"), "text")


@dataclass(frozen=True, slots=True)
class Tracing:
    """Table `[tracing]`: the base URL of a collector of traces, by OTLP over HTTP; empty: no traces."""

    endpoint: str = key(url_or_empty, "")


@dataclass(frozen=True, slots=True)
class Limits:
    """Table `[limits]`: bounds of requests to a service, and of the messages that a messages-service holds.

    `max_body` is the size of the largest request in bytes. The timeouts are in seconds: for the headers of a request
    and for its body; for a batch, which may be endless, between two pieces. `max_connections` is per service.
    `max_under_way` bounds the bytes of all bodies and lines of batches that a process of the facade has in memory at
    one time; further ones wait, and are refused if they wait too long.
    A messages-service that holds `max_held` messages receives no more: they stay in the queue, which is bounded too.
    Its default is what fits into the members' heap.
    """

    max_body: int = key(whole(1024, 2**30), 1 << 20)
    header_timeout: int = key(whole(1, 3600), 10)
    read_timeout: int = key(whole(1, 3600), 30)
    max_under_way: int = key(whole(1024, 2**40), 32 << 20)
    max_connections: int = key(whole(8, 100_000), 2000)
    max_held: int = key(whole(1, 2**31 - 1), 200_000)
