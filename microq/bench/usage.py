"""What each process of a system uses: which pids it has, and the most memory that it had."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from microq.fleet import Snapshot
from microq.usage import family

CLIENT = "client"
"""The load generator, beside the names of the processes."""

SUPERVISOR = "supervisor"
"""The process that supervises the others and shows them; in a benchmark the command itself."""


def by_name(view: Snapshot) -> dict[str, list[int]]:
    """Return the pids of each process of the system, those that it started itself included."""
    return {process.name: pids_of(process.pid) for process in view.processes if process.pid}


def pids_of(pid: int) -> list[int]:
    """Return the pids of a process and of those that it started."""
    try:
        return [each.pid for each in family(pid)]
    except psutil.Error:
        return [pid]


def role_of(name: str) -> str:
    """Return the role in the name of a process: `logging` of `logging-5003`."""
    return name.rpartition("-")[0] or name


def by_role(named: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return sums over the processes of each role; unknown if one of them is."""
    listed: dict[str, list[float | None]] = defaultdict(list)
    for name, value in named.items():
        listed[role_of(name)].append(value)
    return {role: None if None in values else sum(each or 0.0 for each in values) for role, values in listed.items()}


def forget_peaks(groups: Mapping[str, Iterable[int]]) -> None:
    """Let the peaks begin anew, where the kernel can (Linux); elsewhere they are those since the start."""
    for pid in (pid for pids in groups.values() for pid in pids):
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def peaks(groups: Mapping[str, Sequence[int]]) -> dict[str, int | None]:
    """Return the most memory that each process had, in bytes; where no kernel tells it, what it has now."""
    return {name: _sum([_peak(pid) for pid in pids]) for name, pids in groups.items()}


def sizes(groups: Mapping[str, Sequence[int]]) -> dict[str, int | None]:
    """Return the resident memory of each process now, in bytes."""
    return {name: _sum([_size(pid) for pid in pids]) for name, pids in groups.items()}


def _sum(found: Sequence[int | None]) -> int | None:
    return None if None in found else sum(each or 0 for each in found)


def _peak(pid: int) -> int | None:
    try:
        told = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        told = None
    return int(told[1]) << 10 if told else _size(pid)


def _size(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None
