"""HTML: elements, and the page of a report, which needs no other file, and no JavaScript for its text."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from microq.errors import MachineError, UsageError
from microq.log import escaped

EMPTY = frozenset({"meta"})
"""Elements without an end tag."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def plain(text: object) -> str:
    """Return anything as text that can be encoded: ids come from outside and may contain half a surrogate pair."""
    return "\n".join(map(escaped, str(text).split("\n")))


def tag(name: str, /, *inside: object, **attributes: str) -> Html:
    """Return an element; in attribute names `_` becomes a hyphen, and none at the end; an empty value is left out."""
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + (f'="{html.escape(plain(value))}"' if value else "")
        for key, value in attributes.items()
    )
    body = join(inside)
    return Html(f"<{name}{given}>" if name in EMPTY else f"<{name}{given}>{body}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Return the parts joined; text is escaped."""
    return Html("".join(part if isinstance(part, Html) else html.escape(plain(part)) for part in parts))


def right(text: object) -> Html:
    """Return text that is aligned to the right in its cell, as numbers are."""
    return tag("span", text, class_="number")


def table(head: Sequence[object], rows: Iterable[Sequence[object]], caption: str = "") -> Html:
    """Return a table whose first column is the row header; numbers are aligned to the right."""
    top = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head))) if any(head) else ""
    body = tag("tbody", *(tag("tr", tag("th", row[0], scope="row"), *map(_cell, row[1:])) for row in rows))
    inner = tag("table", tag("caption", caption) if caption else "", top, body)
    return tag("div", inner, class_="wide", tabindex="0", role="region", aria_label=caption or "table")


def scrolled(inner: Html, label: str) -> Html:
    """Return long content in a scrolling frame, which the keyboard can reach and which is printed completely."""
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=label)


def _cell(value: object) -> Html:
    return tag("td", f"{value:,}", class_="number") if isinstance(value, int | float) else tag("td", value)


# -- the page ----------------------------------------------------------------------------------------------------------

Figure = dict[str, Any]
"""A chart for plotly.js: plain JSON."""

UNDRAWN = "This chart needs JavaScript. The words and the tables of this page say the same without it."


def document(title: str, body: Html, figures: Mapping[str, Figure]) -> str:
    """Return the page. The `figures` are drawn in the places that `chart` made."""
    packed, digest = _plotly()
    own = _own("page.js")
    scripts = " ".join(f"'{one}'" for one in (digest, _digest(own)))
    # Whatever a history contains: nothing is loaded, and no other script runs.
    policy = f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("title", title),
        tag("style", Html(_own("page.css"))),
    )
    inner = join(
        (
            tag("main", body),
            tag("script", _data(figures), type="application/json", id="script-figures"),
            tag("script", Html(packed), type="text/plain", id="script-plotly"),
            tag("script", Html(own)),
        )
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', inner), lang='en')}\n"


def chart(name: str, says: str, height: int, *, time: bool = False) -> Html:
    """Return the place of a figure; `says` describes it for people who cannot see it.

    Charts over `time` are zoomed together.
    """
    more = {"data_time": "yes"} if time else {}
    inner = tag("p", UNDRAWN, class_="undrawn")
    return tag("div", inner, class_="chart", id=name, role="img", aria_label=says, data_height=str(height), **more)


def _data(figures: Mapping[str, Figure]) -> Html:
    try:
        text = json.dumps(figures, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise UsageError("this history has a number that is not finite") from error
    # "</script>" within JSON would end the script element.
    return Html(text.replace("<", "\\u003c"))


def _own(name: str) -> str:
    return files("microq.report").joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


@cache
def _plotly() -> tuple[str, str]:
    """Return plotly.js, compressed and as text, and its digest; compressed, a report has 2 MB instead of 5."""
    library = plotly_js().read_bytes()
    return base64.b64encode(gzip.compress(library, mtime=0)).decode(), _digest(library.decode())


# -- plotly.js ---------------------------------------------------------------------------------------------------------

PLOTLY_JS = "package_data/plotly.min.js"


def plotly_js() -> Path:
    """Return the file of plotly.js in the Python package `plotly`; raises `MachineError` if it is missing.

    The package is not imported: that takes a second and is not needed.
    """
    spec = find_spec("plotly")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        if (file := Path(folder) / PLOTLY_JS).is_file():
            return file
    raise MachineError("plotly.js is missing; `pip install --force-reinstall plotly` installs it")
