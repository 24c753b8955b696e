"""`microq facade`, `logging`, `messages`, `config`: one service in the foreground."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from microq.cli.output import ConfigOption, SetOption, addressed, warn_of
from microq.fleet import SERVICES, Role
from microq.services import place, run

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

HostOption = Annotated[
    str | None,
    typer.Option("--host", help="The host, if several addresses have this port.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add a command for each service."""
    for role, service in SERVICES.items():
        app.command(role.value, help=service.help)(_command(role))


def _command(role: Role) -> Callable[..., None]:
    def serve(
        config: ConfigOption = None, sets: SetOption = None, port: PortOption = None, host: HostOption = None
    ) -> None:
        from microq.workflows.machine import TRACES, extras

        loaded = addressed(config, sets)
        for extra in extras(loaded):
            if extra is TRACES or SERVICES[role].has_queue:
                extra.check()
        at = place(role, loaded, port, host)
        warn_of([at])
        run(role, loaded, at)

    return serve
