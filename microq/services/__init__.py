"""The services, one aiohttp application each. To add one: its module here and its line in `ROLES`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from microq.config import Address, Config
from microq.fleet import Role

ROLES = {
    Role.CONFIG: "microq.services.config",
    Role.LOGGING: "microq.services.logging",
    Role.MESSAGES: "microq.services.messages",
    Role.FACADE: "microq.services.facade",
}
"""Role -> module with `make_app(config, name)`, imported in the process that is to be it."""


Maker = Callable[[Config, str], Any]
"""What makes the application of an instance."""


def addresses(config: Config, role: Role) -> tuple[Address, ...]:
    """Return where the services of a role listen."""
    table = config.service_ips
    return {
        Role.CONFIG: (table.config_service,),
        Role.LOGGING: table.logging_service,
        Role.MESSAGES: table.messages_service,
        Role.FACADE: (table.facade_service,),
    }[role]


def place(role: Role, config: Config, port: int | None) -> tuple[str, Address]:
    """Return the name and the address of a service; `port` defaults to the first one configured for the role.

    A port that is not in the configuration is served on the host of the first one.
    """
    listed = addresses(config, role)
    address = next((a for a in listed if a.port == port), Address(listed[0].host, port or listed[0].port))
    return f"{role}-{address.port}", address


def run(
    role: Role, config: Config, port: int | None, bind: Address | None = None, make_app: Maker | None = None
) -> None:
    """Be one service, at its `place`, until SIGTERM or SIGINT; `make_app` is the role's own unless told.

    With `bind` it listens there instead, and keeps its name: somebody else leads to it from its own address.
    """
    from microq.services.app import serve  # noqa: PLC0415 - the other commands need no web framework

    name, address = place(role, config, port)
    make_app = make_app or import_module(ROLES[role]).make_app
    serve(make_app(config, name), name, bind or address)
