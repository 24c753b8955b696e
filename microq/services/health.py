"""The health of a service: whether it is ready, its counters, its latencies."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator
from mmap import mmap
from typing import TYPE_CHECKING

from microq import metrics
from microq.clock import REAL, Clock
from microq.fleet import SERVICES, Role, role_of
from microq.metrics import CELLS, Latencies

if TYPE_CHECKING:
    from prometheus_client import Metric

_BYTES = 8
"""Size of one number."""

PENDING = "pending"
"""The name of the number of messages that a worker waits for until they are stored."""

_STATES = ("started", PENDING)
"""Numbers of each worker beside its counters; they are added up in the same way."""


async def _nothing_else() -> bool:
    return True


class Health:
    """The health of the service `name`, which may have several worker processes; plain numbers, for speed.

    The numbers are a table in shared memory: each worker writes its own row, and any worker answers with the sums.
    """

    def __init__(self, name: str, workers: int = 1, clock: Clock = REAL) -> None:
        self.name, self.workers, self.clock = name, workers, clock
        self.epoch = uuid.uuid4().hex[:8]
        """Identifies this life of the service, in all workers: within it monotonic times can be compared."""
        self.ready: Callable[[], bool] = lambda: True
        # What else must hold for the service to be ready; evaluated only for `/readyz`.
        self.reaches: Callable[[], Awaitable[bool]] = _nothing_else
        self.held: Callable[[], int | None] = lambda: None
        # Whether a messages-service has reached its bound and receives no more messages.
        self.full: Callable[[], bool | None] = lambda: None
        # Whether members joined, and it is not certain yet that nothing is missing: lists may be incomplete.
        self.merging: Callable[[], bool] = lambda: False
        self._places = {what: place for place, what in enumerate((*SERVICES[self.role].counters, *_STATES))}
        self._width = len(self._places) + CELLS
        self._table = memoryview(mmap(-1, workers * self._width * _BYTES)).cast("q")
        self.become(0)

    def become(self, worker: int) -> None:
        """Make this process the worker with this number, counted from 0; call it before it counts anything."""
        self.worker = worker
        self._row = self._table[worker * self._width : (worker + 1) * self._width]
        self._took = Latencies(self._row[len(self._places) :])

    @property
    def role(self) -> Role:
        """The role of the service, with which its name begins."""
        return role_of(self.name)

    def count(self, what: str, by: int = 1) -> None:
        """Add to a counter; raises `KeyError` if the service's record in `SERVICES` does not declare it."""
        self._row[self._places[what]] += by

    def observe(self, seconds: float) -> None:
        """Note how long the facade took to acknowledge a message."""
        self._took.observe(seconds)

    def wait_for(self, messages: int) -> None:
        """Set the number of messages that this worker waits for until they are stored."""
        self._row[self._places[PENDING]] = messages

    def start(self) -> None:
        """Note that this worker is ready."""
        self._row[self._places["started"]] = 1

    @property
    def started(self) -> bool:
        """Whether all workers are ready."""
        return self._sum("started") == self.workers

    @property
    def pending(self) -> int:
        """The number of messages that all workers wait for until they are stored."""
        return self._sum(PENDING)

    @property
    def counters(self) -> dict[str, int]:
        """The counters of all workers, added up."""
        return {what: self._sum(what) for what in SERVICES[self.role].counters}

    @property
    def latency(self) -> Latencies | None:
        """The facade's times to acknowledge; None for another service."""
        places = range(len(self._places), self._width)
        return (
            Latencies([sum(self._table[place :: self._width]) for place in places])
            if self.role is Role.FACADE
            else None
        )

    def _sum(self, what: str) -> int:
        return sum(self._table[self._places[what] :: self._width])


def exposition(health: Health, accept: str) -> tuple[bytes, str]:
    """Return the metrics of a service, and their content type, in the format that an Accept header asks for."""
    # The counters are those of all workers, but the kernel's figures would be those of one worker.
    return metrics.exposition(lambda: _families(health), accept, of_this_process=health.workers == 1)


def _families(health: Health) -> Iterator[Metric]:
    yield from metrics.single("ready", "Whether the service can do its work now.", health.ready())
    about = "Messages that a messages-service shows, or entries that a logging-service has written since its start."
    yield from metrics.single("messages_held", about, health.held())
    about = "Whether a messages-service has reached its bound, or a facade finds no room in the members' memory."
    yield from metrics.single("full", about, health.full())
    counters = health.counters
    for name, about in SERVICES[health.role].counters.items():
        yield from metrics.single(f"{name}_total", about, counters[name])
    if latency := health.latency:
        about = "Seconds from a message's arrival at the facade to its acknowledgement."
        yield metrics.histogram("acknowledge_seconds", about, latency)
