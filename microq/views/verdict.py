"""A verdict for the terminal: the table of counts, the timings, the ids, and what it does not prove."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from microq.chaos.verdict import Ruling, Verdict
from microq.fleet import Role
from microq.views.cells import NOTHING, nearest

STYLE = {Ruling.PASS: "bold green", Ruling.FAIL: "bold red", Ruling.UNKNOWN: "bold yellow"}

SHOWN_IDS = 5
"""Ids of one kind that are shown; the history has them all."""


def verdict(found: Verdict, history: str, report: str | None = None) -> RenderableType:
    """Return everything that a verdict says, and where its report is, if there is one."""
    parts: list[RenderableType] = [_counts(found), _headline(found)]
    parts += [Text(f"  {reason}", style=STYLE[found.verdict]) for reason in found.reasons]
    parts += [Text(f"  note: {cue}", style="yellow") for cue in found.cues]
    if report is not None:
        parts.append(Text(f"Report {nearest(report)}"))
    parts.append(Text(f"History {history}   (`microq verify` judges it again)", style="dim"))
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
    """Return what was hit, each thing once with how many times."""
    times = Counter((fault.target, fault.owner) for fault in found.faults)
    return " and ".join(
        f"{target}{_ownership(target, owner=owner)}{f' × {count}' if count > 1 else ''}"
        for (target, owner), count in times.items()
    )


def _ownership(target: str, *, owner: bool) -> str:
    if owner:
        return " (a leader)" if target.startswith(f"{Role.KAFKA}-") else " (the primary owner)"
    servers = (f"{Role.HAZELCAST}-", f"{Role.KAFKA}-")
    return " (not the owner)" if target.startswith(servers) else ""


def _counts(found: Verdict) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="left", no_wrap=True)
    table.add_column(justify="left")
    for name in ("attempted", "acknowledged", "rejected", "indeterminate", "stored", "logged"):
        table.add_row(name, str(getattr(found, name)))
    for name in ("lost", "unlogged", "unexpected", "duplicated", "recovered", "redelivered", "dead"):
        table.add_row(name, _ids(getattr(found, name)))
    if found.layers:
        table.add_row("last seen in", _by(dict(Counter(found.layers.values()))))
    table.add_row("by messages-service", _by(found.by_consumer))
    table.add_row("by logging-service", _by(found.by_logger))
    table.add_row("first acknowledgement", _after(found.first_acknowledgement_s))
    table.add_row("first delivery", _after(found.first_delivery_s))
    table.add_row("longest gap", NOTHING if found.longest_gap_s is None else f"{found.longest_gap_s:.2f} s")
    return table


def _ids(ids: Sequence[str]) -> str:
    if not ids:
        return "0"
    more = f", … {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
    return f"{len(ids)}   {', '.join(ids[:SHOWN_IDS])}{more}"


def _by(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or NOTHING


def _after(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{seconds:.2f} s after the fault"
