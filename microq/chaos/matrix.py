"""The matrix: every fault, many runs, one row each, and what the rows say together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from random import Random
from typing import Any

from microq.chaos.faults import FAULTS
from microq.chaos.faults.base import Fault
from microq.chaos.faults.members import KillLeader
from microq.chaos.timing import percentile
from microq.chaos.verdict import Ruling, Verdict
from microq.errors import MicroqError, UsageError

ERROR = "error"
"""What a row says in the place of a verdict if its run could not be made."""

COUNTED = ("lost", "unlogged", "unexpected", "duplicated", "recovered", "redelivered", "dead")
"""The lists of ids in a verdict that a row counts."""

HARDER: dict[str, dict[str, Any]] = {"kill-member": {"target": "owner"}}
"""Options of faults in the matrix, where the plain command is kinder."""


REPEATED = frozenset({KillLeader.name})
"""Faults that the matrix has already, under another name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run that is to be made: the `run`-th of its fault, with choices made of `seed`."""

    fault: Fault
    run: int
    seed: int


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one run: the verdict and its counts, or the error that prevented it. Times are in seconds."""

    fault: str
    run: int
    seed: int
    verdict: str
    reasons: tuple[str, ...] = ()
    acknowledged: int = 0
    rejected: int = 0
    indeterminate: int = 0
    lost: int = 0
    unlogged: int = 0
    unexpected: int = 0
    duplicated: int = 0
    recovered: int = 0
    redelivered: int = 0
    dead: int = 0
    longest_gap_s: float | None = None
    first_acknowledgement_s: float | None = None
    first_delivery_s: float | None = None
    duration_s: float | None = None
    history: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """What the runs of one fault say together; the gaps are the 50th, 95th percentile and the longest, in seconds."""

    fault: str
    runs: int
    passed: int
    failed: int
    unknown: int
    errors: int
    counts: dict[str, int]
    gaps: tuple[float, float, float] | None


Once = Callable[[Plan], tuple[Verdict, str]]
"""Makes one run; returns its verdict and the path of its history."""


def plan(backend: str, only: Sequence[str], skip: Sequence[str], runs: int, seed: int, **options: Any) -> list[Plan]:
    """Return the runs to make: all faults of a backend once, then all of them again.

    Raises `UsageError` for a name of none, or of a fault that is asked for and is none of this backend's.

    Each run has a seed of its own, so that a run may be repeated alone. `options` are given to the faults having them.
    """
    for name in [*only, *skip]:
        if name not in FAULTS:
            raise UsageError(f"there is no fault {name!r}; there are {', '.join(FAULTS)}")
    for name in only:
        if backend not in FAULTS[name].backends:
            raise UsageError(f"{name} is a fault of {' and '.join(FAULTS[name].backends)}, not of {backend}")
    mine = [name for name, fault in FAULTS.items() if backend in fault.backends]
    chosen = [name for name in mine if (name in only if only else name not in REPEATED) and name not in skip]
    if not chosen:
        raise UsageError("no fault is left to run")
    return [
        Plan(make(name, **{**HARDER.get(name, {}), **options}), run, Random(f"{seed} {name} {run}").randrange(1 << 32))
        for run in range(1, runs + 1)
        for name in chosen
    ]


def make(name: str, **options: Any) -> Fault:
    """Return a fault with those of the options that it has."""
    kind: Any = FAULTS[name]
    known = {field.name for field in fields(kind)}
    fault: Fault = kind(**{key: value for key, value in options.items() if key in known})
    return fault


def run_all(plans: Iterable[Plan], once: Once) -> Iterator[Row]:
    """Make one run after the other and yield its row; one that cannot be made does not end the others."""
    for todo in plans:
        try:
            found, history = once(todo)
        except (MicroqError, OSError) as error:
            yield Row(todo.fault.name, todo.run, todo.seed, ERROR, reasons=(str(error),))
        else:
            yield row_of(todo, found, history)


def row_of(todo: Plan, found: Verdict, history: str) -> Row:
    """Return what came of a run, from its verdict and the path of its history."""
    counts: Any = {name: len(getattr(found, name)) for name in COUNTED}
    return Row(
        todo.fault.name,
        todo.run,
        todo.seed,
        found.verdict.value,
        reasons=found.reasons,
        acknowledged=found.acknowledged,
        rejected=found.rejected,
        indeterminate=found.indeterminate,
        longest_gap_s=found.longest_gap_s,
        first_acknowledgement_s=found.first_acknowledgement_s,
        first_delivery_s=found.first_delivery_s,
        duration_s=found.duration_s,
        history=history,
        **counts,
    )


def summarize(rows: Sequence[Row]) -> list[Summary]:
    """Return what the runs of each fault say together, in the order of their first runs."""
    return [_summary(name, [row for row in rows if row.fault == name]) for name in dict.fromkeys(r.fault for r in rows)]


def _summary(name: str, rows: Sequence[Row]) -> Summary:
    verdicts = [row.verdict for row in rows]
    gaps = sorted(row.longest_gap_s for row in rows if row.longest_gap_s is not None)
    return Summary(
        name,
        len(rows),
        verdicts.count(Ruling.PASS),
        verdicts.count(Ruling.FAIL),
        verdicts.count(Ruling.UNKNOWN),
        verdicts.count(ERROR),
        {kind: sum(getattr(row, kind) for row in rows) for kind in COUNTED},
        (percentile(gaps, 0.5), percentile(gaps, 0.95), gaps[-1]) if gaps else None,
    )


def exit_code(rows: Sequence[Row]) -> int:
    """Return 1 if a run failed, else 3 if one proved nothing or none was made, else 0."""
    verdicts = {row.verdict for row in rows}
    if Ruling.FAIL in verdicts:
        return 1
    return 0 if verdicts == {Ruling.PASS} else 3
