"""The screen of `microq status --watch`: a watched system, fitted to the terminal; and the same as one line."""

from __future__ import annotations

import dataclasses
import re
import time
from collections import deque
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from microq.caveats import UNKNOWN, backups, caveats, safety
from microq.figures import Figures, QueueView
from microq.fleet import FLOW, SERVERS, Event, ProcessState, ProcessView, Role, Snapshot, Topic
from microq.hints import pasteable
from microq.metrics import between, quantile
from microq.terminal.logs import event_line
from microq.terminal.status import caveat_lines, servers_tables
from microq.terminal.style import NOTHING, duration, mebibytes, state_text, table

SPAN = 0.9
"""Minimum seconds over which a rate is measured: events cause snapshots that are closer together."""

REMEMBERED = 60
"""The number of events that are kept."""


class Sight:
    """A watched system: `now` is the last snapshot, with the changes of later events."""

    def __init__(self, first: Snapshot) -> None:
        self.now = first
        self.last: dict[str, Figures] = {}
        self.events: deque[Event] = deque(maxlen=REMEMBERED)
        self.lost_at: float | None = None
        """The time since which the supervisor does not answer."""
        self._looks: deque[Snapshot] = deque()
        self._announced: set[str] = set()
        self.look(first)

    def look(self, view: Snapshot) -> None:
        """Add a new snapshot."""
        self.now, self.lost_at = view, None
        self.last |= {figures.name: figures for figures in view.figures}
        self._looks.append(view)
        # The first snapshot that is kept is the newest one that is old enough.
        while len(self._looks) > 1 and view.taken_at - self._looks[1].taken_at >= SPAN:
            self._looks.popleft()

    def hear(self, event: Event) -> None:
        """Add an event; a new state of a process is shown at once."""
        self.events.append(event)
        if event.topic is Topic.PROCESS:
            changed = [
                dataclasses.replace(process, state=ProcessState(event.kind)) if process.name == event.name else process
                for process in self.now.processes
            ]
            self.now = dataclasses.replace(self.now, processes=tuple(changed))

    @property
    def caveats(self) -> list[str]:
        """The caveats of the last snapshot."""
        return caveats(self.now, self.last)

    def new_caveats(self) -> list[str]:
        """Return caveats that the last call did not return; one that differs only in an age is not new."""
        found = {re.sub(r"[\d,]+ s ago|[\d,]+ s old", "", caveat): caveat for caveat in self.caveats}
        fresh = [caveat for key, caveat in found.items() if key not in self._announced]
        self._announced = set(found)
        return fresh

    def lose(self, at: float) -> None:
        """Note that the supervisor no longer answers."""
        self.lost_at = self.lost_at or at

    def rate(self, what: str, processes: Iterable[ProcessView] | None = None) -> float | None:
        """Return the recent rate per second of a counter, of some or all processes; None: unknown."""
        seconds = self.now.taken_at - self._looks[0].taken_at
        if seconds < SPAN:
            return None
        before = {process.name: process.counters.get(what, 0) for process in self._looks[0].processes}
        total = 0
        for process in self.now.processes if processes is None else processes:
            (more,) = between([before.get(process.name, 0)], [process.counters.get(what, 0)])
            total += more if process.counters else 0
        return total / seconds

    def took(self, share: float) -> float | None:
        """Return a quantile of the recent acknowledgement times in seconds; None if there were none."""
        facades = {process.name: process.latency for process in self._looks[0].having(Role.FACADE)}
        counts = [between(facades.get(p.name, ()), p.latency) for p in self.now.having(Role.FACADE) if p.latency]
        if self.now.taken_at - self._looks[0].taken_at < SPAN or not counts:
            return None
        return quantile([sum(column) for column in zip(*counts, strict=True)], share)


# -- the screen --------------------------------------------------------------------------------------------------------

WIDE = 155
"""The width from which on servers and services are side by side."""

BAR = 12
"""The width of the bar of the queue."""

LEAST = 2
"""Lines reserved for the last events."""

CAVEATS = 3
"""The most lines reserved for caveats."""


def screen(sight: Sight, width: int, height: int) -> RenderableType:
    """Return what fits into this width and height; a line says what is left out."""
    servers, rows = servers_tables(sight.now, wide=width >= WIDE)
    services = [p for p in sight.now.processes if p.role not in SERVERS]
    warnings = sight.caveats
    head = [_head(sight), *_queue(sight)]
    below = LEAST + min(CAVEATS, len(warnings))
    if width >= WIDE:
        room = height - len(head) - below - 2
        middle = Table.grid(padding=(0, 4, 0, 0))
        middle.add_row(Group(*servers), _services(sight, services, room - 1))
        used = max(rows, min(len(services), room - 1) + 1)
        parts: list[RenderableType] = [*head, Text(""), middle, Text("")]
        used += 2
    else:
        room = height - len(head) - rows - below
        parts = [*head, *servers, _services(sight, services, room - 1)]
        used = rows + min(len(services), max(1, room - 1)) + 1
    left = height - len(head) - used
    cautions = _warnings(warnings, max(1, left - LEAST)) if warnings else []
    happened = list(sight.events)[-max(0, left - len(cautions)) :] if left > len(cautions) else []
    return Group(*parts, *cautions, *(event_line(each, no_wrap=True) for each in happened))


def _head(sight: Sight) -> Text:
    now = sight.now
    began = min((p.started_at for p in now.processes if p.started_at), default=None)
    up = f"up {duration(now.taken_at - began)}" if began else "nothing is up"
    if sight.lost_at is not None:
        return lost(sight.lost_at)
    whole, sentence = safety(now)
    safe = ("✓ " if whole else "! ") + sentence.partition(":")[0], "green" if whole else "yellow"
    if not now.managed:
        safe = ("servers elsewhere", "dim")
    return _line(("microq", "bold"), f"  {_clock(now.taken_at)}  {up}  ", safe, f"  queue in {now.backend}")


def lost(since: float) -> Text:
    """Return the line that says that the supervisor does not answer: everything below is old."""
    return _line(
        ("microq", "bold"), (f"  the supervisor has not answered since {_clock(since)}; waiting for it", "bold red")
    )


def with_lost(sight: Sight, picture: RenderableType) -> RenderableType:
    """Return the picture; if the supervisor does not answer, a line above says so."""
    return picture if sight.lost_at is None else Group(lost(sight.lost_at), picture)


def _queue(sight: Sight) -> list[Text]:
    queue = sight.now.queue
    accepted, delivered = sight.rate("messages_acknowledged"), sight.rate("messages_received")
    speed = f"accepted {_rate(accepted)}  delivered {_rate(delivered)}"
    took = f"  p50 {_milliseconds(sight.took(0.5))}  p99 {_milliseconds(sight.took(0.99))}"
    if queue is None:
        return [_line("queue  ", UNKNOWN), _line(speed, took)]
    owner = f"★ {sight.now.owner}" if sight.now.owner else f"owner {UNKNOWN}"
    fill = _line(
        f"{queue.name}  {_bar(queue)} {_count(queue.size)} of {queue.max_size:,}  {backups(sight.now)}  {owner}"
    )
    counts = f"{_count(queue.pending)} pending  {_count(queue.redelivered)} redelivered  "
    dead = (f"{_count(queue.dead)} dead", "yellow" if queue.dead else "")
    return [fill, _line(speed, took), _line(counts, dead)]


def _bar(queue: QueueView) -> str:
    """Return the bar of the queue in eighths of a column; a queue that is not empty has at least one."""
    if queue.size is None:
        return f"[{'?' * BAR}]"
    eighths = min(8 * BAR, -(-queue.size * 8 * BAR // max(1, queue.max_size)))
    whole, rest = divmod(eighths, 8)
    return f"[{('█' * whole + (chr(0x2590 - rest) if rest else '')).ljust(BAR)}]"


def _services(sight: Sight, services: Sequence[ProcessView], room: int) -> RenderableType:
    """Return the services in `room` rows; ready ones are left out first."""
    rows = table("SERVICE", "STATE", "UP", "MEMORY", "HELD", "RATE", numbers=("UP", "MEMORY", "HELD", "RATE"))
    room = max(1, room)
    shown = list(services)
    if len(shown) > room:
        ranked = sorted(shown, key=lambda p: (p.state is ProcessState.READY, p.role not in FLOW))
        kept = {process.name for process in ranked[: room - 1]}
        shown = [process for process in shown if process.name in kept]
    for process in shown:
        rows.add_row(*_service_row(sight, process))
    if len(shown) < len(services):
        rows.add_row(f"… {len(services) - len(shown)} more", style="dim")
    return rows


def _service_row(sight: Sight, process: ProcessView) -> list[RenderableType]:
    uptime = sight.now.taken_at - process.started_at if process.started_at else None
    counted = FLOW.get(process.role)
    held = NOTHING if process.held is None else f"{process.held:,}"
    return [
        process.name,
        state_text(process.state),
        duration(uptime),
        mebibytes(process.rss),
        held,
        _rate(sight.rate(counted, [process])) if counted and process.counters else NOTHING,
    ]


def _warnings(warnings: Sequence[str], room: int) -> list[Text]:
    shown = list(warnings) if len(warnings) <= room else list(warnings[: room - 1])
    lines = [_line((f"! {warning}", "yellow")) for warning in shown]
    if len(shown) < len(warnings):
        lines.append(_line((f"! and {len(warnings) - len(shown)} more: {pasteable('`microq status`')}", "yellow")))
    return lines


def line(sight: Sight) -> RenderableType:
    """Return a snapshot as one line, for output that is not a terminal; new caveats follow."""
    now, queue = sight.now, sight.now.queue
    owner = " ".join(sorted(now.owners)) or UNKNOWN
    counts = (
        f"pending {_count(queue.pending)}  redelivered {_count(queue.redelivered)}  dead {_count(queue.dead)}"
        if queue
        else f"pending {UNKNOWN}  redelivered {UNKNOWN}  dead {UNKNOWN}"
    )
    look = Text(
        f"{_clock(now.taken_at)}  depth {_count(queue.size if queue else None)}"
        f"  accepted {_rate(sight.rate('messages_acknowledged'))}  delivered {_rate(sight.rate('messages_received'))}"
        f"  p50 {_milliseconds(sight.took(0.5))}  p99 {_milliseconds(sight.took(0.99))}"
        f"  {counts}  {'safe' if safety(now)[0] else 'not safe'}  ★ {owner}"
    )
    return Group(look, *caveat_lines(sight.new_caveats()))


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def _rate(rate: float | None) -> str:
    return f"{UNKNOWN}" if rate is None else f"{rate:,.0f}/s"


def _milliseconds(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{seconds * 1000:,.1f} ms"
