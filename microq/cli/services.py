"""`microq facade`, `logging`, `messages`, `config`: one service in the foreground."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from microq.cli.output import ConfigOption, SetOption, configuration
from microq.fleet import Role
from microq.services import ROLES, run

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
    Role.FACADE: "Be the facade: POST puts into the queue and the log, GET combines both sets.",
    Role.LOGGING: "Be a logging-service: keep each message in the cluster's map.",
    Role.MESSAGES: "Be a messages-service: receive from the queue, keep in memory.",
    Role.CONFIG: "Be the config-service: tell the addresses in force.",
}


def register(app: typer.Typer) -> None:
    """Add a command for each service."""
    for role in ROLES:
        app.command(role.value, help=HELP[role], rich_help_panel="Services")(_command(role))


def _command(role: Role) -> Callable[..., None]:
    def serve(config: ConfigOption = None, sets: SetOption = None, port: PortOption = None) -> None:
        run(role, configuration(config, sets), port)

    return serve
