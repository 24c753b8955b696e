"""Messages: outcomes of sends, arrival, reads, dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from microq import message
from microq.client import FIRST, Tally
from microq.exchange import Exchange
from microq.hints import pasteable
from microq.log import escaped
from microq.message import Message, Outcome, Reading
from microq.terminal.style import NOTHING, duration
from microq.wire import count
from microq.workflows.messages import Arrival
from microq.workflows.wire import Tried

MOST_LINES = 12
"""Lines of an answer that are shown."""

LONGEST_PROBLEM = 1000
"""Characters of a problem that are shown."""


def sent(tally: Tally, seconds: float) -> RenderableType:
    """Return the outcomes of sent messages."""
    line = ", ".join(f"{tally.outcomes[outcome]} {outcome}" for outcome in Outcome)
    rate = tally.sent / seconds if seconds else 0.0
    parts: list[RenderableType] = [Text(f"Sent {tally.sent}: {line}   ({rate:.0f}/s)")]
    for name, logged in sorted(tally.loggers.items()):
        parts.append(Text(f"  {name} logged {logged.count}: {_shorten(logged.first, logged.count)}"))
    return Group(*parts)


def _shorten(texts: Sequence[str], count: int) -> str:
    """Return the first texts of `count` in one line."""
    shown = ", ".join(map(printable, texts[:FIRST]))
    return f"{shown}, … ({count} in all)" if count > FIRST else shown or NOTHING


def arrived(found: Arrival) -> RenderableType:
    """Return how many messages of the log have arrived, by instance, and which are missing."""
    by = ", ".join(f"{name} {count}" for name, count in found.by.items()) or "no messages-service answers"
    lines = [f"{found.arrived} of {found.logged} arrived: {by}"]
    if found.away:
        lines.append(f"  {', '.join(found.away)} did not answer, and may have more")
    if found.missing:
        lines.append(f"  {len(found.missing)} missing: {_shorten([m.text for m in found.missing], len(found.missing))}")
        held = "the size of the queue is unknown" if found.waiting is None else f"the queue holds {found.waiting}"
        lines.append(f"  {held}; see `microq queue`")
    if found.dead:
        lines.append(f"  {len(found.dead)} of them became dead letters; `microq dead list` says why")
    if found.twice:
        lines.append(f"  {len(found.twice)} shown twice: {_shorten([m.text for m in found.twice], len(found.twice))}")
    return Group(*(Text(pasteable(line)) for line in lines))


def reading(got: Reading) -> RenderableType:
    """Return one GET of the facade: both sets and the instances that they came from."""
    lines = [
        _set_line(_source(got.logging_service, "logging-service"), got.logs),
        _set_line(_source(got.messages_service, "messages-service"), got.messages),
    ]
    if got.merging:
        lines.append(Text("  Members joined, perhaps to merge: it may show only some of the messages. Read again."))
    return Group(*lines)


def _source(instance: str | None, service: str) -> str:
    return f"a {service}" if instance is None else instance or f"no {service} answered"


def union(readings: Sequence[Reading]) -> RenderableType:
    """Return the union of several GETs."""
    logs, messages = message.union(readings)
    return Group(Text(f"Union of {len(readings)}"), _set_line("logs", logs), _set_line("messages", messages))


def _set_line(source: str, messages: Sequence[Message]) -> Text:
    return Text(f"  {source:<28} {len(messages):>6}  {_shorten([m.text for m in messages[:FIRST]], len(messages))}")


def printable(text: str, most: int = 40) -> str:
    """Return a text that cannot control a terminal, cut to `most` characters."""
    return escaped(text[:most]) + ("…" if len(text) > most else "")


# -- one message, call by call ----------------------------------------------------------------------------------------


def tried(found: Tried) -> RenderableType:
    """Return each exchange of a message, and what was not as expected."""
    parts = [line for exchange in found.exchanges for line in _exchange(exchange, found.text)]
    ends = [Text.assemble(("✗ ", "red"), printable(line, LONGEST_PROBLEM)) for line in found.problems]
    return Group(*parts, *(ends or [Text.assemble(("✓ ", "green"), "Every call was understood as [wire] says.")]))


def _exchange(exchange: Exchange, text: str) -> list[Text]:
    lines = [Text(exchange.what, style="bold")]
    lines += [Text(f"  > {escaped(line)}") for line in exchange.request.split("\n") if line]
    if exchange.status is not None:
        answer = exchange.answer.strip().split("\n")
        first = [escaped(line) for line in answer[:MOST_LINES]]
        more = [f"… {len(answer) - MOST_LINES} more lines"] if len(answer) > MOST_LINES else []
        lines += [
            Text(f"  < {line}") for line in (f"{exchange.status}   {exchange.seconds * 1000:.0f} ms", *first, *more)
        ]
    return [*lines, Text(f"  = {_understood(exchange, text)}", style="red" if exchange.problem else "green")]


def _understood(exchange: Exchange, text: str) -> str:
    """Return in words how an exchange was understood."""
    if exchange.receipt:
        return f"{exchange.receipt.outcome}{f': {escaped(exchange.problem)}' if exchange.problem else ''}"
    sets = (("texts", exchange.texts), ("logs", exchange.logs), ("messages", exchange.messages))
    seen = [
        f"{len(texts)} {name}, this one {count(texts, {text})[text]} times" for name, texts in sets if texts is not None
    ]
    return "; ".join([*seen, *([escaped(exchange.problem)] if exchange.problem else [])])


# -- dead letters ------------------------------------------------------------------------------------------------------

_LONGEST = 200
"""The number of characters of a text or an id that are shown."""


def dead(letters: Sequence[Mapping[str, Any]], now: float) -> RenderableType:
    """Return the dead letters as the facade returns them, oldest first; `now` is in seconds since the epoch."""
    if not letters:
        return Text("There are no dead letters.")
    count = "1 dead letter" if len(letters) == 1 else f"{len(letters)} dead letters, newest last"
    return Group(Text(count, style="bold"), *(_letter(letter, now) for letter in letters))


def _letter(letter: Mapping[str, Any], now: float) -> Text:
    """Return three lines: an id stays whole, so that it can be copied."""
    age = duration(max(0.0, now - letter["at"]))
    replayable = "" if letter["replayable"] else "   (not a message of microq: it cannot be replayed)"
    text = f'"{printable(letter["msg"], _LONGEST)}"' if letter["msg"] else "no text"
    return Text.assemble(
        (f"{printable(letter['uuid'], _LONGEST)}\n", "bold"),
        f"  {printable(letter['reason'], _LONGEST)}   {age} ago, by {printable(letter['by'])}{replayable}\n",
        (f"  {text}", "dim"),
    )
