"""What a service says of itself: whether it can do its work now, what it counted, how long things took."""

from __future__ import annotations

from collections.abc import Callable
from mmap import mmap

from microq.fleet import Role
from microq.latency import CELLS, Latencies

_BYTES = 8
"""Of one number."""

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


PENDING = "pending"
"""The state of a worker that says for how many messages it waits."""

_STATES = ("started", PENDING)
"""What each worker is, beside what it counts; added up like that."""


class Health:
    """The state of a service called `name`, which may be several worker processes; plain numbers, for the hot path.

    The numbers are a table in memory that a fork shares: each worker writes its own row, and whoever is asked answers
    for all of them with the sums.
    """

    def __init__(self, name: str, workers: int = 1) -> None:
        self.name, self.workers = name, workers
        self.ready: Callable[[], bool] = lambda: True
        self.held: Callable[[], int | None] = lambda: None
        # Whether a messages-service holds as many messages as it may, and receives none.
        self.full: Callable[[], bool | None] = lambda: None
        self._places = {what: place for place, what in enumerate((*COUNTERS[self.role], *_STATES))}
        self._width = len(self._places) + CELLS
        self._table = memoryview(mmap(-1, workers * self._width * _BYTES)).cast("q")
        self.become(0)

    def become(self, worker: int) -> None:
        """Be this worker from now on, counted from 0; before it counts anything."""
        self.worker = worker
        self._row = self._table[worker * self._width : (worker + 1) * self._width]
        self._took = Latencies(self._row[len(self._places) :])

    @property
    def role(self) -> Role:
        """What kind of service it is; every name begins with it."""
        return Role(self.name.rpartition("-")[0])

    def count(self, what: str, by: int = 1) -> None:
        """Add to a counter; raises `KeyError` for one that `COUNTERS` does not declare."""
        self._row[self._places[what]] += by

    def observe(self, seconds: float) -> None:
        """Note how long the facade took to acknowledge."""
        self._took.observe(seconds)

    def wait_for(self, messages: int) -> None:
        """Note for the arrival of how many messages this worker waits."""
        self._row[self._places[PENDING]] = messages

    def start(self) -> None:
        """Note that this worker can take requests from now on."""
        self._row[self._places["started"]] = 1

    @property
    def started(self) -> bool:
        """Whether all workers can take requests."""
        return self._sum("started") == self.workers

    @property
    def pending(self) -> int:
        """For the arrival of how many messages all workers wait."""
        return self._sum(PENDING)

    @property
    def counters(self) -> dict[str, int]:
        """What all workers counted."""
        return {what: self._sum(what) for what in COUNTERS[self.role]}

    @property
    def latency(self) -> Latencies | None:
        """How long the facade took to acknowledge; None of another service."""
        places = range(len(self._places), self._width)
        return (
            Latencies([sum(self._table[place :: self._width]) for place in places])
            if self.role is Role.FACADE
            else None
        )

    def _sum(self, what: str) -> int:
        return sum(self._table[self._places[what] :: self._width])
