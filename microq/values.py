"""The values of a configuration: each check returns a valid value or raises `ValueError`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
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


def text(value: Any) -> str:
    """Read text without a line break."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"must be text in one line, not {value!r}")
    return value


def name(value: Any) -> str:
    """Read a name that both backends and all their tools accept."""
    called = text(value)
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
        name, equals, _ = text(each).partition("=")
        if not equals or not name or any(letter.isspace() for letter in name):
            raise ValueError(f'{each!r} is not a variable; write it as "NAME=value"')
    return tuple(value)


def heap(value: Any) -> str:
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
    url = text(value)
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
