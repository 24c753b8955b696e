"""The chart of all messages: each one a line from its sending over its acknowledgement to its storing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain

from microq.report.charts import MOST_DRAWN, Figure, band, gap, over_time, said, verticals
from microq.report.course import Course, Way

FEW = 300
"""Messages up to which each has a mark that can be hit with a mouse."""

LANES = 4
"""Rows of the marks above the messages: what happens at nearly the same time stands one above the other."""


def drawn(ways: Sequence[Way]) -> tuple[list[Way], int]:
    """Return the messages that are drawn, and that it is every how manyth of those that went smoothly."""
    every = max(1, math.ceil(len(ways) / MOST_DRAWN))
    return [way for way in ways if way.number % every == 0 or every == 1 or not way.smooth], every


def timeline(way: Course, lost: Iterable[str]) -> Figure:
    """Return each message as a line: sent, acknowledged, stored; the fault as a band, the longest wait as another."""
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
    lines.append(f"stored by {one.by} at {one.stored:.3f} s" if one.stored is not None else "stored by nobody")
    return "<br>".join(map(said, lines))


def _marks(way: Course) -> list[Figure]:
    return [
        {
            "type": "scatter",
            "mode": "markers+text",
            "name": "the fault hits" if hit else "a step after it",
            "x": [round(mark.at, 4) for mark in way.marks if mark.hit == hit],
            "y": [LANES - 1 - (mark.number - 1) % LANES for mark in way.marks if mark.hit == hit],
            "text": [str(mark.number) for mark in way.marks if mark.hit == hit],
            "hovertext": [said(f"{mark.at:+.2f} s  {mark.what}") for mark in way.marks if mark.hit == hit],
            "hoverinfo": "text",
            "textposition": "middle right",
            "yaxis": "y2",
            "marker": {"symbol": "star" if hit else "triangle-right", "color": "--bad" if hit else "--ink", "size": 8},
        }
        for hit in (True, False)
        if any(mark.hit == hit for mark in way.marks)
    ]
