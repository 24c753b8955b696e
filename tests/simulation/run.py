"""One run: from a seed a layout, a schedule of sends and of faults; then everything heals, drains, and is judged."""

from __future__ import annotations

import gc
import json
import logging
import random
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

import aiohttp
from simulation.cluster import Members
from simulation.faults import Faults
from simulation.loop import Loop, Process, StuckError
from simulation.network import Network
from simulation.system import CONSUMERS, Facade, Layout, Parts, Service
from simulation.witness import BrokenError, Final, Witness

from microq.message import Outcome
from microq.services.acceptance import OK

HEAL_SECONDS = (8.0, 16.0, 30.0)
"""When the faults of a run end."""

DRAIN_SECONDS = 200.0
"""Seconds after that within which everything must be settled."""

LOOK_SECONDS = 0.25
"""Seconds between two looks at what is shown."""

QUIET_LOOKS = 12
"""Looks at a settled state after which a run ends."""

TODAY = Parts()


@dataclass
class Result:
    """What a run found: the broken promise, or an empty text."""

    seed: int
    failure: str = ""
    steps: int = 0
    seconds: float = 0.0
    faults: int = 0
    """The number of faults, including those left out."""
    skipped: frozenset[int] = frozenset()
    messages: int | None = None
    schedule: Collection[str] = ()
    """The last events."""
    outcomes: list[Outcome] = field(default_factory=list)

    def __str__(self) -> str:
        events = "\n".join(f"  {line}" for line in self.schedule)
        left = f", without {len(self.skipped)} of {self.faults} faults" if self.skipped else ""
        return f"seed {self.seed}: {self.failure}{left}\n{events}\npytest tests/simulation --seed {self.seed}"


class Run:
    """A run of one seed; `messages` limits their number, `skip` leaves out faults."""

    def __init__(
        self,
        seed: int,
        parts: Parts,
        messages: int | None,
        skip: frozenset[int],
        events: int,
    ) -> None:
        self.seed, self.skip, self.most = seed, skip, messages
        self._events: deque[tuple[float, tuple[str, ...]]] = deque(maxlen=events)
        self.loop = loop = Loop(seed)  # type: ignore[abstract]  # it has what asyncio asks for here
        self.faults = faults = Faults(seed, skip)
        faults.rates |= parts.rates
        rng = self._random = Random(f"run {seed}")
        self._count = rng.randint(1, 10)
        self._heal_at = rng.choice(HEAL_SECONDS)
        self._layout = self._draw_layout()
        members = self.members = Members(loop, faults, rng.choice([1, 2, 5, 1000, 1000, 1000]), self.tell)
        self.network = Network(loop, faults, self.tell)
        self.witness = Witness(self.tell)
        self.system = parts.open(loop, members, self.network, self._layout, self.tell)
        members.hit = self._hit
        self.failure = ""
        self._split = False
        self._quiet = 0
        self._dead: set[str] = set()
        """Services that are not started again."""

    def tell(self, *words: str) -> None:
        """Note an event."""
        self._events.append((self.loop.time(), words))

    def run(self) -> Result:
        """Run to the end, and judge."""
        random.seed(self.seed)  # the services' own choices
        loop = self.loop
        self._schedule()
        try:
            loop.run_until_stopped(self._heal_at + DRAIN_SECONDS)
            if self.system.errors:
                self.failure = f"a process ended with {self.system.errors[0]!r}"
            elif not self.failure:
                self.failure = self.witness.problem(self._final(), split=self._split)
        except (BrokenError, StuckError) as error:
            self.failure = str(error)
        finally:
            for service in self.system.services:
                if service.process:
                    service.process.crash()
            loop.close()
        return Result(
            self.seed,
            self.failure,
            loop.steps,
            loop.time(),
            self.faults.number,
            self.skip,
            self.most,
            [f"{at:9.4f}  {' · '.join(words)}" for at, words in self._events],
            [sent.outcome for sent in self.witness.sent.values()],
        )

    def _draw_layout(self) -> Layout:
        rng = self._random
        return Layout(
            facades=rng.choice([1, 1, 1, 2]),
            consumers=rng.choice([1, 2, 2, 2, 3]),
            loggers=rng.choice([1, 2, 3]),
            visibility_timeout=rng.choice([1, 2, 5]),
            take_over_after=rng.choice([0, 0, 2, 6, 6]),
            max_deliveries=rng.choice([3, 50, 50, 50]),
            partitions=self._count,
        )

    # -- the schedule -------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        rng, loop, system, end = self._random, self.loop, self.system, self._heal_at
        for service in system.services:
            loop.in_world(0.0, service.start)
        window = rng.choice([0.02, 0.1, 0.7]) * end
        for number in range(self._count):
            again = rng.choice([0, 0, 1, 3])
            at, pause = 0.5 + rng.uniform(0, window), rng.choice([0.0, 0.05, 1.0, 8.0])
            if self.most is None or number < self.most:
                for attempt in range(again + 1):
                    facade = rng.choice(system.facades)
                    loop.in_world(at + attempt * pause, self._send, facade, f"m{number}", bool(again))
        for _ in range(rng.choice([0, 1, 2, 4, 8])):
            loop.in_world(rng.uniform(0, 0.9 * end), self._break, rng.choice(system.services))
        for _ in range(rng.choice([0, 0, 1, 3])):
            loop.in_world(rng.uniform(0, 0.9 * end), self._kill_member)
        if rng.random() < self.system.parts.splits:
            at = rng.uniform(0, 0.5 * end)
            names = [each.name for each in system.services if rng.random() < 0.4]
            loop.in_world(at, self._divide, names)
            loop.in_world(at + rng.uniform(0.0, 0.5 * end), self.members.merge)
        if rng.random() < 0.2:
            loop.in_world(rng.uniform(0, 0.9 * end), self._set_clock, rng.choice(system.services), rng.uniform(-99, 99))
        if len(system.consumers) > 1 and self._layout.take_over_after and rng.random() < 0.1:
            loop.in_world(rng.uniform(0, 0.9 * end), self._kill_for_good, rng.choice(system.consumers))
        loop.in_world(end, self._heal)
        loop.in_world(LOOK_SECONDS, self._look)

    def _send(self, facade: Facade, message_id: str, keyed: bool = False) -> None:  # noqa: FBT001, FBT002
        """Send a message; a `keyed` one is sent several times."""
        text = f"text of {message_id}"
        sent = self.witness.send(message_id, text)
        self.tell("sends", message_id, facade.name)

        async def post() -> None:
            outcome = Outcome.INDETERMINATE
            url = f"http://127.0.0.1:{facade.port}/facade"
            try:
                status, _ = await self.network.request("POST", url, {"uuid": message_id, "msg": text, "keyed": keyed})
            except aiohttp.ClientConnectorError:
                outcome = Outcome.REJECTED
            except aiohttp.ClientError:
                pass
            else:
                if status == OK:
                    outcome = Outcome.ACKNOWLEDGED
                elif status == 503:
                    outcome = Outcome.REJECTED
            self.witness.answer(sent, outcome)

        self.loop.world.spawn(post())

    # -- faults of processes and members ------------------------------------------------------------------------------

    def _break(self, service: Service) -> None:
        if self.faults.active and self.faults.counted() and service.process:
            self._hit(service.process, "crash" if self.faults.chance(0.5) else "pause")

    def _hit(self, process: Process, kind: str) -> float:
        """Kill or pause a process, and start or resume it after a while; return the seconds."""
        seconds = self.faults.uniform(*((0.05, 2.0) if self.faults.chance(0.6) else (2.0, 20.0)))
        service = next(each for each in self.system.services if each.name == process.name)
        if not process.alive or process.paused:
            return 0.0
        if "crash" in kind:
            self.tell("crashes", process.name, f"for {seconds:.2f} s")
            process.crash()
            self.loop.in_world(seconds, self._start, service)
        else:
            self.tell("is paused", process.name, f"for {seconds:.2f} s")
            process.pause()
            self.loop.in_world(seconds, self._resume, process)
        return seconds

    def _start(self, service: Service) -> None:
        if service.name not in self._dead:
            service.start()

    def _resume(self, process: Process) -> None:
        if process.alive and process.paused:
            self.tell("is resumed", process.name)
            process.resume()

    def _kill_for_good(self, service: Service) -> None:
        if self.faults.active and self.faults.counted() and service.process:
            self.tell("is killed for ever", service.name)
            self._dead.add(service.name)
            service.process.crash()

    def _kill_member(self) -> None:
        if self.faults.active and self.faults.counted():
            self.members.kill_one()

    def _divide(self, names: list[str]) -> None:
        if self.faults.counted():
            self._split = True
            self.members.split(names)

    def _set_clock(self, service: Service, seconds: float) -> None:
        if self.faults.counted():
            self.tell("has another time", service.name, f"{seconds:+.0f} s")
            service.drift = seconds

    def _heal(self) -> None:
        self.tell("everything heals")
        self.faults.active = False
        self.members.merge()
        for service in self.system.services:
            if service.process:
                self._resume(service.process)
            self._start(service)

    # -- looks --------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Look at what is shown; after the faults, end once nothing is left to do."""
        self.witness.see(self.system.shown(), merging=self._split)
        if not self.faults.active:
            self._quiet = self._quiet + 1 if self._settled() else 0
            if self._quiet >= QUIET_LOOKS:
                self.loop.stopped = True
        self.loop.in_world(LOOK_SECONDS, self._look)

    def _settled(self) -> bool:
        members = self.members
        if not self.witness.idle or members.late or members.merging or self.network.late or members.whole.items:
            return False
        shown = self.system.shown()
        if len(shown) < len(self.system.consumers) - len(self._dead):
            return False
        ids = {message_id for messages in shown.values() for message_id, _ in messages}
        logged, dead = self.system.logged().keys(), set(self.system.dead())
        if any(each.merging for each in self.system.consumers if each.name not in self._dead) and self._split:
            return False
        return ids == logged - dead and not self.witness.problem(self._final(), split=self._split)

    def _final(self) -> Final:
        system = self.system
        queued = [json.loads(item)["id"] for item in self.members.whole.items]
        return Final(system.shown(), system.logged(), system.stored(), system.dead(), queued)


@contextmanager
def quiet() -> Iterator[None]:
    """Log nothing, and collect no garbage in the middle of a run; restore the state of `random`."""
    state, level = random.getstate(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        logging.disable(level)
        random.setstate(state)


def simulate(
    seed: int, parts: Parts = TODAY, messages: int | None = None, skip: frozenset[int] = frozenset(), events: int = 400
) -> Result:
    """Run one seed."""
    with quiet():
        return Run(seed, parts, messages, skip, events).run()


__all__ = ["CONSUMERS", "Result", "quiet", "simulate"]
