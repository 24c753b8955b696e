"""Rates over several numbers of connections, each between two looks at the ceiling."""

from __future__ import annotations

import dataclasses
import time

import psutil

from microq.bench.generator import Generator
from microq.bench.pace import System
from microq.bench.result import Level
from microq.bench.usage import CLIENT
from microq.config import Address


async def level(system: System, generator: Generator, nothing: Address, connections: int, seconds: float) -> Level:
    """Measure the system over so many connections, and before and after it a handler that does nothing.

    The machine's pace changes while others use it: a ratio is one of two rates that are close in time.
    """
    before = await generator.send(nothing, connections, seconds / 2)
    began, busy = time.perf_counter(), busy_seconds()
    pace = await system.measure(connections, seconds)
    busy, took = busy_seconds() - busy, time.perf_counter() - began
    after = await generator.send(nothing, connections, seconds / 2)
    ceiling = (before.acknowledged + after.acknowledged) / (before.seconds + after.seconds)
    cpu = {**pace.cpu_s, CLIENT: round(pace.client_cpu * pace.seconds, 3)}
    client = max(before.client_cpu, after.client_cpu)
    used = list(cpu.values())
    others = None if None in used else round(max(0.0, busy - sum(each or 0.0 for each in used)) / took, 2)
    return Level(dataclasses.replace(pace, cpu_s=cpu), round(ceiling, 1), round(client, 3), others)


def busy_seconds() -> float:
    """Return for how many seconds the cores of this machine have worked, or were another one's, added up."""
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "steal", 0.0))
