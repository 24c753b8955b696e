"""What a service says of itself: whether it can do its work now, what it counted, how long things took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from microq.fleet import Role
from microq.latency import Latencies

COUNTERS: dict[Role, dict[str, str]] = {
    Role.CONFIG: {},
    Role.LOGGING: {"messages_logged": "Messages that this instance wrote into the log."},
    Role.MESSAGES: {
        "messages_received": "Messages that came out of the queue and are shown here.",
        "duplicates_ignored": "Messages that came out of the queue and were shown already, here or elsewhere.",
        "messages_yielded": "Messages given up here because another instance has them since a split cluster merged.",
        "items_refused": "Items of the queue that are no messages, each a dead letter now.",
    },
    Role.FACADE: {
        "messages_acknowledged": "Messages answered with success: they are in the log and in the queue.",
        "messages_rejected": "Messages that were certainly not accepted.",
        "messages_uncertain": "Messages of which nobody knows whether they are accepted.",
    },
}
"""What each kind of service counts, and what that means; `/metrics` shows it as `microq_<name>_total`."""


@dataclass(slots=True)
class Health:
    """The state of a service called `name`: plain numbers, for they are written in the hot path."""

    name: str
    ready: Callable[[], bool] = lambda: True
    held: Callable[[], int | None] = lambda: None
    full: Callable[[], bool | None] = lambda: None
    """Whether a messages-service holds as many messages as it may, and receives none."""
    counters: dict[str, int] = field(init=False)
    latency: Latencies | None = None
    """How long the facade took to acknowledge."""

    def __post_init__(self) -> None:
        self.counters = dict.fromkeys(COUNTERS[self.role], 0)

    @property
    def role(self) -> Role:
        """What kind of service it is; every name begins with it."""
        return Role(self.name.rpartition("-")[0])

    def count(self, what: str, by: int = 1) -> None:
        """Add to a counter; raises `KeyError` for one that `COUNTERS` does not declare."""
        self.counters[what] += by
