"""Memory and processor time of a process, including its forked workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import psutil


class Usage(NamedTuple):
    """Resident memory in bytes (shared memory counts for each process) and processor time in seconds."""

    rss: int
    cpu_s: float


def family(pid: int, *, forks: bool = True) -> list[psutil.Process]:
    """Return a process and, with `forks`, its children; finding them reads the list of all processes.

    Raises `psutil.Error` if the process is gone.
    """
    leader = psutil.Process(pid)
    return [leader, *leader.children()] if forks else [leader]


def usage(processes: Sequence[psutil.Process]) -> Usage:
    """Return the sum over several processes. Raises `psutil.Error` if one of them is gone."""
    rss, cpu_s = 0, 0.0
    for process in processes:
        with process.oneshot():
            times = process.cpu_times()
            rss += process.memory_info().rss
            cpu_s += times.user + times.system
    return Usage(rss, cpu_s)
