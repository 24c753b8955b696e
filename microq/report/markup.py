"""HTML made of elements: whatever is no element already is text, and is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from microq.log import escaped

EMPTY = frozenset({"meta"})
"""Elements that have no end."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def plain(text: object) -> str:
    """Return anything as text that can be shown: ids are chosen by others, and may hold what no encoding can carry."""
    return "\n".join(map(escaped, str(text).split("\n")))


def tag(name: str, /, *inside: object, **attributes: str) -> Html:
    """Return an element; an attribute's name has hyphens for `_`, and no final one; empty, it stands alone."""
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + (f'="{html.escape(plain(value))}"' if value else "")
        for key, value in attributes.items()
    )
    body = join(inside)
    return Html(f"<{name}{given}>" if name in EMPTY else f"<{name}{given}>{body}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Return parts one after the other, those that are text escaped."""
    return Html("".join(part if isinstance(part, Html) else html.escape(plain(part)) for part in parts))


def right(text: object) -> Html:
    """Return text that stands to the right in its cell, as numbers do."""
    return tag("span", text, class_="number")


def table(head: Sequence[object], rows: Iterable[Sequence[object]], caption: str = "") -> Html:
    """Return a table whose first column heads its rows; numbers stand to the right."""
    top = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head))) if any(head) else ""
    body = tag("tbody", *(tag("tr", tag("th", row[0], scope="row"), *map(_cell, row[1:])) for row in rows))
    inner = tag("table", tag("caption", caption) if caption else "", top, body)
    return tag("div", inner, class_="wide", tabindex="0", role="region", aria_label=caption or "table")


def scrolled(inner: Html, label: str) -> Html:
    """Return something long in a frame of its own, which the keyboard reaches and paper shows whole."""
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=label)


def _cell(value: object) -> Html:
    return tag("td", f"{value:,}", class_="number") if isinstance(value, int | float) else tag("td", value)
