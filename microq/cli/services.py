"""`microq facade`, `logging`, `messages`, `config`: one service in the foreground."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from microq.cli.output import ConfigOption, SetOption, configuration, warn_of
from microq.fleet import Role
from microq.services import ROLES, place, run

PortOption = Annotated[
    int | None,
    typer.Option(
        "--port",
        min=1,
        max=65535,
        help="Where to listen (default: the first one configured).",
        show_default=False,
    ),
]

HELP = {
    Role.FACADE: "Run the facade in this terminal.",
    Role.LOGGING: "Run a logging-service in this terminal.",
    Role.MESSAGES: "Run a messages-service in this terminal.",
    Role.CONFIG: "Run the config-service in this terminal.",
}


def register(app: typer.Typer) -> None:
    """Add a command for each service."""
    for role in ROLES:
        app.command(role.value, help=HELP[role])(_command(role))


def _command(role: Role) -> Callable[..., None]:
    def serve(config: ConfigOption = None, sets: SetOption = None, port: PortOption = None) -> None:
        from microq.engines.provision import KAFKA, extras  # noqa: PLC0415 - --help needs none of it

        loaded = configuration(config, sets)
        for extra in extras(loaded):
            if extra is not KAFKA or role in {Role.FACADE, Role.MESSAGES}:
                extra.check()
        warn_of([place(role, loaded, port)])
        run(role, loaded, port)

    return serve
