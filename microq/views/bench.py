"""A benchmark for the terminal, and as Markdown for a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from microq.bench.profile import Spent
from microq.bench.result import SATURATED, Result
from microq.bench.table import SIGNS, Section, sections
from microq.views.cells import nearest

KEPT = 0.9
"""From which share of the rate that was asked for on it counts as kept."""

STYLES = {SIGNS[True]: "green", SIGNS[False]: "red"}


def benchmark(result: Result, folder: str) -> RenderableType:
    """Return all tables, what must be known to read them, and where more is."""
    parts: list[RenderableType] = []
    for section in sections(result):
        parts += [_table(section), Text("")]
    parts += [Text(note) for note in notes(result)]
    parts += [Text(each, style="yellow") for each in omissions(result)]
    parts.append(Text(f"Everything {nearest(folder)}: bench.json, bench.md", style="dim"))
    return Group(*parts)


def _table(section: Section) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(section.title if not section.heads[0] else f"{section.title}; {section.heads[0]}")
    for head in section.heads[1:]:
        table.add_column(head, justify="right", no_wrap=True)
    for first, *others in section.rows:
        table.add_row(Text(first, style=STYLES.get(first[:1], "")), *others)
    return table


def notes(result: Result) -> Iterator[str]:
    """Yield what must be known to read the figures."""
    if result.rates:
        rounds = len(result.rates)
        medians = f"Medians of {rounds} rounds, of the ratios too" if rounds > 1 else "One round"
        yield f"{medians}, each on a fresh system, consumers on."
        yield "The do-nothing handler was asked just before and just after each rate, by the same load generator."
    for connections in result.connections:
        most = max(level.pace.client_cpu for level in result.levels(connections))
        if most > SATURATED:
            yield f"Generator saturated at {connections} connections ({most:.0%} of a core): more may be possible."
    if result.lag:
        if result.lag.sent_per_s < result.lag.asked_per_s * KEPT:
            rates = f"of {result.lag.asked_per_s:,.0f}/s only {result.lag.sent_per_s:,.0f}/s"
            yield f"The fixed rate was not kept, {rates} were answered: the lag is that of an overload."
        yield "A message counts as stored when its consumer begins to write its claim; it is shown one write later."
    if result.bare:
        yield "The bare client's queue has one backup, as one that nobody configured has; it is destroyed afterwards."
    if result.held_settings:
        yield f"The system that holds many messages has --set {', '.join(result.held_settings)}."


def omissions(result: Result) -> Iterator[str]:
    """Yield what was not measured."""
    for each in result.omitted:
        yield f"{each.part}: {'could not be measured' if each.failed else 'left out'}: {each.why}"


def markdown(result: Result, facts: Mapping[str, Any]) -> str:
    """Return the tables for a page, with the date, the machine, and how to repeat it."""
    machine = facts["machine"]
    lines = [
        (
            f"Measured {machine['date']}: {machine['system']}, {machine['cores']} cores, "
            f"{machine['memory_bytes'] / (1 << 30):.0f} GiB of memory, Python {facts['versions']['python']}, "
            f"Java {facts['versions']['java']}. Repeat it with `{facts['repeat']}`."
        ),
        "",
    ]
    for section in sections(result):
        lines += [
            "| " + " | ".join((section.heads[0] or section.title, *section.heads[1:])) + " |",
            "|---" + "|--:" * (len(section.heads) - 1) + "|",
            *("| " + " | ".join(row) + " |" for row in section.rows),
            "",
        ]
    lines += [*(f"- {note}" for note in notes(result)), *(f"- {each}" for each in omissions(result))]
    return "\n".join(lines) + "\n"


def profiled(name: str, spent: Sequence[Spent], file: str) -> RenderableType:
    """Return where the time of a process went: functions by the time that they took themselves."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("OWN TIME", justify="right", no_wrap=True)
    table.add_column(f"FUNCTION OF {name}", overflow="fold")
    table.add_column("FILE", style="dim", overflow="fold")
    for each in spent:
        table.add_row(f"{each.share:.1%}", Text(each.function), Text(each.where))
    return Group(table, Text(""), Text(f"Flame graph: open {nearest(file)} in https://www.speedscope.app", style="dim"))
