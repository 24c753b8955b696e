"""What a process takes of the machine, the workers that it forked included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import psutil


class Usage(NamedTuple):
    """Resident memory in bytes, where what processes share counts for each, and seconds of a processor until now."""

    rss: int
    cpu_s: float


def family(pid: int, *, forks: bool = True) -> list[psutil.Process]:
    """Return a process and, with `forks`, its children: to find those, every process of the machine is looked at.

    Raises `psutil.Error` if it is gone.
    """
    leader = psutil.Process(pid)
    return [leader, *leader.children()] if forks else [leader]


def usage(processes: Sequence[psutil.Process]) -> Usage:
    """Return what processes take together. Raises `psutil.Error` if one of them is gone."""
    rss, cpu_s = 0, 0.0
    for process in processes:
        with process.oneshot():
            times = process.cpu_times()
            rss += process.memory_info().rss
            cpu_s += times.user + times.system
    return Usage(rss, cpu_s)
