"""The matrix: every fault, any number of runs, one row each, and a summary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from random import Random
from typing import Any

from microq.chaos.checker import percentile
from microq.chaos.faults import FAULTS
from microq.chaos.faults.base import SIGN, Fault, combine
from microq.chaos.faults.servers import KillLeader
from microq.chaos.verdict import FOUND, Ruling, Verdict
from microq.errors import ExitCode, MicroqError, UsageError

ERROR = "error"
"""The word in a row in place of a verdict if its run could not be made."""

COUNTED = tuple(FOUND)
"""The lists of ids in a verdict that a row counts."""

HARDER: dict[str, dict[str, Any]] = {"kill-member": {"target": "owner"}}
"""Options of faults in the matrix, where the plain command has an easier default."""


REPEATED = frozenset({KillLeader.name})
"""Faults that the matrix contains under another name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A planned run: the `run`-th of its fault, with choices from `seed`."""

    fault: Fault
    run: int
    seed: int


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one run: the verdict and its counts, or the error that prevented it. Times are in seconds."""

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
    vanished: int = 0
    unstable: int = 0
    disordered: int = 0
    differing: int = 0
    premature: int = 0
    misplaced: int = 0
    hidden: int = 0
    invented: int = 0
    dead_yet_shown: int = 0
    unsettled: int = 0
    recovered: int = 0
    redelivered: int = 0
    dead: int = 0
    foreign: int = 0
    longest_gap_s: float | None = None
    first_acknowledgement_s: float | None = None
    first_delivery_s: float | None = None
    duration_s: float | None = None
    history: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """The summary of a fault's runs; the gaps are the median, the 95th percentile and the longest, in seconds."""

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

    Raises `UsageError` for an unknown name, or a requested fault that does not suit this backend.

    Each run has a seed of its own, so it can be repeated alone. `options` are given to the faults that have them.
    """
    for name in (part for names in [*only, *skip] for part in names.split(SIGN)):
        if name not in FAULTS:
            raise UsageError(f"there is no fault {name!r}; there are {', '.join(FAULTS)}")
    for name in (part for names in only for part in names.split(SIGN)):
        FAULTS[name].check_suits(backend)
    mine = [name for name, fault in FAULTS.items() if fault.suits(backend)]
    chosen = [name for name in mine if (name in only if only else name not in REPEATED) and name not in skip]
    chosen += [name for name in only if SIGN in name and name not in skip]
    if not chosen:
        raise UsageError("no fault is left to run")
    return [
        Plan(named(name, **options), run, Random(f"{seed} {name} {run}").randrange(1 << 32))
        for run in range(1, runs + 1)
        for name in chosen
    ]


def known(name: str) -> Fault:
    """Return a fault with its options in the matrix. Raises `UsageError` for an unknown name."""
    if name not in FAULTS:
        raise UsageError(f"there is no fault {name!r}; there are {', '.join(FAULTS)}")
    return make(name, **HARDER.get(name, {}))


def named(name: str, **options: Any) -> Fault:
    """Return the fault `name` of the matrix, or `a+b`: two combined ones. Raises `UsageError` if that is impossible."""
    return combine([make(part, **{**HARDER.get(part, {}), **options}) for part in name.split(SIGN)])


def make(name: str, **options: Any) -> Fault:
    """Return a fault with those of the options that it has."""
    kind: Any = FAULTS[name]
    has = {field.name for field in fields(kind)}
    fault: Fault = kind(**{key: value for key, value in options.items() if key in has})
    return fault


def run_all(plans: Iterable[Plan], once: Once) -> Iterator[Row]:
    """Make one run after another and yield its row; a run that cannot be made does not end the others."""
    for todo in plans:
        try:
            found, history = once(todo)
        except (MicroqError, OSError) as error:
            yield Row(todo.fault.name, todo.run, todo.seed, ERROR, reasons=(str(error),))
        else:
            yield row_of(todo, found, history)


def row_of(todo: Plan, found: Verdict, history: str) -> Row:
    """Return the row of a run, from its verdict and the path of its history."""
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
    """Return the summary of each fault's runs, in the order of their first runs."""
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


def exit_code(rows: Sequence[Row]) -> ExitCode:
    """Return the exit code of all runs."""
    return ExitCode.of_verdicts(row.verdict for row in rows)
