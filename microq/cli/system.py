"""`microq up`, `down`, `status`, `queue`, `logs`, and the verbs on single processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from microq.cli.output import (
    INTERRUPTED,
    ConfigOption,
    JsonOption,
    QueueOption,
    SetOption,
    configuration,
    download_bars,
    emit,
    note,
    of_the_system,
    run,
    with_queue,
)
from microq.config import Config
from microq.errors import UsageError
from microq.fleet import Snapshot

NamesArgument = Annotated[
    list[str],
    typer.Argument(help="Names (messages-5001), groups (messages), ports (5001), or all.", metavar="NAME..."),
]
WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Look again every second until Ctrl-C.")]

VERBS = {
    "start": "Start processes and wait until they are ready.",
    "stop": "Stop processes: SIGTERM, and SIGKILL after 10 s.",
    "kill": "Kill processes with SIGKILL.",
    "restart": "Stop processes, then start them.",
    "pause": "Freeze processes with SIGSTOP.",
    "resume": "Let paused processes run again.",
}
DONE = {
    "start": "Started",
    "stop": "Stopped",
    "kill": "Killed",
    "restart": "Restarted",
    "pause": "Paused",
    "resume": "Resumed",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)
    app.command("ps", hidden=True)(status)
    app.command("queue")(queue)
    for verb, text in VERBS.items():
        app.command(verb, help=text)(_verb_command(verb))


def provide(config: Config) -> Any:
    """Return what servers are started with, downloading it the first time; None if all of them run elsewhere.

    Raises `MachineError` for what this machine lacks.
    """
    from microq.engines import provision  # noqa: PLC0415 - --help needs none of it

    provision.check_extras(config)
    if not provision.is_needed(config):
        return None
    with download_bars() as progress:
        return provision.provide(config, progress)


def up(
    config: ConfigOption = None,
    sets: SetOption = None,
    backend: QueueOption = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Run in the background; return when ready.")] = False,
    no_messages: Annotated[
        bool,
        typer.Option("--no-messages", help="Leave the messages-services off: messages wait in the queue."),
    ] = False,
) -> None:
    """Start the whole system.

    Three members, three logging-services, two messages-services, the facade and the config-service, unless the
    configuration lists others; with the queue in Kafka three brokers as well.

    \b
    microq up                    in the foreground, with all log lines; Ctrl-C stops it
    microq up -d                 in the background
    microq up --no-messages      with the consumers off
    microq up --set messages=3   with three messages-services
    microq up --queue kafka      with the queue in Kafka
    """
    from microq.cli import launch  # noqa: PLC0415 - --help needs none of it

    loaded = configuration(config, with_queue(backend, sets))
    launch.warn(loaded)
    if detach:
        provide(loaded)
        run(launch.detached(loaded, no_messages=no_messages))
    elif run(launch.in_foreground(loaded, provide(loaded), no_messages=no_messages)):
        raise typer.Exit(INTERRUPTED)


def down(config: ConfigOption = None) -> None:
    """Stop everything, leftovers of a crash included."""
    from microq.cli import ending  # noqa: PLC0415 - --help needs none of it

    run(ending.end(configuration(config, None)))


def status(
    config: ConfigOption = None,
    watch: WatchOption = False,
    as_json: JsonOption = False,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Print what Prometheus can scrape, for its file_sd_configs.")
    ] = False,
) -> None:
    """Show every process and the cluster's copies.

    With --watch on one screen, with rates and what happens; as lines where the output is no terminal, and with --json
    as one JSON object a line. With the queue in Kafka `0 ★ kafka-9091 3/3: 34` is partition 0: its leader, the copies
    in sync, what waits in it.

    \b
    microq status --watch
    microq status --prometheus > microq.json   the targets, whether they are up now or not
    """
    if prometheus:
        from microq.cli.targets import targets  # noqa: PLC0415 - --help needs none of it

        emit(targets(of_the_system(config)), lambda: None, as_json=True)
        return
    from microq.cli import watching  # noqa: PLC0415 - --help needs none of it
    from microq.views import screen, terminal  # noqa: PLC0415

    shown = watching.Shown(screen.screen, screen.line, terminal.status, watching.everything)
    run(watching.show(configuration(config, None), shown, watch=watch, as_json=as_json))


def queue(config: ConfigOption = None, watch: WatchOption = False, as_json: JsonOption = False) -> None:
    """Show the queue's copies, the primary owner starred."""
    from microq.cli import watching  # noqa: PLC0415 - --help needs none of it
    from microq.views import queue as pictures  # noqa: PLC0415
    from microq.views import screen  # noqa: PLC0415

    shown = watching.Shown(
        lambda sight, _width, _height: screen.with_lost(sight, pictures.queue(sight.now)),
        lambda sight: pictures.queue(sight.now),
        pictures.queue,
        watching.of_the_queue,
    )
    run(watching.show(configuration(config, None), shown, watch=watch, as_json=as_json))


def _verb_command(verb: str) -> Callable[..., None]:
    def command(names: NamesArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
        run(_do(configuration(config, None), verb, names, as_json=as_json))

    return command


async def _do(config: Config, verb: str, names: list[str], *, as_json: bool) -> None:
    from microq.system import control  # noqa: PLC0415 - --help needs none of it

    async with control.connect(config) as operator:
        act: Callable[[list[str]], Awaitable[list[str]]] = getattr(operator, verb)
        done = await act(names)
        view = await operator.snapshot()
    if not done:
        raise UsageError(f"nothing to {verb}: {', '.join(names)} {_states(view, names)}")
    if as_json:
        emit({"verb": verb, "names": done}, lambda: None, as_json=True)
        return
    typer.echo(f"{DONE[verb]} {', '.join(done)}")
    if verb == "kill":
        note("`microq start NAME` brings it back; `microq status` shows what the others did.")


def _states(view: Snapshot, names: list[str]) -> str:
    words = {p.name: p for p in view.processes}
    states = {
        process.state.value
        for process in words.values()
        if {process.name, process.role.value, process.address.rpartition(":")[2], "all"} & set(names)
    }
    return f"{'are' if len(states) > 1 else 'is'} {' and '.join(sorted(states))} already"
