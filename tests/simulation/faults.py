"""What goes wrong in a run: drawn from its seed, and numbered, so that a run can be repeated without some faults."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from random import Random

RATES: Mapping[str, tuple[float, float]] = {
    "lose request": (0.002, 0.05),
    "carry out late": (0.002, 0.05),
    "lose reply": (0.002, 0.08),
    "carry out twice": (0.002, 0.05),
    "answer slowly": (0.005, 0.05),
    "crash the caller": (0.0005, 0.01),
    "pause the caller": (0.0005, 0.01),
    "pause before sending": (0.0005, 0.01),
    "cut the client off": (0.0005, 0.005),
    "lose HTTP request": (0.005, 0.08),
    "lose HTTP reply": (0.005, 0.08),
    "deliver HTTP late": (0.005, 0.05),
}
"""The lowest and the highest probability of each fault of a call, in runs that have it."""


class Faults:
    """Decides what goes wrong. `skip` has the numbers of faults that are left out."""

    def __init__(self, seed: int, skip: Collection[int] = ()) -> None:
        self.skip = skip
        self.number = 0
        self.active = True
        rng = Random(f"faults {seed}")
        few = rng.choice([0.15, 0.4, 0.7])
        self.rates = {
            kind: lowest * (highest / lowest) ** rng.random()
            for kind, (lowest, highest) in RATES.items()
            if rng.random() < few
        }
        self.usual_delay = rng.choice([0.0005, 0.0005, 0.003, 0.02])
        self._random = {kind: Random(f"{kind} {seed}").random for kind in RATES}
        self._delays = Random(f"delays {seed}")
        self._details = Random(f"details {seed}")

    def happens(self, kind: str) -> bool:
        """Return whether a fault happens now."""
        rate = self.rates.get(kind)
        return rate is not None and self.active and self._random[kind]() < rate and self.counted()

    def counted(self) -> bool:
        """Count a fault that is about to happen; return whether it may."""
        self.number += 1
        return self.number not in self.skip

    def delay(self) -> float:
        """Return the seconds that one way of a call takes."""
        return self.usual_delay * (0.2 + self._delays.expovariate(1.0))

    def uniform(self, lowest: float, highest: float) -> float:
        """Return a detail of a fault."""
        return self._details.uniform(lowest, highest)

    def chance(self, probability: float) -> bool:
        """Return whether a detail of a fault is so."""
        return self._details.random() < probability
