"""The charts as the figures that plotly.js draws: plain JSON, without plotly's own Python.

A colour is named by its CSS variable ("--sent"), which the page looks up, so that light and dark are told in one place.
Text is escaped here: plotly.js reads a little HTML in it.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from microq.chaos.timing import percentile
from microq.message import Outcome
from microq.report.course import Attempt, Course
from microq.report.markup import plain

Figure = dict[str, Any]

MOST_DRAWN = 2000
"""Messages of a chart above which some are left out; those that did not go smoothly never are."""

BINS = 80
"""Into how many parts a rate over time is divided, about."""

SYMBOLS = {Outcome.ACKNOWLEDGED: "circle", Outcome.REJECTED: "x", Outcome.INDETERMINATE: "diamond-open"}
COLOURS = {Outcome.ACKNOWLEDGED: "--sent", Outcome.REJECTED: "--bad", Outcome.INDETERMINATE: "--doubt"}


def said(text: object) -> str:
    """Return a text for plotly.js, which shows it as it is."""
    return html.escape(plain(text), quote=False)


def layout(x: str, y: str, **more: Any) -> Figure:
    """Return what all charts have in common, with the titles of the axes."""
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
    """Return how a bar is filled: its colour, and a pattern for those who cannot tell colours apart."""
    stripes = {"shape": pattern, "size": 7, "solidity": 0.25, "fillmode": "overlay", "fgcolor": "--paper"}
    return {"color": colour, "pattern": stripes}


def latency(way: Course) -> Figure:
    """Return how long each send took, at the time of its outcome."""
    traces = []
    for outcome, symbol in SYMBOLS.items():
        mine = [one for one in way.attempts if one.outcome is outcome]
        kept = _kept(mine)
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
    return {"data": traces, "layout": _beside(way, "milliseconds", type="log", dtick=1)}


def _kept(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Return those that are drawn: if they are many some of them, and of the slowest all."""
    every = max(1, math.ceil(len(attempts) / MOST_DRAWN))
    slow = percentile(sorted(one.seconds for one in attempts), 0.99) if attempts else 0.0
    return [one for place, one in enumerate(attempts) if place % every == 0 or one.seconds > slow]


def throughput(way: Course) -> Figure:
    """Return how many messages were acknowledged, and how many stored, per second."""
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
    return {"data": traces, "layout": _beside(way, f"per second, over {width:g} s", rangemode="tozero")}


def bin_of(span: float) -> float:
    """Return a round number of seconds that divides a span into some dozens of parts."""
    wanted = max(span, 1e-3) / BINS
    unit = 10.0 ** math.floor(math.log10(wanted))
    return next(step * unit for step in (1, 2, 5, 10) if step * unit >= wanted)


def shares(groups: Mapping[str, Mapping[str, int]]) -> Figure:
    """Return bars: who has how many; groups: what they are -> name -> count."""
    looks = zip(("--sent", "--stored"), ("", "/"), strict=True)
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": said(group),
            "y": [said(name) for name in counts],
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


# -- what charts over time have in common ----------------------------------------------------------------------------


def span(way: Course) -> tuple[float, float]:
    """Return the first and the last time of a run."""
    return min([0.0, *(one.sent for one in way.ways)]), way.end


def over_time(way: Course, y: str, **more: Any) -> Figure:
    """Return the layout of a chart over time: all of them begin and end at the same times."""
    first, last = span(way)
    pad = max(last - first, 0.01) * 0.02
    axis = {"range": [round(first - pad, 4), round(last + pad, 4)]}
    title = "seconds since the fault" if way.band else "seconds since the beginning"
    return layout(title, y, xaxis=axis, hovermode="closest", **more)


def verticals(way: Course) -> Iterator[Figure]:
    """Yield a line through all messages where the fault hits."""
    for mark in way.marks:
        if mark.hit:
            yield _shape(mark.at, mark.at, {"color": "--bad", "width": 1.5}, "")


def _shape(begin: float, end: float, line: Figure, fill: str) -> Figure:
    shape = {"type": "rect" if fill else "line", "xref": "x", "yref": "paper", "y0": 0, "y1": 1, "line": line}
    more = {"fillcolor": fill, "layer": "below"} if fill else {"layer": "above"}
    return {**shape, **more, "x0": round(begin, 4), "x1": round(end, 4)}


def band(way: Course) -> Iterator[tuple[Figure, Figure | None]]:
    """Yield the time of the fault, which needs no words of its own."""
    if way.band:
        yield _shape(*way.band, {"width": 0}, "--band"), None


def gap(way: Course) -> Iterator[tuple[Figure, Figure | None]]:
    """Yield the longest wait, framed, with its length in words on the side that has room."""
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


def _beside(way: Course, y: str, **axis: Any) -> Figure:
    shapes = [shape for shape, _ in chain(band(way), gap(way))]
    return over_time(way, y, yaxis=axis, shapes=[*shapes, *verticals(way)])
