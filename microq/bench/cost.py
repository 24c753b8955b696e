"""Measure what the guarantees cost: rates with and without them, in turn, in one run.

A figure of a shared machine says little by itself; what is told is a ratio of two that were measured side by side.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from statistics import median

from microq.bench.generator import Generator
from microq.config import Address
from microq.fleet import Operator, Role

BARE: Mapping[str, str] = {Role.FACADE.value: "no-redelivery", Role.MESSAGES.value: "no-dedupe"}
"""Role -> the defect that leaves crash safety out: nobody watches, and no consumer claims what it shows."""

WARM_SECONDS = 1.5
"""How long a system that was just restarted is used before it is measured."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many messages a second were acknowledged, with crash safety or without it."""

    safe: bool
    per_second: float


@dataclass(frozen=True, slots=True)
class Cost:
    """The median rates over all rounds, in messages per second, and the share that crash safety costs."""

    safe_per_s: float
    bare_per_s: float
    share: float


async def rates(
    operator: Operator, generator: Generator, facade: Address, connections: int, seconds: float, rounds: int
) -> AsyncIterator[Rate]:
    """Measure both in turn, `rounds` times, each for `seconds`, on a system that nobody needs afterwards."""
    for _ in range(rounds):
        for safe in (True, False):
            await _become(operator, safe=safe)
            await generator.send(facade, connections, WARM_SECONDS)
            yield Rate(safe, (await generator.send(facade, connections, seconds)).per_second)


def cost(found: list[Rate]) -> Cost:
    """Return what the rates say together."""
    safe, bare = (median(rate.per_second for rate in found if rate.safe is which) for which in (True, False))
    return Cost(round(safe, 1), round(bare, 1), round(1 - safe / bare, 3) if bare else 0.0)


async def _become(operator: Operator, *, safe: bool) -> None:
    for role, defect in BARE.items():
        await operator.sabotage(role, "" if safe else defect)
    await operator.restart(list(BARE))
