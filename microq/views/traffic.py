"""What was sent and what is shown, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from microq import message
from microq.log import escaped
from microq.message import Message, Outcome, Reading
from microq.sending import FIRST, Tally
from microq.views.cells import NOTHING


def sent(tally: Tally, seconds: float) -> RenderableType:
    """Return what became of sent messages."""
    line = ", ".join(f"{tally.outcomes[outcome]} {outcome}" for outcome in Outcome)
    rate = tally.sent / seconds if seconds else 0.0
    parts: list[RenderableType] = [Text(f"Sent {tally.sent}: {line}   ({rate:.0f}/s)")]
    for name, logged in sorted(tally.loggers.items()):
        parts.append(Text(f"  {name} logged {logged.count}: {_shorten(logged.first, logged.count)}"))
    return Group(*parts)


def _shorten(texts: Sequence[str], count: int) -> str:
    """Return the first of so many texts, in one line."""
    shown = ", ".join(map(printable, texts[:FIRST]))
    return f"{shown}, … ({count} in all)" if count > FIRST else shown or NOTHING


def reading(got: Reading) -> RenderableType:
    """Return one GET of the facade: both sets and where they came from."""
    return Group(
        _set_line(got.logging_service or "no logging-service answered", got.logs),
        _set_line(got.messages_service or "no messages-service answered", got.messages),
    )


def union(readings: Sequence[Reading]) -> RenderableType:
    """Return what several GETs showed together."""
    logs, messages = message.union(readings)
    return Group(Text(f"Union of {len(readings)}"), _set_line("logs", logs), _set_line("messages", messages))


def _set_line(source: str, messages: Sequence[Message]) -> Text:
    return Text(f"  {source:<28} {len(messages):>6}  {_shorten([m.text for m in messages[:FIRST]], len(messages))}")


def printable(text: str, most: int = 40) -> str:
    """Return a text that cannot colour or move about a terminal, cut to `most` characters."""
    return escaped(text[:most]) + ("…" if len(text) > most else "")
