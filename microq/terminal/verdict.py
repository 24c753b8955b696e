"""Verdicts, the matrix and the list of faults, and the negative controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from microq.backends import described
from microq.chaos.controls import Control
from microq.chaos.faults.base import Fault, summary
from microq.chaos.matrix import COUNTED, ERROR, Row, Summary
from microq.chaos.verdict import ALWAYS, Ruling, Verdict, named
from microq.fleet import group_of
from microq.log import escaped
from microq.terminal.style import NOTHING, Fitting, nearest

STYLE = {Ruling.PASS: "bold green", Ruling.FAIL: "bold red", Ruling.UNKNOWN: "bold yellow"}

SHOWN_IDS = 5
"""The number of ids of a list that are shown; the history has all of them."""


def verdict(found: Verdict, history: str, report: str | None = None) -> RenderableType:
    """Return a verdict, and the path of its report, if there is one.

    Ids, names and reasons come from a file of unknown origin: characters that control a terminal are escaped.
    """
    parts: list[RenderableType] = [_counts(found), _headline(found)]
    parts += [Text(f"  {escaped(reason)}", style=STYLE[found.verdict]) for reason in found.reasons]
    parts += [Text(f"  note: {escaped(cue)}", style="yellow") for cue in found.cues]
    if report is not None:
        parts.append(Text(f"Report {escaped(nearest(report))}"))
    parts.append(Text(f"History {escaped(history)}   (`microq verify` judges it again)", style="dim"))
    if found.seed is not None:
        parts.append(Text(f"Seed {found.seed}   (`--seed {found.seed}` repeats its choices)", style="dim"))
    return Group(*parts)


def _headline(found: Verdict) -> Text:
    return Text.assemble(
        (f"{found.verdict.upper()}  ", STYLE[found.verdict]),
        f"{found.acknowledged} acknowledged, {found.stored} stored, {len(found.lost)} lost, "
        f"{len(found.duplicated)} duplicated   hit: {_hits(found) or 'nothing'}",
    )


def _hits(found: Verdict) -> str:
    """Return the targets that were hit, each with its number of hits."""
    times = Counter((fault.target, fault.owner) for fault in found.faults)
    return " and ".join(
        f"{escaped(target)}{_ownership(target, found.queue, owner=owner)}{f' × {count}' if count > 1 else ''}"
        for (target, owner), count in times.items()
    )


def _ownership(target: str, queue: str, *, owner: bool) -> str:
    if owner:
        return f" ({described(queue).words.owner})"
    return " (not the owner)" if group_of(target) == queue else ""


def _counts(found: Verdict) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="left", no_wrap=True)
    table.add_column(justify="left", overflow="fold")
    for name in ("attempted", "acknowledged", "rejected", "indeterminate", "stored", "logged"):
        table.add_row(name, str(getattr(found, name)))
    for name, ids in found.found().items():
        table.add_row(named(name), _ids(ids))
    if found.layers:
        table.add_row("last seen in", _by(dict(Counter(found.layers.values()))))
    table.add_row("by messages-service", _by(found.by_consumer))
    table.add_row("by logging-service", _by(found.by_logger))
    table.add_row("first acknowledgement", _after(found.first_acknowledgement_s))
    table.add_row("first delivery", _after(found.first_delivery_s))
    table.add_row("longest gap", NOTHING if found.longest_gap_s is None else f"{found.longest_gap_s:.2f} s")
    if found.acknowledgement_p50_s is not None and found.acknowledgement_p99_s is not None:
        half, slow = (
            f"{seconds * 1000:,.1f} ms" for seconds in (found.acknowledgement_p50_s, found.acknowledgement_p99_s)
        )
        table.add_row("acknowledged within", f"{half} (half of them), {slow} (99 %)")
    if found.availability is not None:
        table.add_row("available", f"{found.availability:.0%} of the seconds in which a sender waited")
    return table


def _ids(ids: Sequence[str]) -> str:
    if not ids:
        return "0"
    more = f", … {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
    return f"{len(ids)}   {', '.join(map(escaped, ids[:SHOWN_IDS]))}{more}"


def _by(counts: dict[str, int]) -> str:
    return ", ".join(f"{escaped(name)} {count}" for name, count in counts.items()) or NOTHING


def _after(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{seconds:.2f} s after the fault was confirmed"


# -- many runs ---------------------------------------------------------------------------------------------------------

STYLES = {**{ruling.value: style for ruling, style in STYLE.items()}, ERROR: "bold red"}


def _table(*columns: str, texts: int = 1) -> Table:
    table = Fitting(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for place, column in enumerate(columns):
        justify: Literal["left", "right"] = "left" if place < texts else "right"
        table.add_column(column, justify=justify, no_wrap=place == 0 or place >= texts, overflow="fold")
    return table


def summaries(found: Sequence[Summary]) -> RenderableType:
    """Return one line for each fault: its verdicts, its counts that are not 0, its longest gaps."""
    counted = [name for name in COUNTED if any(one.counts[name] for one in found)]
    columns = ["RUNS", "PASS", "FAIL", "UNKNOWN", *(named(name).upper() for name in counted), "P50", "P95", "MAX"]
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
    """Return the totals of all runs; lists that are empty in every run are left out."""
    nothing = [name for name in ALWAYS if not any(one.counts[name] for one in found)]
    errors = sum(one.errors for one in found)
    parts = [f"{sum(one.runs for one in found)} runs", *(f"0 {name}" for name in nothing)]
    return ", ".join(parts) + (f"; {errors} could not be made" if errors else "")


def row(one: Row, number: int, total: int) -> RenderableType:
    """Return the line of a run that has ended."""
    gap = NOTHING if one.longest_gap_s is None else f"{one.longest_gap_s:.2f} s"
    said = "; ".join(escaped(reason.partition("\n")[0]) for reason in one.reasons)
    return Text.assemble(
        f"[{number}/{total}] {one.fault:<16} ",
        (f"{one.verdict.upper():<8}", STYLES[one.verdict]),
        f" {one.acknowledged} acknowledged, {one.lost} lost, {one.duplicated} duplicated, "
        f"{one.redelivered} redelivered, gap {gap}, seed {one.seed}",
        f"   {said}" if said else "",
    )


def faults(known: Mapping[str, type[Fault]]) -> RenderableType:
    """Return the list of faults, and what each one needs."""
    table = _table("FAULT", "WHAT IT DOES", "NEEDS", texts=3)
    for name, kind in known.items():
        needs = [*(["links"] if kind.needs_links else []), *kind.settings]
        table.add_row(name, summary(kind), ", ".join(needs) or NOTHING)
    return table


def controls(found: Sequence[tuple[Control, Sequence[str], int]]) -> RenderableType:
    """Return a line for each control: expected outcome, actual outcomes, and how many runs were as expected."""
    table = _table("CONTROL", "EXPECTED", "GOT", "RED", texts=3)
    for control, got, red in found:
        style = "green" if red == len(got) else "bold red"
        table.add_row(
            control.name, control.expectation, ", ".join(dict.fromkeys(got)), f"{red}/{len(got)}", style=style
        )
    return table
