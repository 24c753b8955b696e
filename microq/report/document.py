"""The HTML page that every report is: one file that needs nothing else, and shows its words without JavaScript too."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from microq.errors import UsageError
from microq.plotlyjs import script
from microq.report.charts import Figure
from microq.report.markup import Html, join, tag

UNDRAWN = "This chart needs JavaScript. The words and the tables of this page say the same without it."


def document(title: str, body: Html, figures: Mapping[str, Figure]) -> str:
    """Return the page. `figures` are drawn where `chart` left room for them."""
    packed, digest = _plotly()
    own = _own("page.js")
    scripts = " ".join(f"'{one}'" for one in (digest, _digest(own)))
    # Whatever a history brings along: nothing is loaded from anywhere, and no other script runs.
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
    """Return the room of the figure of this name; `says` is what it shows, for those who cannot see it.

    Charts over `time` are zoomed together.
    """
    more = {"data_time": "yes"} if time else {}
    inner = tag("p", UNDRAWN, class_="undrawn")
    return tag("div", inner, class_="chart", id=name, role="img", aria_label=says, data_height=str(height), **more)


def _data(figures: Mapping[str, Figure]) -> Html:
    try:
        text = json.dumps(figures, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise UsageError("this history has a number that is none") from error
    # The end of a script element can be written in no other way within a JSON text.
    return Html(text.replace("<", "\\u003c"))


def _own(name: str) -> str:
    return files("microq.report").joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


@cache
def _plotly() -> tuple[str, str]:
    """Return plotly.js compressed, as text, which makes a report of 2 MB and not of 5; and its digest."""
    library = script().read_bytes()
    return base64.b64encode(gzip.compress(library, mtime=0)).decode(), _digest(library.decode())
