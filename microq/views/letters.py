"""The dead letters, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from microq.views.cells import duration
from microq.views.traffic import printable

_LONGEST = 200
"""Characters of a text, and of an id, that are shown."""


def dead(letters: Sequence[Mapping[str, Any]], now: float) -> RenderableType:
    """Return the dead letters as the facade tells them, oldest first; `now` is in seconds since the epoch."""
    if not letters:
        return Text("There are no dead letters.")
    count = "1 dead letter" if len(letters) == 1 else f"{len(letters)} dead letters, newest last"
    return Group(Text(count, style="bold"), *(_letter(letter, now) for letter in letters))


def _letter(letter: Mapping[str, Any], now: float) -> Text:
    """Return three lines: an id stays whole, so that it can be copied."""
    age = duration(max(0.0, now - letter["at"]))
    replayable = "" if letter["replayable"] else "   (no message of microq: it cannot be replayed)"
    text = f'"{printable(letter["msg"], _LONGEST)}"' if letter["msg"] else "no text"
    return Text.assemble(
        (f"{printable(letter['uuid'], _LONGEST)}\n", "bold"),
        f"  {printable(letter['reason'], _LONGEST)}   {age} ago, by {printable(letter['by'])}{replayable}\n",
        (f"  {text}", "dim"),
    )
