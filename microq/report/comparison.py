"""The report of a comparison: both queues side by side, as charts and as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from microq.bench.comparison import SCENES, Found, Line, lines
from microq.chaos.matrix import ERROR
from microq.chaos.verdict import Ruling
from microq.report.charts import escaped, filling, layout
from microq.report.html import Figure, Html, chart, document, join, right, scrolled, table, tag
from microq.report.run import SIGNS
from microq.terminal.bench import cell, comparison_notes, folded, quotient, repeated
from microq.terminal.style import NOTHING

LOOKS = (("--first", ""), ("--second", "/"))
"""Colour and pattern of the bars of each queue."""


def render(found: Found, facts: Mapping[str, Any], *, complete: bool) -> str:
    """Return the report as an HTML page; `facts` are the versions, the machine, the options and the date."""
    drawn = {f"chart-{number}": mine for number, mine in enumerate(_charted(found), 1)}
    several = repeated(found)
    figures = {key: bars(mine, found.backends, several=several) for key, mine in drawn.items()}
    names = " and ".join(map(str.capitalize, found.backends))
    body = join(
        (
            tag("header", tag("h1", f"{names} under the same load and faults"), *_top(facts, complete=complete)),
            tag("h2", "Side by side", id="charts"),
            tag("div", *(_chart(key, mine, found.backends) for key, mine in drawn.items()), class_="side"),
            *_tables(found),
            *_runs(found),
            *_setting(facts),
        )
    )
    return document(f"microq compare: {names}", body, figures)


def _top(facts: Mapping[str, Any], *, complete: bool) -> Iterator[Html]:
    mine = facts["machine"]
    yield tag("p", f"microq compare, {mine['date']}, {mine['system']}, {mine['cores']} cores", class_="soft")
    if not complete:
        yield tag("div", tag("p", "Interrupted: these are the results until then."), class_="cues")
    sections = (("charts", "Side by side"), ("figures", "All figures"), ("runs", "Verdicts"), ("setting", "Setting"))
    links = (tag("li", tag("a", name, href=f"#{key}")) for key, name in sections)
    yield tag("nav", tag("ul", *links), aria_label="Sections")


def _charted(found: Found) -> Iterator[list[Line]]:
    """Yield the lines of each chart: measured lines of one group and one unit."""
    measured = (line for line in lines(found) if line.unit and any(_number(line, b) for b in found.backends))
    for _, mine in groupby(measured, lambda line: (line.group, line.unit)):
        yield list(mine)


def _number(line: Line, backend: str) -> float | None:
    value = line.values.get(backend)
    return None if isinstance(value, str) else value


def bars(mine: Sequence[Line], backends: Sequence[str], *, several: bool) -> Figure:
    """Return the bars of lines with one unit, one for each backend, with minimum and maximum of several runs."""
    traces = []
    for backend, (colour, pattern) in zip(backends, LOOKS, strict=False):
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": escaped(backend),
                "y": [escaped(line.measure) for line in mine],
                "x": [_number(line, backend) for line in mine],
                "text": [escaped(cell(line, backend, several=several).plain) for line in mine],
                "textposition": "outside",
                "cliponaxis": False,
                "hoverinfo": "name+y+text",
                "marker": filling(colour, pattern),
            }
        )
    longest = max((value for line in mine for b in backends if (value := _number(line, b)) is not None), default=0.0)
    room = longest * (1.5 if several else 1.2) or 1
    axes = {"xaxis": {"range": [0, room]}, "yaxis": {"type": "category", "autorange": "reversed"}}
    return {"data": traces, "layout": layout(mine[0].unit, "", barmode="group", **axes)}


def _chart(key: str, mine: Sequence[Line], backends: Sequence[str]) -> Html:
    title = f"{mine[0].group}, {mine[0].unit}"
    height = 110 + 26 * len(mine) * len(backends)
    return tag("div", tag("h3", title), chart(key, f"Bars: {title}", height))


def _tables(found: Found) -> Iterator[Html]:
    several = repeated(found)
    yield tag("h2", "All figures", id="figures")
    yield tag("ul", *(tag("li", note) for note in comparison_notes(found, several=several)))
    head = ("", *(tag("span", backend, class_="number") for backend in found.backends))
    ratio = len(found.backends) > 1
    for group, mine in groupby(folded(lines(found)), lambda line: line.group):
        rows = [
            (
                f"{line.measure}, {line.unit}" if line.unit else line.measure,
                *(right(cell(line, backend, several=several).plain) for backend in found.backends),
                *([right(quotient(line))] if ratio else []),
            )
            for line in mine
        ]
        yield table((*head, *([right("ratio")] if ratio else [])), rows, group)


def _runs(found: Found) -> Iterator[Html]:
    yield tag("h2", "Verdicts, run by run", id="runs")
    titles = {scene.key: scene.title for scene in SCENES}
    signs = {**{ruling.value: sign for ruling, sign in SIGNS.items()}, ERROR: SIGNS[Ruling.FAIL]}
    rows = [
        (
            f"{one.backend}, run {one.row.run}",
            titles.get(one.scene, one.scene),
            tag("span", tag("b", f"{signs[one.row.verdict]} {one.row.verdict.upper()}"), class_=one.row.verdict),
            one.row.acknowledged,
            one.row.lost,
            right(NOTHING if one.row.longest_gap_s is None else f"{one.row.longest_gap_s:.2f}"),
            "; ".join(one.row.reasons),
            tag("code", one.row.history),
        )
        for one in found.struck
    ]
    head = ("", "scene", "verdict", "acknowledged", "lost", "gap, s", "reasons", "history")
    yield table(head, rows, "Every run with a fault") if rows else tag("p", "No run with a fault was made.")
    if found.failures:
        unmade = [(f"{one.backend}, run {one.run}", one.what, one.error) for one in found.failures]
        yield table(("", "what", "why"), unmade, "Runs that could not be made")


def _setting(facts: Mapping[str, Any]) -> Iterator[Html]:
    yield tag("h2", "Setting", id="setting")
    versions = dict(facts["versions"])
    versions |= versions.pop("clients", {})
    machine = {name: value for name, value in facts["machine"].items() if name != "date"}
    yield tag("h3", "Versions")
    yield _facts(versions)
    yield tag("h3", "Machine and options")
    yield _facts({**machine, **facts["options"], "repeat": f"microq compare --seed {facts['seed']}"})
    for backend, text in facts["configuration"].items():
        yield tag("h3", f"Configuration of {backend}")
        yield scrolled(tag("pre", text), f"Configuration of {backend}")


def _facts(facts: Mapping[str, Any]) -> Html:
    pairs = (join((tag("dt", name), tag("dd", _fact_text(value)))) for name, value in facts.items())
    return tag("dl", *pairs, class_="facts")


def _fact_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
