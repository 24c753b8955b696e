"""The services, one aiohttp application each. A new one needs a module here and a record in `fleet.SERVICES`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from microq.config import Address, Config
from microq.fleet import Role, addresses, name_of

Maker = Callable[[Config, str], Any]
"""Makes the application of an instance from the configuration and the instance's name."""


def module_of(role: Role) -> ModuleType:
    """Import the module of a service, which has `make_app`, a `Maker`."""
    return import_module(f"{__name__}.{role}")


def place(role: Role, config: Config, port: int | None, host: str | None = None) -> tuple[str, Address]:
    """Return the name and the address of a service: the lowest configured address with this `port` and `host`.

    An address that is not configured is allowed; a port without a host means the host of the first instance.
    """
    listed = addresses(config, role)
    asked = Address(host or listed[0].host, port or listed[0].port)
    fitting = (each for each in listed if port in (None, each.port) and host in (None, each.host))
    address = next(fitting, asked)
    return name_of(config, role, address), address


def run(
    role: Role,
    config: Config,
    at: tuple[str, Address],
    bind: Address | None = None,
    make_app: Maker | None = None,
    beside: Sequence[Address] = (),
) -> None:
    """Run one service until SIGTERM or SIGINT; `at` is the name and the address that `place` returns.

    With `bind` it listens there and keeps its name: a link forwards its own address to it. `make_app` replaces the
    role's own. `beside` are the addresses of other instances of the role that start at the same time.
    """
    from microq.services.app import BESIDE, serve  # noqa: PLC0415 - the other commands need no web framework

    name, address = at
    make_app = make_app or module_of(role).make_app
    app = make_app(config, name)
    app[BESIDE] = tuple(beside)
    serve(app, name, bind or address)
