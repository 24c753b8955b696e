"""Takeover: the others show the messages of a dead messages-service after a while; two never show the same message.

Each messages-service renews its lease (map `leases`), and shows its messages only while no other one can have it. An
instance that sees a lease unchanged for `[queue] take-over-after` seconds takes it by compare-and-set, and then moves
the claims in the `stored` map to itself, one by one, also by compare-and-set. When the old owner is restarted or
resumed after a pause, its monotonic clock says that another instance may have its lease: it answers no reader until it
has the lease back and holds exactly the messages that are its own in the map. If the other instance did not give the
lease back, it changes its claims before, so that swaps which the other one may still send fail.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf, nextafter
from typing import ParamSpec, Protocol, TypeVar

from microq.aio import poll_until, task_group
from microq.backends.hazelcast.client import CALL_SECONDS
from microq.clock import Clock
from microq.config import Config
from microq.errors import StoreError, StoreUnavailableError
from microq.fleet import Role, name_of
from microq.log import Received, Yielded, quoted
from microq.message import Message
from microq.services.health import Health
from microq.services.inbox import Inbox
from microq.services.merges import Merges
from microq.store import Lease, Silence, Store

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_REST = 0.1
"""Maximum seconds of rest after a page, even if the cluster took longer for it."""

PAUSE_SECONDS = 0.2
"""Seconds of pause after the cluster did not answer."""


async def until_answered(call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the store repeatedly until it answers."""
    while True:
        try:
            return await call(*args, **kwargs)
        except StoreError as error:
            log.warning("the store does not answer, trying again: %s", error)
            await asyncio.sleep(PAUSE_SECONDS)


def say_received(message: Message) -> None:
    """Log that a message is held here from now on."""
    log.info(Received(message.id, quoted(message.text)))


class Claims:
    """Keeps the held messages equal to the claims that this instance has in the cluster."""

    spread_seconds = 3.0
    """Seconds after a join within which each messages-service begins to read, at a random moment."""

    def __init__(self, store: Store, health: Health, held: Inbox, on_yield: Callable[[], None]) -> None:
        self._store, self._health, self._held, self._on_yield = store, health, held, on_yield
        self.merges = Merges(store.joined)
        self.in_progress: Sequence[str] = ()
        """The ids that are being claimed now; the task that claims them holds those that become this instance's."""

    async def refill(self) -> None:
        """Load the messages that this instance stored before it was stopped; waits until the cluster answers."""
        await until_answered(self._restore)
        self._held.arrange()
        if self._held:
            log.info("loaded %d stored messages into memory", len(self._held))

    async def _restore(self) -> None:
        async for page in self._store.stored.scan():
            self._held.restore([message for message in page if message.by == self._health.name])

    async def fence(self) -> None:
        """Change every claim of this instance a little: a swap of the claim as it was fails from now on.

        A process that was taking over may have been paused before it sent its swaps. When it is resumed, this instance
        shows the messages again.
        """
        await until_answered(self._fence)

    async def _fence(self) -> None:
        async for page in self._store.stored.scan():
            mine = [message for message in page if message.by == self._health.name]
            # The order of arrival, and what a reader has read up to a time, stay the same.
            await self._store.stored.swap_all([(each, replace(each, at=nextafter(each.at, inf))) for each in mine])

    async def reconcile_after_joins(self) -> None:
        """After each join of members, reconcile until nothing is missing; until cancelled."""
        await self.merges.follow(self._reconcile_in_turn)

    async def _reconcile_in_turn(self) -> int:
        await asyncio.sleep(random.uniform(0, self.spread_seconds))
        return await self.reconcile()

    async def reconcile(self) -> int:
        """Hold exactly the messages that are this instance's in the cluster; return how many differed.

        Held messages that are missing from the maps are written back first. Waits until the cluster answers.
        """
        differing = 0
        async for page in gently(self._held.pages(), self._health.clock):
            differing += await until_answered(self._reconcile, page)
        return differing + await until_answered(self._regain)

    async def _regain(self) -> int:
        """Hold the messages that are this instance's in the cluster and are not held; return their number.

        One half of a split cluster may have written a claim without a confirmation, while the other half told this
        instance that another one has the message; or the instance was restarted and saw one half only. If that claim
        survives the merge, the other instances give up the message.
        """
        name, held = self._health.name, self._held
        count = 0
        async for page in gently(self._store.stored.scan(), self._health.clock):
            mine = [m for m in page if m.by == name and m.id not in held and m.id not in self.in_progress]
            if not mine:
                continue
            held.add(mine)
            count += len(mine)
            self._health.count("messages_received", len(mine))
            log.warning("loaded %d messages into memory, which are this instance's since the merge", len(mine))
            for message in mine:
                say_received(message)
        return count

    async def _reconcile(self, page: Mapping[int, Message]) -> int:
        """Show only messages that are this instance's in the cluster, and write back lost entries of the others.

        Each half of a split cluster may give the same message to a consumer; one claim survives the merge. Late writes
        of one half may be lost. Return how many messages differed.
        """
        ids = [message.id for message in page.values()]
        claims, logged = await asyncio.gather(self._store.stored.some(ids), self._store.log.some(ids))
        unclaimed = [message for message in page.values() if message.id not in claims]
        claims |= {kept.message.id: kept.message for kept in await self._store.stored.add(unclaimed)}
        unlogged = [message for message in page.values() if message.id not in logged]
        await self._store.log.add(unlogged)
        if unclaimed or unlogged:
            log.warning("wrote %d claims and %d log entries back to the cluster", len(unclaimed), len(unlogged))
        lost = [place for place, message in page.items() if claims[message.id].by != self._health.name]
        for place in lost:
            self._held.discard(place)
            self._health.count("messages_yielded")
            message = page[place]
            log.warning(Yielded(message.id, claims[message.id].by))
            self._on_yield()
        return max(len(unclaimed), len(unlogged)) + len(lost)


async def gently(pages: AsyncIterator[T] | Iterable[T], clock: Clock) -> AsyncIterator[T]:
    """Yield pages, and rest after each for as long as it took: other processes need the cluster too."""
    source = pages if isinstance(pages, AsyncIterator) else _each(pages)
    began = clock.monotonic()
    async for page in source:
        yield page
        await asyncio.sleep(min(clock.monotonic() - began, LONGEST_REST))
        began = clock.monotonic()


async def _each(pages: Iterable[T]) -> AsyncIterator[T]:
    for page in pages:
        yield page


BEAT_SECONDS = 1.0
"""Seconds between two renewals of a lease; or a fifth of the time after which it is taken over, if that is less."""

PATIENT_BEATS = 3
"""Beats that a renewal may take. One that waits for the copy of a killed member would take the whole backup timeout;
another one succeeds meanwhile. After each that took too long, the next one has twice the time."""

SILENT_BEATS = 4
"""Missing renewals after which a messages-service counts as silent."""

SHOW_SECONDS = 1.0
"""Seconds that a reader waits for a messages-service that is checking which messages it may show."""

END_SECONDS = 1.0
"""Seconds that the last renewal may take."""

BEGIN_SECONDS = 10.0
"""Seconds that a start waits for a lease that another instance gives back; then it continues, and shows nothing yet."""


class Holdings(Protocol):
    """What a lease is about: the messages that an instance holds, and what the cluster says that it has."""

    async def fence(self) -> None:
        """Make what another instance may still send to take messages over fail."""

    async def reconcile(self) -> int:
        """Hold exactly what is this instance's; return how many messages differed."""


class Tenancy:
    """The lease of one messages-service, and its takeovers of others.

    `room` returns how many more messages it may hold.
    """

    late_seconds = CALL_SECONDS
    """Seconds for which a call without confirmation may still be carried out."""

    def __init__(
        self, config: Config, store: Store, health: Health, held: Inbox, claims: Holdings, room: Callable[[], int]
    ) -> None:
        self._store, self._health, self._held, self._claims, self._room = store, health, held, claims, room
        self._name, self._clock = health.name, health.clock
        self._seconds = config.queue.take_over_after
        self._configured = {name_of(config, Role.MESSAGES, each) for each in config.service_ips.messages_service}
        self._beat = min(BEAT_SECONDS, self._seconds / 5) if self._seconds else BEAT_SECONDS
        self._patience = PATIENT_BEATS * self._beat
        self._silence = Silence(self._clock)
        self._renewed = -inf
        # Whether another instance has had the lease since the held messages were last compared with the map.
        self._lost = False
        self._known = False
        # Whether it took its lease back from an instance that was taking over and may be alive.
        self._contested = False

    # -- the own lease ------------------------------------------------------------------------------------------------

    @property
    def valid(self) -> bool:
        """Whether no other instance can have the held messages."""
        return self._known and (not self._seconds or self._clock.monotonic() - self._renewed < self._seconds)

    async def confirm(self) -> None:
        """Wait a short time until the held messages may be shown. Raises `StoreUnavailableError`."""
        await poll_until(lambda: self.valid, self._beat / 20, SHOW_SECONDS)
        self.check()

    def check(self) -> None:
        """Raise `StoreUnavailableError` if another instance may have the held messages."""
        if not self.valid:
            raise StoreUnavailableError(
                f"{self._name} does not know yet which of its messages others have taken over; ask again"
            )

    async def begin(self) -> None:
        """Take the own lease at the start, before any message is held: then no other instance takes over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BEGIN_SECONDS):
                await self._give_back_leases()
                await poll_until(self._renew, self._beat / 5)
                self._lost, self._known = False, not self._contested

    async def renew(self) -> None:
        """Renew the lease until cancelled; note for `keep` if another instance had it.

        For the start: messages that are still being loaded cannot be compared with the map.
        """
        while True:
            await self._renew()
            await asyncio.sleep(self._beat)

    async def keep(self) -> None:
        """Renew the lease until cancelled; if another one had it, check which messages are left."""
        async with task_group() as tasks:
            comparing = tasks.create_task(asyncio.sleep(0))
            while True:
                if await self._renew() and not self._known and comparing.done():
                    comparing = tasks.create_task(self._compare_held())
                await asyncio.sleep(self._beat if self._known else self._beat / 5)

    async def _compare_held(self) -> None:
        self._lost = False
        if self._contested:
            self._contested = False
            await self._claims.fence()
        await self._claims.reconcile()
        if not self._lost:
            self._known = True
            log.info("checked which messages are this instance's: %d are held", len(self._held))

    async def end(self) -> None:
        """Write the number of held messages into the lease at the end, for others that show it or take over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._renew()

    async def _renew(self) -> bool:
        """Renew the lease, or ask for it; return whether it is this instance's now; False if the store fails."""
        try:
            async with asyncio.timeout(self._patience):
                done = await self._try_to_renew()
        except TimeoutError:
            log.warning("the lease is not renewed: the map did not answer in %g s", self._patience)
            self._patience = max(self._patience, min(2 * self._patience, self._seconds / 2))
            return False
        self._patience = PATIENT_BEATS * self._beat
        return done

    async def _try_to_renew(self) -> bool:
        began = self._clock.monotonic()
        try:
            found = await self._store.leases.get(self._name)
            if found is None or found.by == self._name or found.done or self._abandoned(found):
                return await self._write(found, began)
            self._lost, self._known = True, False
            if not found.wanted:
                log.warning("%s is taking over this instance's messages; asking for the lease", found.by)
                await self._store.leases.swap(found, replace(found, wanted=True, beat=found.beat + 1))
        except StoreError as error:
            log.warning("the lease is not renewed: %s", error)
        return False

    async def _write(self, found: Lease | None, began: float) -> bool:
        if found and found.by != self._name:
            self._lost, self._known = True, False
            self._contested = self._contested or not found.done
        beat = found.beat + 1 if found else 1
        mine = Lease(self._name, self._name, beat, len(self._held), self._clock.wall())
        if not await self._store.leases.swap(found, mine):
            return False
        self._renewed = began
        return True

    def _abandoned(self, found: Lease) -> bool:
        """Return whether the instance that has this lease is dead, and none of its calls can still be carried out."""
        return self._silence.note(self._name, found) >= self._seconds + self.late_seconds

    # -- the leases of others -----------------------------------------------------------------------------------------

    async def take_over(self) -> None:
        """Watch the leases of the others until cancelled, and take over the messages of dead ones."""
        if not self._seconds:
            return
        silence, looked = Silence(self._clock), self._clock.monotonic()
        while True:
            await asyncio.sleep(self._beat)
            try:
                leases = await self._store.leases.all()
                if self._clock.monotonic() - looked > self._seconds / 2:
                    silence = Silence(self._clock)  # cluster or process was unavailable: count anew
                await self._look(leases, silence)
            except StoreError as error:
                log.warning("the leases of the others cannot be read, trying again: %s", error)
                continue
            looked = self._clock.monotonic()

    async def _look(self, found: Sequence[Lease], silence: Silence) -> None:
        leases = {lease.id: lease for lease in found}
        for name in sorted({*self._configured, *leases} - {self._name}):
            lease = leases.get(name)
            # If an instance died while it was taking over, one of its calls may still be carried out.
            patience = self._seconds + (self.late_seconds if lease and lease.by != name and not lease.done else 0)
            if silence.note(name, lease) >= patience and not (lease and lease.over) and self._room() > 0 and self.valid:
                await self._take(name, lease)

    async def _take(self, name: str, found: Lease | None) -> None:
        """Take the lease of `name`, and then as many of its messages as there is room for."""
        began = self._clock.monotonic()
        beat, held = (found.beat + 1, found.held) if found else (1, 0)
        lease = Lease(name, self._name, beat, held, self._clock.wall())
        if not await self._store.leases.swap(found, lease):
            return
        log.warning("%s has been silent for %d s: taking over its messages", name, self._seconds)
        try:
            taken, left = await self._move(lease, began)
        except StoreError as error:
            log.warning("%s is not taken over yet: %s", name, error)
            # Unfinished calls may still be carried out; after this wait their results are known.
            await asyncio.sleep(self.late_seconds)
            await self._claims.reconcile()
            await self._finish(name, max(1, held))
            return
        await self._finish(name, left)
        log.warning("took over %d messages of %s, %d are left", taken, name, left)

    async def _move(self, lease: Lease, began: float) -> tuple[int, int]:
        """Move the claims of a dead instance here; return how many were moved and, if known, how many are left.

        The lease was changed after `began`. Once its owner may have it back, nothing more is moved: this process may
        have been paused, or the cluster slow.
        """
        taken = left = 0
        async for page in self._store.stored.scan():
            theirs = [message for message in page if message.by == lease.id]
            mine = theirs[: max(0, self._room())]
            left += len(theirs) - len(mine)
            if mine:
                if self._clock.monotonic() - began >= self._seconds:
                    return taken, max(1, lease.held)
                taken += await self._claim(mine)
            known = replace(lease, beat=lease.beat + 1, held=max(0, lease.held - len(mine)), at=self._clock.wall())
            began = self._clock.monotonic()
            if not await self._store.leases.swap(lease, known):
                return taken, max(1, known.held)  # its owner is back and asks for it
            lease = known
        return taken, left

    async def _claim(self, messages: Sequence[Message]) -> int:
        """Move claims here, and hold those that are this instance's then; return their number."""
        now = self._clock.wall()
        await self._store.stored.swap_all([(each, replace(each, by=self._name, at=now)) for each in messages])
        claims = await self._store.stored.some([message.id for message in messages])
        mine = [claim for claim in claims.values() if claim.by == self._name and claim.id not in self._held]
        self._held.add(mine)
        self._health.count("messages_taken_over", len(mine))
        for message in mine:
            say_received(message)
        return len(mine)

    async def _finish(self, name: str, left: int) -> None:
        """Note in the lease that this takeover has ended: the owner may have it back, or another instance continue."""
        while True:
            with suppress(StoreError):
                found = await self._store.leases.get(name)
                if found is None or found.by != self._name or found.done:
                    return
                done = replace(found, beat=found.beat + 1, held=left, at=self._clock.wall(), done=True)
                if await self._store.leases.swap(found, done):
                    return
            await asyncio.sleep(self._beat / 5)

    async def _give_back_leases(self) -> None:
        """Give back the leases that an earlier process of this instance was taking over when it died."""
        with suppress(StoreError):
            for lease in await self._store.leases.all():
                if lease.by == self._name != lease.id and not lease.done:
                    await self._finish(lease.id, max(1, lease.held))


class Absences:
    """The silent messages-services, and how many messages each stored that no other one shows, as far as known."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock, self._silence = store, clock, Silence(clock)
        self.hidden: dict[str, int] = {}
        """Silent messages-service -> the number of its hidden messages; none with 0."""

    async def run(self) -> None:
        """Read the leases until cancelled."""
        while True:
            try:
                leases = await self._store.leases.all()
            except StoreError:
                # Unknown: a lease that could not be read is not silent.
                self.hidden, self._silence = {}, Silence(self._clock)
            else:
                self.hidden = {lease.id: lease.held for lease in leases if self._hides(lease)}
            await asyncio.sleep(BEAT_SECONDS)

    def _hides(self, lease: Lease) -> bool:
        silent = self._silence.note(lease.id, lease) >= SILENT_BEATS * BEAT_SECONDS
        return lease.held > 0 and (silent or lease.by != lease.id)
