"""`microq send` and `microq read`: feed the system and look at what it shows."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microq.cli.lines import lines
from microq.cli.output import ConfigOption, JsonOption, SetOption, console, emit, note, of_the_system, run
from microq.config import Config
from microq.errors import NotRunningError, UsageError
from microq.message import Outcome

if TYPE_CHECKING:  # --help needs none of it
    from microq.sending import Tally

LONG = 200
"""From how many messages on a progress bar is shown."""

MOST_FAILURES = 20
"""Failures that are told one by one."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("send", context_settings={"ignore_unknown_options": True})(send)
    app.command("read")(read)


def send(
    count: Annotated[
        str | None,
        typer.Argument(help="How many messages, or - for one per line of standard input.", metavar="N|-"),
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Send this one message.", show_default=False)] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="What the texts begin with: msg1, msg2, ...")] = "msg",
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, max=1000, help="Messages under way.")] = 256,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send messages and say what became of each.

    Exit code 1 if some were rejected or are uncertain, 3 if the facade is not there.

    \b
    microq send 10                  msg1 ... msg10
    microq send --text "hello"
    seq 100 | microq send -
    """
    texts = _texts(count, text, prefix)
    loaded = of_the_system(config, sets)
    total = _number(count) if count not in (None, "-") else None
    from microq.views import traffic as pictures  # noqa: PLC0415 - --help needs none of it

    began = time.perf_counter()
    tally = run(_send(loaded, texts, concurrency, total))
    seconds = time.perf_counter() - began
    emit(_summary(tally, seconds), lambda: pictures.sent(tally, seconds), as_json=as_json)
    if tally.outcomes[Outcome.ACKNOWLEDGED] < tally.sent:
        raise typer.Exit(1)
    if not as_json and tally.sent:
        note("`microq read` shows them; `microq logs messages` shows who received which.")


def _number(count: str | None) -> int:
    try:
        number = int(count or "")
    except ValueError as error:
        raise UsageError(f"send takes a number of messages or -, not {count!r}; e.g. `microq send 10`") from error
    if number < 1:
        raise UsageError(f"cannot send {number} messages; give 1 or more, e.g. `microq send 10`")
    return number


def _texts(count: str | None, text: str | None, prefix: str) -> AsyncIterator[str]:
    from microq.sending import one_by_one  # noqa: PLC0415 - --help needs none of it

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


async def _send(config: Config, texts: AsyncIterator[str], most: int, total: int | None) -> Tally:
    """Send everything, so many under way at most, and return what became of it."""
    from microq.client import FacadeClient, open_session  # noqa: PLC0415 - --help needs none of it
    from microq.sending import Tally, send_all  # noqa: PLC0415

    tally = Tally()
    async with open_session() as session:
        await FacadeClient(session, config.service_ips.facade_service).get("/healthz")
        with _bar(total) as advance:
            async for receipt in send_all(session, config.service_ips.facade_service, texts, most):
                tally.add(receipt)
                advance()
                if receipt.reason and len(tally.failures) <= MOST_FAILURES:
                    note(f"{receipt.outcome} {receipt.text[:40]!r}: {receipt.reason}")
    if len(tally.failures) > MOST_FAILURES:
        note(f"... and {len(tally.failures) - MOST_FAILURES} more failures")
    return tally


@contextlib.contextmanager
def _bar(total: int | None) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal if there is much to send; yield what advances it."""
    screen = console(error=True)
    if not screen.is_terminal or total is None or total < LONG:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

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
    times: Annotated[int, typer.Option("--times", "-n", min=1, max=1000, help="How many GETs.")] = 5,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, max=10_000, help="Of each set only so many, the oldest.")
    ] = None,
    after: Annotated[
        float | None, typer.Option("--after", help="Only what is later, in seconds since the epoch.")
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read both sets through the facade, several times.

    Exit code 3 if the facade is not there.
    """
    run(_read(of_the_system(config, sets), times, limit, after, as_json=as_json))


async def _read(config: Config, times: int, limit: int | None, after: float | None, *, as_json: bool) -> None:
    from rich.text import Text  # noqa: PLC0415 - --help needs none of it

    from microq.client import FacadeClient, open_session  # noqa: PLC0415
    from microq.message import union  # noqa: PLC0415
    from microq.views import traffic as pictures  # noqa: PLC0415

    readings = []
    async with open_session() as session:
        facade = FacadeClient(session, config.service_ips.facade_service)
        for number in range(1, times + 1):
            got = await facade.read(limit, after)
            readings.append(got)
            if not as_json:
                console().print(Text(f"GET {number}"), pictures.reading(got), sep="\n")
    logs, messages = union(readings)
    data = {
        "reads": [
            {
                "logging_service": got.logging_service,
                "messages_service": got.messages_service,
                "logs": [message.text for message in got.logs],
                "messages": [message.text for message in got.messages],
            }
            for got in readings
        ],
        "logs": [message.text for message in logs],
        "messages": [message.text for message in messages],
    }
    emit(data, lambda: pictures.union(readings), as_json=as_json)
    seen = {got.messages_service for got in readings} - {""}
    missing = [a for a in map(str, config.service_ips.messages_service) if a not in seen]
    if missing and not as_json:
        note(f"{', '.join(missing)} was not among those that answered: each GET asks one. Read again, or `-n 20`.")
    if not any(got.logging_service or got.messages_service for got in readings):
        raise NotRunningError("neither a logging-service nor a messages-service answered; see `microq status`")
