"""The charts as figures for plotly.js: plain JSON, without plotly's Python code.

A colour is the name of a CSS variable ("--sent"), which the page looks up, so light and dark are defined in one place.
Text is escaped here, because plotly.js interprets some HTML in it.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from microq.chaos.checker import percentile
from microq.message import Outcome
from microq.report.course import Attempt, Course, Way
from microq.report.html import Figure, plain

MOST_DRAWN = 2000
"""Number of messages above which a chart leaves some out; it draws each message that is not smooth."""

BINS = 80
"""The approximate number of bins of a rate over time."""

SYMBOLS = {Outcome.ACKNOWLEDGED: "circle", Outcome.REJECTED: "x", Outcome.INDETERMINATE: "diamond-open"}
COLOURS = {Outcome.ACKNOWLEDGED: "--sent", Outcome.REJECTED: "--bad", Outcome.INDETERMINATE: "--doubt"}


def escaped(text: object) -> str:
    """Return a text escaped for plotly.js."""
    return html.escape(plain(text), quote=False)


def layout(x: str, y: str, **more: Any) -> Figure:
    """Return the common layout of all charts, with the titles of the axes."""
    axis = {"gridcolor": "--line", "zerolinecolor": "--line", "linecolor": "--line", "automargin": True}
    return {
        "paper_bgcolor": "--paper",
        "plot_bgcolor": "--paper",
        "font": {"color": "--ink", "size": 13, "family": "system-ui, sans-serif"},
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "hoverlabel": {"bgcolor": "--paper", "font": {"color": "--ink"}, "align": "left"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": {**axis, "title": {"text": x}, **more.pop("xaxis", {})},
        "yaxis": {**axis, "title": {"text": y}, **more.pop("yaxis", {})},
        **more,
    }


def filling(colour: str, pattern: str) -> Figure:
    """Return the fill of a bar: its colour, and a pattern for people who cannot distinguish colours."""
    stripes = {"shape": pattern, "size": 7, "solidity": 0.25, "fillmode": "overlay", "fgcolor": "--paper"}
    return {"color": colour, "pattern": stripes}


def latency(way: Course) -> Figure:
    """Return the duration of each send, at the time of its outcome."""
    traces = []
    for outcome, symbol in SYMBOLS.items():
        mine = [one for one in way.attempts if one.outcome is outcome]
        kept = _drawn_attempts(mine)
        if kept:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": outcome.value,
                    "x": [round(one.at, 4) for one in kept],
                    "y": [round(one.seconds * 1000, 3) for one in kept],
                    "hovertemplate": "%{y:.1f} ms at %{x:.2f} s",
                    "marker": {"symbol": symbol, "color": COLOURS[outcome], "size": 5, "opacity": 0.75},
                }
            )
    return {"data": traces, "layout": _layout_with_fault(way, "milliseconds", type="log", dtick=1)}


def _drawn_attempts(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Return the attempts that are drawn: every n-th of many, and all of the slowest."""
    every = max(1, math.ceil(len(attempts) / MOST_DRAWN))
    slow = percentile(sorted(one.seconds for one in attempts), 0.99) if attempts else 0.0
    return [one for place, one in enumerate(attempts) if place % every == 0 or one.seconds > slow]


def throughput(way: Course) -> Figure:
    """Return how many messages per second were acknowledged, and how many stored."""
    first, last = span(way)
    width = bin_of(last - first)
    lines = (
        ("acknowledged", "--sent", "solid", [one.acknowledged for one in way.ways]),
        ("stored", "--stored", "dot", [one.stored for one in way.ways]),
    )
    traces = []
    for name, colour, dash, times in lines:
        counts = Counter(math.floor(time / width) for time in times if time is not None)
        bins = range(math.floor(first / width), math.floor(last / width) + 2)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": [round(place * width, 4) for place in bins],
                "y": [round(counts[place] / width, 2) for place in bins],
                "line": {"color": colour, "width": 2, "dash": dash, "shape": "hv"},
                "hovertemplate": "%{y:,.0f} per second",
            }
        )
    return {"data": traces, "layout": _layout_with_fault(way, f"per second, over {width:g} s", rangemode="tozero")}


def bin_of(span: float) -> float:
    """Return a round number of seconds that divides a span into about `BINS` parts."""
    wanted = max(span, 1e-3) / BINS
    unit = 10.0 ** math.floor(math.log10(wanted))
    return next(step * unit for step in (1, 2, 5, 10) if step * unit >= wanted)


def shares(groups: Mapping[str, Mapping[str, int]]) -> Figure:
    """Return bars of the counts by instance; `groups` is kind -> name -> count."""
    looks = zip(("--sent", "--stored"), ("", "/"), strict=True)
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": escaped(group),
            "y": [escaped(name) for name in counts],
            "x": list(counts.values()),
            "text": [f"{count:,}" for count in counts.values()],
            "textposition": "auto",
            "hoverinfo": "x+y",
            "marker": filling(colour, pattern),
        }
        for (group, counts), (colour, pattern) in zip(groups.items(), looks, strict=False)
        if counts
    ]
    return {"data": traces, "layout": layout("messages", "", yaxis={"autorange": "reversed", "type": "category"})}


# -- charts over time --------------------------------------------------------------------------------------------------


def span(way: Course) -> tuple[float, float]:
    """Return the first and last time of a run."""
    return min([0.0, *(one.sent for one in way.ways)]), way.end


def over_time(way: Course, y: str, **more: Any) -> Figure:
    """Return the layout of a chart over time: all such charts have the same range."""
    first, last = span(way)
    pad = max(last - first, 0.01) * 0.02
    axis = {"range": [round(first - pad, 4), round(last + pad, 4)]}
    title = "seconds since the fault" if way.band else "seconds since the beginning"
    return layout(title, y, xaxis=axis, hovermode="closest", **more)


def verticals(way: Course) -> Iterator[Figure]:
    """Yield a vertical line for each hit of the fault."""
    for mark in way.marks:
        if mark.hit:
            yield _shape(mark.at, mark.at, {"color": "--bad", "width": 1.5}, "")


def _shape(begin: float, end: float, line: Figure, fill: str) -> Figure:
    shape = {"type": "rect" if fill else "line", "xref": "x", "yref": "paper", "y0": 0, "y1": 1, "line": line}
    more = {"fillcolor": fill, "layer": "below"} if fill else {"layer": "above"}
    return {**shape, **more, "x0": round(begin, 4), "x1": round(end, 4)}


def band(way: Course) -> Iterator[tuple[Figure, Figure | None]]:
    """Yield a band for the time of the fault, without a label."""
    if way.band:
        yield _shape(*way.band, {"width": 0}, "--band"), None


def gap(way: Course) -> Iterator[tuple[Figure, Figure | None]]:
    """Yield a frame around the longest wait, with its length as a label on the side that has room."""
    if not way.gap:
        return
    begin, end = way.gap
    right = begin + end > sum(span(way))
    note = {
        "xref": "x",
        "yref": "paper",
        "x": round(end if right else begin, 4),
        "y": 0.03,
        "xanchor": "right" if right else "left",
        "yanchor": "bottom",
        "showarrow": False,
        "text": f"<b>{end - begin:.2f} s</b> without an acknowledgement",
        "bgcolor": "--paper",
        "bordercolor": "--gapline",
        "borderpad": 3,
    }
    yield _shape(begin, end, {"color": "--gapline", "width": 1.5, "dash": "dot"}, "--gap"), note


def _layout_with_fault(way: Course, y: str, **axis: Any) -> Figure:
    shapes = [shape for shape, _ in chain(band(way), gap(way))]
    return over_time(way, y, yaxis=axis, shapes=[*shapes, *verticals(way)])


# -- the chart of all messages -----------------------------------------------------------------------------------------

FEW = 300
"""Number of messages up to which each has a mark that a mouse can point at."""

LANES = 4
"""Rows of the marks above the messages: marks of nearly the same time are one above the other."""


def drawn(ways: Sequence[Way]) -> tuple[list[Way], int]:
    """Return the messages that are drawn, and n: every n-th smooth message is drawn, and each that is not smooth."""
    every = max(1, math.ceil(len(ways) / MOST_DRAWN))
    return [way for way in ways if way.number % every == 0 or every == 1 or not way.smooth], every


def timeline(way: Course, lost: Iterable[str]) -> Figure:
    """Return each message as a line (sent, acknowledged, stored), and the fault and the longest wait as bands."""
    ways, _ = drawn(way.ways)
    missing = set(lost)
    end = way.end
    gone = [one for one in ways if one.id in missing]
    traces = [
        _segments("sent, until acknowledged", "--sent", 3, ((w, w.sent, w.acknowledged) for w in ways)),
        _segments("acknowledged, until stored", "--stored", 1, ((w, w.acknowledged, w.stored) for w in ways)),
        _segments(
            "sent, never acknowledged", "--doubt", 2, ((w, w.sent, end) for w in ways if w.acknowledged is None), "dot"
        ),
        _segments("lost", "--bad", 1, ((w, w.acknowledged, end) for w in gone), "dash"),
        {**_points("stored", "diamond", "--stored", [(w, w.stored) for w in ways], len(ways)), "showlegend": False},
        {**_points("lost", "x", "--bad", [(w, end) for w in gone], len(ways)), "showlegend": False},
    ]
    shapes, notes = zip(*chain(band(way), gap(way)), strict=True) if way.band or way.gap else ((), ())
    return {
        "data": [trace for trace in traces if trace["x"]] + _marks(way),
        "layout": over_time(
            way,
            "message, in order of sending",
            yaxis={"domain": [0, 0.86], "range": [0, len(way.ways) + 1]},
            yaxis2={"domain": [0.88, 1], "range": [-0.7, LANES - 0.3], "visible": False, "fixedrange": True},
            shapes=[*shapes, *verticals(way)],
            annotations=[note for note in notes if note],
        ),
    }


def _segments(
    name: str, colour: str, width: float, parts: Iterable[tuple[Way, float | None, float | None]], dash: str = "solid"
) -> Figure:
    x: list[float | None] = []
    y: list[int | None] = []
    for one, begin, end in parts:
        if begin is not None and end is not None:
            x += [round(begin, 4), round(end, 4), None]
            y += [one.number, one.number, None]
    line = {"color": colour, "width": width, "dash": dash}
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": line, "hoverinfo": "skip"}


def _points(name: str, symbol: str, colour: str, at: Sequence[tuple[Way, float | None]], total: int) -> Figure:
    known = [(one, time) for one, time in at if time is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [round(time, 4) for _, time in known],
        "y": [one.number for one, _ in known],
        "text": [_journey(one) for one, _ in known],
        "hoverinfo": "text",
        "marker": {"symbol": symbol, "color": colour, "size": 6 if total <= FEW else 3},
    }


def _journey(one: Way) -> str:
    lines = [f"message {one.number:,}: {one.id}", f"sent at {one.sent:.3f} s"]
    if one.acknowledged is not None:
        lines.append(f"acknowledged {(one.acknowledged - one.sent) * 1000:.1f} ms later")
    if one.attempts > 1:
        lines.append(f"sent {one.attempts} times")
    lines.append(f"stored by {one.by} at {one.stored:.3f} s" if one.stored is not None else "not stored")
    return "<br>".join(map(escaped, lines))


def _marks(way: Course) -> list[Figure]:
    return [
        {
            "type": "scatter",
            "mode": "markers+text",
            "name": "the fault hits" if hit else "a step after it",
            "x": [round(mark.at, 4) for mark in way.marks if mark.hit == hit],
            "y": [LANES - 1 - (mark.number - 1) % LANES for mark in way.marks if mark.hit == hit],
            "text": [str(mark.number) for mark in way.marks if mark.hit == hit],
            "hovertext": [escaped(f"{mark.at:+.2f} s  {mark.what}") for mark in way.marks if mark.hit == hit],
            "hoverinfo": "text",
            "textposition": "middle right",
            "yaxis": "y2",
            "marker": {"symbol": "star" if hit else "triangle-right", "color": "--bad" if hit else "--ink", "size": 8},
        }
        for hit in (True, False)
        if any(mark.hit == hit for mark in way.marks)
    ]
