"""The journey of one message: its events in the logs, and the events around it in the timeline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from microq import timeline
from microq.backends import described
from microq.fleet import SERVERS, Event, ProcessState, Role, Snapshot, Topic, group_of
from microq.log import (
    EVENTS,
    About,
    Acknowledged,
    Foreign,
    Indeterminate,
    Line,
    LogEvent,
    Received,
    Rejected,
    Stored,
    Took,
    escaped,
    read_event,
)
from microq.timeline import Frame
from microq.trace.messages import files, plain, read, role_of

SERVICES = (Role.FACADE, Role.LOGGING, Role.MESSAGES)

NAMING: tuple[type[LogEvent], ...] = (Acknowledged, Stored, Received, Rejected, Indeterminate, Foreign)
"""Kinds of events; every message in the logs has at least one of them."""

QUEUE = "queue"
"""The place of a message that is in the queue."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a journey: when (seconds since the epoch), where, and what, in words.

    `where` is the name of a process, `queue`, or empty for an event around the message. A step is not `sure` if it is
    not an event of this message, but follows from a snapshot at about that time.
    """

    at: float
    where: str
    what: str
    sure: bool = True


@dataclass(frozen=True, slots=True)
class Trail:
    """The journey of one message, in order of time; without steps if it is unknown.

    `text` is quoted, shortened and escaped as in the log lines.
    """

    id: str
    text: str
    steps: tuple[Step, ...]

    @property
    def waits(self) -> bool:
        """Whether it was put into the queue and no messages-service has received it."""
        return any(step.where == QUEUE for step in self.steps) and all(
            step.what != Received.words for step in self.steps
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """An event of the message, with its time, logged by the process `name`."""

    at: float
    name: str
    event: LogEvent


def find(folder: Path, message_id: str) -> Trail:
    """Return the journey of a message in a run, from its folder."""
    found = list(_lines(folder, message_id))
    text = next((shown for each in found if (shown := getattr(each.event, "text", ""))), "")
    # The second number orders steps of the same millisecond.
    steps: list[tuple[float, float, Step]] = [
        (each.at, EVENTS.index(type(each.event)), Step(each.at, each.name, each.event.story())) for each in found
    ]
    for each in found:
        if isinstance(each.event, Acknowledged):
            # Rounded down to the millisecond, as the times of the lines: a later step must not come before it.
            at = math.floor(round(each.at * 1000, 3) - each.event.ms) / 1000
            steps.append((at, -1, Step(at, each.name, f"accepted {text}")))
    put = min((each.at for each in found if isinstance(each.event, Acknowledged | Took)), default=None)
    if put is not None:
        began = min(at for at, _, _ in steps)
        ended = max((each.at for each in found if isinstance(each.event, Received)), default=math.inf)
        seen = looks(folder, put, ended)
        where = copies(seen, put, message_id)
        step = Step(put, QUEUE, where or "in the queue", sure=not where)
        steps.append((put, EVENTS.index(Acknowledged) - 0.5, step))
        steps += [(at, math.inf, Step(at, "", what, sure)) for at, what, sure in happened(seen, began, ended)]
    return Trail(message_id, text, tuple(step for _, _, step in sorted(steps, key=lambda timed: timed[:2])))


def _lines(folder: Path, message_id: str) -> Iterator[_Found]:
    about = About(message_id)
    for name, line, kind in _candidates(folder, message_id, EVENTS):
        if event := about.read(kind, line.text):
            yield _Found(line.at, name, event)


def ids_like(folder: Path, beginning: str, limit: int) -> list[str]:
    """Return at most `limit` ids that begin so, of messages in the logs of the run."""
    known: dict[str, None] = {}
    for _, line, kind in _candidates(folder, beginning, NAMING):
        event = read_event(kind, line.text)
        message_id: str = getattr(event, "id", "")
        if message_id and message_id.startswith(beginning):
            known[message_id] = None
            if len(known) >= limit:
                break
    return list(known)


def _candidates(folder: Path, part: str, kinds: Sequence[type[LogEvent]]) -> Iterator[tuple[str, Line, type[LogEvent]]]:
    """Yield (process, line, kind) for each line with this part of an id and each kind of event that it may be."""
    needle = plain(escaped(part))
    for file in files(folder, *SERVICES):
        mine = [kind for kind in kinds if kind.role is role_of(file)]
        with file.open("rb") as lines:
            for raw in lines:
                if needle in raw and (line := read(raw)):
                    yield from ((file.stem, line, kind) for kind in mine)


# -- the timeline around a message -------------------------------------------------------------------------------------

NEAR = 5.0
"""Maximum seconds between a snapshot and an event that it explains."""

MOST = 20
"""How many events around a message are shown; a message that waited for an hour may have seen hundreds."""

Happening = tuple[float, str, bool]
"""When, what, and whether it is certain."""

_CHANGES = {
    ProcessState.READY: "ready",
    ProcessState.PAUSED: "paused",
    ProcessState.STOPPED: "stopped",
    ProcessState.EXITED: "ended",
}
_ASIDE = {*Role} - SERVERS - {Role.MESSAGES}
"""Roles that are not shown around a message: servers and consumers are."""


def looks(folder: Path, put: float, ended: float) -> list[Frame | Event]:
    """Return the timeline from the put of a message to its reception, with a margin."""
    found: list[Frame | Event] = []
    for each in timeline.read(folder):
        if each.at > ended + NEAR:
            break
        if each.at >= put - NEAR and (each.at <= ended or isinstance(each, Frame)):
            found.append(each)
    return found


def copies(looks: Sequence[Frame | Event], put: float, message_id: str) -> str:
    """Return on which servers a message was that was put into the queue then; empty if no snapshot is near."""
    frames = [each for each in looks if isinstance(each, Frame) and abs(each.at - put) <= NEAR]
    if not frames:
        return ""
    nearest = min(frames, key=lambda frame: abs(frame.at - put))
    view, later = nearest.snapshot, nearest.at - put
    where = _in_topic(view, message_id) if view.partitioned else _in_cluster(view)
    seen = f"{abs(later) * 1000:.0f} ms" if abs(later) < 1 else f"{abs(later):.1f} s"
    return f"{where}, as seen {seen} {'later' if later > 0 else 'before'}" if where else ""


def _in_cluster(view: Snapshot) -> str:
    if not view.owner:
        return ""
    backups = [figures.name for figures in view.servers if figures.backups and figures.name != view.owner]
    if backups:
        return f"on {view.owner} (owner), backups on {_listed(backups)}"
    if view.queue is None:
        return f"on {view.owner} (owner)"
    # An empty queue has no backups yet; there will be as many as the servers can hold.
    count = max(0, min(view.queue.backup_count, len(view.servers) - 1))
    return f"on {view.owner} (owner) and {count} backup{'' if count == 1 else 's'}"


def _in_topic(view: Snapshot, message_id: str) -> str:
    number = described(view.backend).partition_of(message_id, len(view.partitions)) if view.partitions else None
    partition = next((each for each in view.partitions if each.number == number), None)
    if partition:
        followers = [name for name in partition.in_sync if name != partition.leader]
        copied = f", in sync on {_listed(followers)}" if followers else ""
        return f"in partition {partition.number} on {partition.leader or 'no broker'} (leader){copied}"
    leaders = sorted(view.owners)
    return f"in a partition that {_listed(leaders, 'or')} leads" if leaders else ""


def happened(looks: Sequence[Frame | Event], began: float, ended: float) -> list[Happening]:
    """Return the events of the queue's servers and consumers during the journey of a message."""
    found = [*_states(looks), *_owners(looks)]
    found = sorted(happening for happening in found if began <= happening[0] <= ended)
    if len(found) > MOST:
        at, left = found[MOST - 1][0], len(found) - MOST + 1
        found = [*found[: MOST - 1], (at, f"… and {left} more events until it was received", True)]
    return found


def _states(looks: Sequence[Frame | Event]) -> Iterator[Happening]:
    for each in looks:
        if not isinstance(each, Event) or each.topic is not Topic.PROCESS:
            continue
        if group_of(each.name) not in _ASIDE and each.kind in _CHANGES:
            killed = each.kind == ProcessState.EXITED and "SIGKILL" in each.detail
            change = "killed" if killed else _CHANGES[ProcessState(each.kind)]
            detail = f" {each.detail}" if each.detail and not killed else ""
            yield each.at, f"{each.name} {change}{detail}", True


def _owners(looks: Sequence[Frame | Event]) -> Iterator[Happening]:
    """Yield new owners and leaders between two snapshots; their times are those of the snapshots."""
    views = [each.snapshot for each in looks if isinstance(each, Frame)]
    known = [view for view in views if view.owners]
    for before, after in pairwise(known):
        if after.partitioned:
            led = {partition.number: partition.leader for partition in before.partitions}
            for partition in after.partitions:
                if partition.leader and partition.leader != led.get(partition.number):
                    yield after.taken_at, f"{partition.leader} leads partition {partition.number} now", False
        elif after.owner != before.owner:
            yield after.taken_at, f"{after.owner} owns the queue now: its backup was promoted", False


def _listed(names: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
