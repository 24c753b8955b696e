"""`microq dead`: look at what no consumer will get, give it another chance, or forget it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from microq.cli.output import ConfigOption, JsonOption, emit, note, of_the_system, run
from microq.config import Config

ALL = "all"

DONE = {"replay": "Replayed", "drop": "Dropped"}

commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Dead letters: look, replay, drop.")

IdsArgument = Annotated[
    list[str], typer.Argument(help="Ids as `microq dead list` shows them, or all.", metavar="ID...")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(commands, name="dead")


@commands.callback()
def group() -> None:
    """Dead letters are items that no consumer will get.

    They are no message of microq, or were delivered as often as may be (queue.max-deliveries) and never stored.
    """


@commands.command("list")
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every dead letter with its reason, the newest last.

    Exit code 3 if the facade is not there.
    """
    from microq.views import letters as pictures  # noqa: PLC0415 - --help needs none of it

    letters = run(_letters(of_the_system(config)))
    emit(letters, lambda: pictures.dead(letters, time.time()), as_json=as_json)
    if letters and not as_json:
        note("`microq dead replay ID...` puts them into the queue again, `microq dead drop ID...` forgets them.")


@commands.command("replay")
def replay(ids: IdsArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Put dead letters into the queue again, with all their deliveries before them.

    `all` leaves out what is no message of microq. Exit code 2 if one is no dead letter: then nothing is done.
    """
    run(_change(of_the_system(config), "replay", ids, as_json=as_json))


@commands.command("drop")
def drop(ids: IdsArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Forget dead letters for good.

    Exit code 2 if one is no dead letter: then nothing is done.
    """
    run(_change(of_the_system(config), "drop", ids, as_json=as_json))


async def _letters(config: Config) -> list[dict[str, Any]]:
    from microq.client import FacadeClient, open_session  # noqa: PLC0415 - --help needs none of it

    async with open_session() as session:
        return await FacadeClient(session, config.service_ips.facade_service).dead_letters()


async def _change(config: Config, verb: str, words: Sequence[str], *, as_json: bool) -> None:
    from microq.client import FacadeClient, open_session  # noqa: PLC0415 - --help needs none of it

    async with open_session() as session:
        facade = FacadeClient(session, config.service_ips.facade_service)
        ids, left = list(dict.fromkeys(words)), 0
        if ALL in words:
            letters = await facade.dead_letters()
            ids = [letter["uuid"] for letter in letters if letter["replayable"] or verb != "replay"]
            left = len(letters) - len(ids)
        if ids:
            await facade.change_letters(verb, ids)
    if as_json:
        emit({"verb": verb, "uuids": ids}, lambda: None, as_json=True)
        return
    typer.echo(f"{DONE[verb]} {len(ids)} dead letter{'' if len(ids) == 1 else 's'}.")
    if left:
        note(f"{left} cannot be replayed, for they are no messages of microq; `microq dead drop` forgets them.")
