"""`microq send`, `read` and `dead`: send messages, read them, and handle dead letters."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microq.caveats import hides
from microq.cli.output import (
    ConfigOption,
    JsonOption,
    SetOption,
    UrlOption,
    console,
    emit,
    note,
    of_the_facade,
    run,
    say,
)
from microq.config import Config
from microq.errors import ExitCode, NotRunningError, UsageError
from microq.message import Outcome, Receipt

if TYPE_CHECKING:  # --help needs none of it
    from microq.client import Tally
    from microq.workflows.messages import Sent

LONG = 200
"""The number of messages from which on a progress bar is shown."""

MOST_FAILURES = 20
"""Failures that are listed one by one."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("send", context_settings={"ignore_unknown_options": True})(send)
    app.command("read")(read)
    app.add_typer(dead, name="dead")


def send(
    count: Annotated[
        str | None,
        typer.Argument(help="The number of messages, or - for one per line of standard input.", metavar="N|-"),
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Send this one message.", show_default=False)] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="The beginning of the texts: msg1, msg2, ...")] = "msg",
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, max=1000, help="Messages in flight.")] = 256,
    config: ConfigOption = None,
    sets: SetOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send messages and show the outcome of each.

    Exit code 1 if some are rejected or indeterminate, 3 if the facade does not answer.

    \b
    microq send 10                  msg1 ... msg10
    microq send --text "hello"
    seq 100 | microq send -
    """
    texts = _texts(count, text, prefix)
    loaded = of_the_facade(config, sets, url)
    total = _number(count) if count not in (None, "-") else None
    from microq.terminal import messages as pictures

    sent = run(_send(loaded, texts, concurrency, total))
    tally, seconds, left = sent.tally, sent.seconds, sent.waiting
    emit({**_summary(tally, seconds), "waiting": left}, lambda: pictures.sent(tally, seconds), as_json=as_json)
    if left is not None and not as_json:
        note(f"No messages-service is up: {left} wait in the queue.")
        if not url:
            note("`microq queue` shows where; `microq start messages` delivers them.")
    if tally.outcomes[Outcome.ACKNOWLEDGED] < tally.sent:
        raise typer.Exit(ExitCode.FAILED)
    if not as_json and tally.sent and left is None:
        logs = "; `microq logs messages` shows who received which"
        note(f"`microq read` shows them{'' if url else logs}.")


def _number(count: str | None) -> int:
    try:
        number = int(count or "")
    except ValueError as error:
        raise UsageError(f"send takes a number of messages or -, not {count!r}; e.g. `microq send 10`") from error
    if number < 1:
        raise UsageError(f"cannot send {number} messages; give 1 or more, e.g. `microq send 10`")
    return number


def _texts(count: str | None, text: str | None, prefix: str) -> AsyncIterator[str]:
    from microq.client import one_by_one

    if (count is None) == (text is None):
        raise UsageError('say what to send, one of: `microq send 10`, `microq send --text "hello"`, `microq send -`')
    if text is not None:
        if not text:
            raise UsageError("--text is empty; write some text")
        return one_by_one([text])
    if count == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed; write `seq 100 | microq send -`")
        return lines(sys.stdin.fileno())
    return one_by_one(f"{prefix}{number}" for number in range(1, _number(count) + 1))


async def _send(config: Config, texts: AsyncIterator[str], most: int, total: int | None) -> Sent:
    """Send everything, and report the first failures as they come."""
    from microq.workflows import messages

    failures = 0
    with _bar(total) as advance:

        def hear(receipt: Receipt) -> None:
            nonlocal failures
            advance()
            failures += bool(receipt.reason)
            if receipt.reason and failures <= MOST_FAILURES:
                note(f"{receipt.outcome} {receipt.text[:40]!r}: {receipt.reason}")

        sent = await messages.send(config, texts, most, hear)
    if failures > MOST_FAILURES:
        note(f"... and {failures - MOST_FAILURES} more failures")
    return sent


@contextlib.contextmanager
def _bar(total: int | None) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal if many messages are sent; yield the function that advances it."""
    screen = console(error=True)
    if not screen.is_terminal or total is None or total < LONG:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("Sending"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=screen, transient=True) as progress:
        task = progress.add_task("", total=total, rate="")

        def advance() -> None:
            progress.update(task, advance=1, rate=f"{progress.tasks[0].speed or 0:,.0f}/s")

        yield advance


def _summary(tally: Tally, seconds: float) -> dict[str, Any]:
    return {
        "sent": tally.sent,
        **{outcome.value: tally.outcomes[outcome] for outcome in Outcome},
        "by_logger": {name: logged.count for name, logged in sorted(tally.loggers.items())},
        "rate": round(tally.sent / seconds, 1) if seconds else None,
        "duration_s": round(seconds, 3),
        "failures": [dataclasses.asdict(receipt) for receipt in tally.failures],
    }


def read(
    times: Annotated[int, typer.Option("--times", "-n", min=1, max=1000, help="The number of GETs.")] = 5,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, max=10_000, help="At most so many messages of each set, the oldest."),
    ] = None,
    after: Annotated[
        float | None, typer.Option("--after", help="Only later messages, in seconds since the epoch.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Show how many messages of the log have arrived, and where.")
    ] = False,
    config: ConfigOption = None,
    sets: SetOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read both sets through the facade, several times.

    Exit code 3 if the facade does not answer.

    --check reads the whole log from a logging-service, and then each messages-service; it waits for messages that may
    still arrive. Exit code 1 if a message is missing or shown twice; 3 if this is unknown, because a messages-service
    does not answer.
    """
    if check:
        if limit is not None or after is not None:
            raise UsageError("--check reads everything; leave out --limit and --after")
        _check(of_the_facade(config, sets, url), as_json=as_json)
        return
    run(_read(of_the_facade(config, sets, url), times, limit, after, as_json=as_json))


async def _read(config: Config, times: int, limit: int | None, after: float | None, *, as_json: bool) -> None:
    from rich.text import Text

    from microq.message import union
    from microq.terminal import messages as pictures
    from microq.workflows import messages as workflow

    readings = []
    async for got in workflow.read(config, times, limit, after):
        readings.append(got)
        if not as_json:
            console().print(Text(f"GET {len(readings)}"), pictures.reading(got), sep="\n")
    logs, messages = union(readings)
    data = {
        "reads": [
            {
                "logging_service": got.logging_service,
                "messages_service": got.messages_service,
                "merging": got.merging,
                "logs": [message.text for message in got.logs],
                "messages": [message.text for message in got.messages],
            }
            for got in readings
        ],
        "logs": [message.text for message in logs],
        "messages": [message.text for message in messages],
        "hidden": dict(readings[-1].hidden),
    }
    emit(data, lambda: pictures.union(readings), as_json=as_json)
    seen = {got.messages_service for got in readings} - {""}
    missing = [a for a in map(str, config.service_ips.messages_service) if a not in seen]
    if missing and None not in seen and not as_json:
        note(f"{', '.join(missing)} answered none of the GETs: each asks one at random. Read again, or `-n 20`.")
    if not as_json:
        for name, count in readings[-1].hidden.items():
            note(f"{hides(name, count)}; see `microq status`.")
    if all(got.logging_service == got.messages_service == "" for got in readings):
        raise NotRunningError("neither a logging-service nor a messages-service answered; see `microq status`")


def _check(config: Config, *, as_json: bool) -> None:
    from microq.terminal import messages as pictures
    from microq.workflows.messages import check

    found = run(check(config))
    data = {
        "logged": found.logged,
        "arrived": found.arrived,
        "by": dict(found.by),
        "missing": [{"uuid": message.id, "msg": message.text} for message in found.missing],
        "twice": [{"uuid": message.id, "msg": message.text} for message in found.twice],
        "dead": list(found.dead),
        "waiting": found.waiting,
        "away": list(found.away),
    }
    emit(data, lambda: pictures.arrived(found), as_json=as_json)
    if not found.whole:
        raise typer.Exit(ExitCode.UNKNOWN if found.away and not found.twice else ExitCode.FAILED)


# -- standard input ---------------------------------------------------------------------------------------------------

_LONGEST = 1 << 16


async def lines(file: int) -> AsyncIterator[str]:
    """Yield the lines of a file descriptor, without their ends and without empty ones, while other tasks go on.

    Bytes that are not UTF-8 become surrogates, as in the arguments of a command.
    """
    rest = b""
    while chunk := await _chunk(file):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if text := _text(line):
                yield text
    if text := _text(rest):
        yield text


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode(errors="surrogateescape")


async def _chunk(file: int) -> bytes:
    """Read the available bytes, and wait for them in the loop: Ctrl-C could not stop a thread that reads."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(file, ready.set)
    except PermissionError:  # a file on disk is always ready
        return os.read(file, _LONGEST)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(file)
    return os.read(file, _LONGEST)


# -- dead letters -----------------------------------------------------------------------------------------------------

ALL = "all"

DONE = {"replay": "Replayed", "drop": "Dropped"}

dead = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Dead letters: list, replay, drop.")

IdsArgument = Annotated[
    list[str], typer.Argument(help="Ids as `microq dead list` shows them, or all.", metavar="ID...")
]


@dead.callback()
def group() -> None:
    """Dead letters are items that no consumer will get.

    They are not microq messages, or were delivered queue.max-deliveries times and not stored.
    """


@dead.command("list")
def list_dead(config: ConfigOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Show every dead letter with its reason, the newest last.

    Exit code 3 if the facade does not answer.
    """
    from microq.terminal import messages as pictures
    from microq.workflows.messages import dead_letters

    letters = run(dead_letters(of_the_facade(config, None, url)))
    emit(letters, lambda: pictures.dead(letters, time.time()), as_json=as_json)
    if letters and not as_json:
        note("`microq dead replay ID...` puts them into the queue again, `microq dead drop ID...` removes them.")


@dead.command("replay")
def replay(ids: IdsArgument, config: ConfigOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Put dead letters into the queue again; their deliveries are counted from 0.

    `all` leaves out items that are not microq messages. Exit code 2 if an id is not a dead letter: nothing is done.
    """
    _change(of_the_facade(config, None, url), "replay", ids, as_json=as_json)


@dead.command("drop")
def drop(ids: IdsArgument, config: ConfigOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Remove dead letters for ever.

    Exit code 2 if an id is not a dead letter: nothing is done.
    """
    _change(of_the_facade(config, None, url), "drop", ids, as_json=as_json)


def _change(config: Config, verb: str, words: Sequence[str], *, as_json: bool) -> None:
    from microq.workflows.messages import change_dead_letters

    ids, left = run(change_dead_letters(config, verb, None if ALL in words else words))
    if as_json:
        emit({"verb": verb, "uuids": ids}, lambda: None, as_json=True)
        return
    say(f"{DONE[verb]} {len(ids)} dead letter{'' if len(ids) == 1 else 's'}.")
    if left:
        note(f"{left} cannot be replayed: they are not messages of microq; `microq dead drop` removes them.")
