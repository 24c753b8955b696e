"""`microq up`, `down`, and the verbs on single processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from microq.cli import COMMANDS
from microq.cli.output import (
    TERMINAL,
    ConfigOption,
    JsonOption,
    QueueOption,
    SetOption,
    configuration,
    emit,
    note,
    of_the_system,
    run,
    say,
    with_queue,
)
from microq.config import Address, Config, located
from microq.errors import ExitCode, UnknownServerError, UsageError
from microq.fleet import SERVER_WORDS, UP, VERBS, Operator, ProcessState, ProcessView, Snapshot, called, group_of

NamesArgument = Annotated[
    list[str],
    typer.Argument(
        help="Names (messages-5001), groups (messages), ports (5001), all, or a server of the queue by its role: "
        "lowest (address), owner, leader.",
        metavar="NAME...",
    ),
]
ROLE_SECONDS = 2.0
"""Seconds for which it may be unknown which server has a role; in a failover no server has it for a moment."""

ALREADY = {
    "start": UP,
    "stop": frozenset(ProcessState) - UP,
    "kill": frozenset(ProcessState) - UP,
    "restart": frozenset[ProcessState](),
    "pause": frozenset({ProcessState.PAUSED}),
    "resume": frozenset({ProcessState.READY}),
}
"""Verb -> the states in which the verb changes nothing."""

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
    for verb in VERBS:
        app.command(verb, help=COMMANDS[verb][1])(_verb_command(verb))


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
    configuration lists others; with the queue in Kafka also three brokers.

    \b
    microq up                    in the foreground, with all log lines; Ctrl-C stops it
    microq up -d                 in the background
    microq up --no-messages      with the consumers off
    microq up --set messages=3   with three messages-services
    microq up --queue kafka      with the queue in Kafka
    microq up --name b           a second system, on free ports; other commands take --name too
    """
    from microq.cli.logs import print_all
    from microq.workflows import machine, system

    loaded = configuration(config, with_queue(backend, sets))
    system.warn(loaded, TERMINAL)
    engine = machine.engine_of(loaded, TERMINAL)
    if detach:
        run(system.detached(loaded, TERMINAL, no_messages=no_messages))
        return
    from microq.workflows.host import in_foreground

    if run(in_foreground(loaded, engine, TERMINAL, print_all, no_messages=no_messages)):
        raise typer.Exit(ExitCode.INTERRUPTED)


def down(config: ConfigOption = None) -> None:
    """Stop everything, including what a crash left behind."""
    from microq.workflows.system import end

    run(end(located(config), TERMINAL))


def _verb_command(verb: str) -> Callable[..., None]:
    def command(names: NamesArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
        run(_do(of_the_system(config), verb, names, as_json=as_json))

    return command


async def _do(config: Config, verb: str, names: list[str], *, as_json: bool) -> None:
    from microq.supervisor import control

    async with control.connect(config) as operator:
        names = await _with_names(operator, verb, names)
        done = await operator.act(verb, names)
        view = await operator.snapshot()
    left = [process for process in _named(view, names) if process.name not in done]
    unfit = [f"{process.name} is {process.state}" for process in left if process.state not in ALREADY[verb]]
    if unfit and not done:
        raise UsageError(f"nothing to {verb}: {', '.join(unfit)}")
    if as_json:
        emit({"verb": verb, "names": done, "skipped": [process.name for process in left]}, lambda: None, as_json=True)
        return
    if done:
        say(f"{DONE[verb]} {', '.join(done)}")
    if left:
        note(f"Left as they are: {', '.join(f'{process.name} ({process.state})' for process in left)}")
    if verb == "kill" and done:
        what = "it" if len(done) == 1 else "them"
        note(f"`microq start {' '.join(done)}` brings {what} back; `microq status` shows what the others did.")


async def _with_names(operator: Operator, verb: str, names: list[str]) -> list[str]:
    """Return the names; words such as owner are replaced by the name of the server with that role now."""
    words = [name for name in names if name in SERVER_WORDS]
    if not words:
        return names
    if verb in {"start", "resume"}:
        raise UsageError(
            f"only a server that is up can be the {words[0]}: {verb} it by its name; `microq status` shows the names"
        )
    found = await _servers(operator, words)
    for word, name in found.items():
        note(f"the {word} is {name}")
    return list(dict.fromkeys(found.get(name, name) for name in names))


async def _servers(operator: Operator, words: list[str], seconds: float = ROLE_SECONDS) -> dict[str, str]:
    """Return the name of the server that each word selects now; a facade that is busy for a moment is asked again.

    Raises `UnknownServerError` if one is still unknown after `seconds`.
    """
    view = await operator.look(lambda view: all(_is_known(view, word) for word in words), seconds)
    return {word: view.server(word).name for word in words}


def _is_known(view: Snapshot, word: str) -> bool:
    try:
        view.server(word)
    except UnknownServerError:
        return False
    return True


def _named(view: Snapshot, names: list[str]) -> list[ProcessView]:
    """Return the processes that words on the command line select."""
    listed = [(process.name, Address.parse(process.address)) for process in view.processes]
    meant = {*names, *(called(name, listed) for name in names)}
    return [
        process
        for process in view.processes
        if meant & {process.name, group_of(process.name), process.role.value, "all"}
    ]
