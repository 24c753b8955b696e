"""What was sent and what is shown, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from microq import message
from microq.log import escaped
from microq.message import Message, Outcome, Reading, Receipt
from microq.views.cells import NOTHING


def sent(receipts: Sequence[Receipt], seconds: float) -> RenderableType:
    """Return what became of sent messages."""
    outcomes = Counter(receipt.outcome for receipt in receipts)
    line = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in Outcome)
    rate = len(receipts) / seconds if seconds else 0.0
    parts: list[RenderableType] = [Text(f"Sent {len(receipts)}: {line}   ({rate:.0f}/s)")]
    for name in sorted({receipt.logged_by for receipt in receipts} - {""}):
        texts = [printable(receipt.text) for receipt in receipts if receipt.logged_by == name]
        parts.append(Text(f"  {name} logged {len(texts)}: {_shorten(texts)}"))
    return Group(*parts)


def _shorten(texts: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(texts[:most])
    return f"{shown}, … ({len(texts)} in all)" if len(texts) > most else shown or NOTHING


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
    return Text(f"  {source:<28} {len(messages):>6}  {_shorten([printable(m.text) for m in messages])}")


def printable(text: str, most: int = 40) -> str:
    """Return a text that cannot colour or move about a terminal, cut to `most` characters."""
    return escaped(text[:most]) + ("…" if len(text) > most else "")
