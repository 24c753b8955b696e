"""The values of a configuration: what may stand in it; each check returns the value or raises `ValueError`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

PORTS = range(1, 65536)


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
        if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) not in PORTS:  # noqa: PLR2004 - digits of 65535
            raise ValueError(f"{text!r}: the port must be a number from 1 to 65535")
        return cls(host, int(port))


def addresses(value: Any) -> tuple[Address, ...]:
    """Read a list of addresses."""
    if not isinstance(value, list) or not value:
        raise ValueError('must be a list of addresses such as ["127.0.0.1:5001"]')
    return tuple(Address.parse(item) for item in value)


def text(value: Any) -> str:
    """Read text that stays in its line."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"must be text in one line, not {value!r}")
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


def heap(value: Any) -> str:
    """Read a size as the JVM takes it."""
    size = text(value)
    if not (size[:-1].isascii() and size[:-1].isdigit() and size[-1] in "mgMG"):
        raise ValueError(f'must be a size such as "256m" or "1g", not {value!r}')
    return size


def url_or_empty(value: Any) -> str:
    """Read the address of something on the web, without a slash at its end, or an empty text."""
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
