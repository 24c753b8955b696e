"""The time limits of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from microq.config import Config

HELD_RATE = 1500
"""Held messages for which every limit grows by one second.

Two idle cores merge 20,000 a second and read 5,000; with ten processes for each core they compare 2,000 a second.
"""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The time limit of each wait of a run, in seconds."""

    probe: float = 30.0
    """For one message that is sent repeatedly until it is acknowledged."""
    watch: float = 20.0
    """For the surviving servers, until every copy is in place again."""
    effect: float = 20.0
    """For the proof of a fault."""
    fault: float = 240.0
    """For a fault with all its repetitions."""
    load: float = 300.0
    """For the traffic, from its first message to its last."""
    drain: float = 60.0
    """For the consumers, until the queue is empty."""
    agree: float = 20.0
    """For two successive readings that agree."""
    claims: float = 5.0
    """For the connection to the cluster, to read the claims."""
    quiet: float = 0.3
    """Without a new message for so long the queue counts as drained, if every expected message is there."""
    loss: float = 3.0
    """The same if a message is missing: a consumer may have taken it and still store it."""
    redelivery: float = 3.0
    """For a redelivery to be stored, after the visibility timeout."""

    def for_held(self, count: int) -> Timeouts:
        """Return longer limits for `count` held messages, which are part of each reading and each merge."""
        more = count / HELD_RATE
        grown = {name: getattr(self, name) + more for name in ("watch", "effect", "drain", "agree", "claims")}
        return replace(self, **grown)

    @classmethod
    def of(cls, config: Config) -> Self:
        """Return the limits of a system: waits after a failure grow by its heartbeat timeout."""
        found, silence = cls(), config.hazelcast.heartbeat_timeout
        return replace(found, probe=found.probe + silence, watch=found.watch + silence, effect=found.effect + silence)

    def for_redelivery(self, config: Config) -> Timeouts:
        """Return limits that include the redelivery of a dead consumer's messages."""
        return replace(self, loss=max(self.loss, config.queue.visibility_timeout + self.redelivery))
