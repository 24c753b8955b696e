"""The matrix of faults, the list of faults and the negative controls, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from microq.chaos.controls import Control
from microq.chaos.faults.base import Fault
from microq.chaos.matrix import COUNTED, ERROR, Row, Summary
from microq.views.cells import NOTHING
from microq.views.verdict import STYLE

STYLES = {**{ruling.value: style for ruling, style in STYLE.items()}, ERROR: "bold red"}


def _table(*columns: str, texts: int = 1) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for place, column in enumerate(columns):
        justify: Literal["left", "right"] = "left" if place < texts else "right"
        table.add_column(column, justify=justify, no_wrap=place == 0, overflow="fold")
    return table


def summaries(found: Sequence[Summary]) -> RenderableType:
    """Return one line for each fault: its verdicts, what was counted somewhere, its longest gaps."""
    counted = [name for name in COUNTED if any(one.counts[name] for one in found)]
    columns = ["RUNS", "PASS", "FAIL", "UNKNOWN", *map(str.upper, counted), "P50", "P95", "MAX"]
    table = _table("FAULT", *columns)
    for one in found:
        gaps = [f"{gap:.2f}" for gap in one.gaps] if one.gaps else [NOTHING] * 3
        numbers = [one.runs, one.passed, one.failed, one.unknown + one.errors, *(one.counts[c] for c in counted)]
        style = "red" if one.failed else "yellow" if one.unknown + one.errors else ""
        table.add_row(Text(one.fault, style=style), *map(str, numbers), *gaps)
    return Group(
        table, Text(_totals(found)), Text("P50, P95, MAX: longest time without an acknowledgement in a run, s")
    )


def _totals(found: Sequence[Summary]) -> str:
    """Return what all runs have together; no column is needed for what none has."""
    nothing = [name for name in COUNTED if not any(one.counts[name] for one in found)]
    errors = sum(one.errors for one in found)
    parts = [f"{sum(one.runs for one in found)} runs", *(f"0 {name}" for name in nothing)]
    return ", ".join(parts) + (f"; {errors} could not be made" if errors else "")


def row(one: Row, number: int, total: int) -> RenderableType:
    """Return the line of a run that has just ended."""
    gap = NOTHING if one.longest_gap_s is None else f"{one.longest_gap_s:.2f} s"
    said = "; ".join(reason.partition("\n")[0] for reason in one.reasons)
    return Text.assemble(
        f"[{number}/{total}] {one.fault:<16} ",
        (f"{one.verdict.upper():<8}", STYLES[one.verdict]),
        f" {one.acknowledged} acknowledged, {one.lost} lost, {one.duplicated} duplicated, "
        f"{one.redelivered} redelivered, gap {gap}, seed {one.seed}",
        f"   {said}" if said else "",
    )


def faults(known: Mapping[str, type[Fault]]) -> RenderableType:
    """Return what there is to choose from, and what each one needs."""
    table = _table("FAULT", "WHAT IT DOES", "NEEDS", texts=3)
    for name, kind in known.items():
        needs = [*(["links"] if kind.needs_links else []), *kind.settings]
        table.add_row(name, summary(kind), ", ".join(needs) or NOTHING)
    return table


def summary(kind: type[Fault]) -> str:
    """Return the first line of a fault's docstring, which is its help."""
    return (kind.__doc__ or "").strip().partition("\n")[0]


def controls(found: Sequence[tuple[Control, Sequence[str], int]]) -> RenderableType:
    """Return a line for each control: what must come out, what came out, and how many runs were red as expected."""
    table = _table("CONTROL", "EXPECTED", "GOT", "RED", texts=3)
    for control, got, red in found:
        style = "green" if red == len(got) else "bold red"
        table.add_row(
            control.name, control.expectation, ", ".join(dict.fromkeys(got)), f"{red}/{len(got)}", style=style
        )
    return table
