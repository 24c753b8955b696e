"""`microq status`, `ps`, `queue` and `ls`: show a system, once or repeatedly, and list all systems."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from microq.cli.output import ConfigOption, JsonOption, addressed, emit, of_the_system, run
from microq.config import Config
from microq.fleet import SERVICES

WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Repeat it every second until Ctrl-C.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(status)
    app.command("ps", hidden=True)(status)
    app.command("ls")(ls)
    app.command("queue")(queue)


def status(
    config: ConfigOption = None,
    watch: WatchOption = False,
    as_json: JsonOption = False,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Print the targets for Prometheus, for its file_sd_configs.")
    ] = False,
) -> None:
    """Show every process and the cluster's copies.

    --watch fills the screen, with rates and events; it prints lines if the output is not a terminal, and with --json
    one JSON object a line. With the queue in Kafka, `0 ★ kafka-9091 3/3: 34` is partition 0: its leader, its in-sync
    replicas, and its waiting messages.

    \b
    microq status --watch
    microq status --prometheus > microq.json   all targets, up or down
    """
    if prometheus:
        emit(_targets(addressed(config)), lambda: None, as_json=True)
        return
    from microq.cli import watching
    from microq.terminal import screen
    from microq.terminal import status as pictures

    shown = watching.Shown(screen.screen, screen.line, pictures.status, watching.everything)
    run(watching.show(of_the_system(config), shown, watch=watch, as_json=as_json))


def ls(as_json: JsonOption = False) -> None:
    """Show all systems of this user.

    The folder in which they were started does not matter.

    \b
    microq -C FOLDER status             show one of them
    microq -C FOLDER down               stop it
    microq -C FOLDER down --name NAME   stop a named one
    """
    from microq.supervisor.records import systems
    from microq.terminal import status as pictures

    found = systems()
    emit([one.to_json() for one in found], lambda: pictures.systems(found, time.time()), as_json=as_json)


def queue(config: ConfigOption = None, watch: WatchOption = False, as_json: JsonOption = False) -> None:
    """Show the queue's copies, the primary owner starred."""
    from microq.cli import watching
    from microq.terminal import screen
    from microq.terminal import status as pictures

    shown = watching.Shown(
        lambda sight, _width, _height: screen.with_lost(sight, pictures.queue(sight.now)),
        lambda sight: pictures.queue(sight.now),
        pictures.queue,
        watching.of_the_queue,
    )
    run(watching.show(of_the_system(config), shown, watch=watch, as_json=as_json))


def _targets(config: Config) -> list[dict[str, Any]]:
    """Return every service of a system, up or down, and the supervisor's page, whose series have their own labels."""
    from microq.supervisor.topology import specs

    listed = [
        {"targets": [str(spec.address)], "labels": {"role": spec.role.value, "process": spec.name}}
        for spec in specs(config)
        if spec.role in SERVICES
    ]
    page = [{"targets": [str(config.dashboard.address)], "labels": {}}] if config.dashboard.enabled else []
    return [*listed, *page]
