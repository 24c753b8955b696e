"""The journeys of messages, from the folder of a run alone: its log files and its timeline.

The functions read files and may take seconds: call them in a thread if an event loop runs.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice, pairwise
from pathlib import Path
from threading import Lock

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
    parse,
    quoted,
    read_event,
)
from microq.timeline import Frame

KEPT = 2000
"""The number of newest messages that are kept in memory."""

EARLY = 10_000
"""The number of receptions that are kept of messages whose acknowledgement was not read yet."""

_SOUGHT = 40
"""The number of characters by which a text is found: fewer than the log shows."""

WINDOW = 8 << 20
"""The largest number of bytes of a log file that are read at once: the last ones."""


def _beginning(kind: type[LogEvent]) -> bytes:
    """Return the first words of an event's line, by which such lines are found quickly."""
    return kind.sentence.partition("{")[0].encode()


_ACKNOWLEDGED, _RECEIVED = _beginning(Acknowledged), _beginning(Received)


@dataclass(frozen=True, slots=True)
class Row:
    """One acknowledged message; times are seconds since the epoch. The last two are None until it is received.

    `text` is quoted, shortened and escaped as in the log lines.
    """

    id: str
    text: str
    acknowledged_at: float
    took_s: float
    logged_by: str
    received_by: str | None = None
    received_at: float | None = None


class Trails:
    """The newest messages of a running system. Each call reads only the new lines of the log files.

    Its memory is bounded by `KEPT` and `EARLY`. Several threads may call it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self._rows: OrderedDict[str, Row] = OrderedDict()
        self._early: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = Lock()

    def newest(self, limit: int) -> list[Row]:
        """Return the messages that were acknowledged last, at most `KEPT`, the newest first."""
        with self._lock:
            # The receptions last, so that most of them find their row.
            for file in files(self._folder, Role.FACADE):
                for raw in [raw for raw in self._new(file) if _ACKNOWLEDGED in raw][-KEPT:]:
                    if row := _row(raw):
                        self._add(row)
            for file in files(self._folder, Role.MESSAGES):
                for raw in [raw for raw in self._new(file) if _RECEIVED in raw][-EARLY:]:
                    if receipt := _receipt(raw):
                        self._receive(receipt[0], file.stem, receipt[1])
            return list(islice(reversed(self._rows.values()), limit))

    def _new(self, file: Path) -> list[bytes]:
        """Return the new complete lines of a file."""
        offset = self._offsets.get(file, 0)
        with file.open("rb") as source:
            size = source.seek(0, 2)
            begin = max(offset, size - WINDOW)
            source.seek(begin)
            data = source.read(size - begin)
        whole = data[: data.rfind(b"\n") + 1]
        self._offsets[file] = begin + len(whole)
        lines = whole.split(b"\n")
        # If bytes were skipped, the first line is incomplete.
        return lines[1:] if begin > offset else lines

    def _add(self, row: Row) -> None:
        by, at = self._early.pop(row.id, (None, None))
        before = self._rows.pop(row.id, None)  # it was sent again
        if before:
            by, at = before.received_by, before.received_at
        self._rows[row.id] = dataclasses.replace(row, received_by=by, received_at=at)
        if len(self._rows) > KEPT:
            self._rows.popitem(last=False)

    def _receive(self, message_id: str, by: str, at: float) -> None:
        if row := self._rows.get(message_id):
            self._rows[message_id] = dataclasses.replace(row, received_by=by, received_at=at)
            return
        self._early[message_id] = by, at
        if len(self._early) > EARLY:
            self._early.popitem(last=False)


def newest(folder: Path, limit: int) -> list[Row]:
    """Return the messages of a run that were acknowledged last, the newest first."""
    return Trails(folder).newest(limit)


def search(folder: Path, text: str, limit: int) -> list[Row]:
    """Return the newest messages whose id or shown text contains this text, in upper or lower case."""
    found = list(islice(_matching(folder, text), limit))
    return [_received(row, receipts) for receipts in [_receipts(folder, found)] for row in found]


def with_text(folder: Path, text: str, limit: int) -> list[Row]:
    """Return the newest messages that have exactly this text."""
    shown = quoted(text)
    # The log shows only the beginning of a long text, so it is found by its beginning.
    return list(islice((row for row in _matching(folder, text[:_SOUGHT]) if row.text == shown), limit))


def _matching(folder: Path, text: str) -> Iterator[Row]:
    """Yield the messages that match, the newest first."""
    wanted = escaped(text).lower()
    needle = plain(wanted)

    def rows(file: Path) -> Iterator[Row]:
        for raw in backwards(file):
            if needle in raw.lower() and _ACKNOWLEDGED in raw and (row := _row(raw)):
                shown = row.text.replace(r"\"", '"').lower()
                if wanted in row.id.lower() or wanted in shown:
                    yield row

    sources = (rows(file) for file in files(folder, Role.FACADE))
    return merge(*sources, key=lambda row: row.acknowledged_at, reverse=True)


def _receipts(folder: Path, rows: list[Row]) -> dict[str, tuple[str, float]]:
    """Return the instance and time that received these messages; each file is read backwards until all are found."""
    found: dict[str, tuple[str, float]] = {}
    if not rows:
        return found
    wanted = {row.id for row in rows}
    # A consumer may log the message before the facade logs its acknowledgement.
    since = min(row.acknowledged_at - row.took_s for row in rows) - 1
    for file in files(folder, Role.MESSAGES):
        for raw in backwards(file):
            receipt = _receipt(raw) if _RECEIVED in raw else None
            if receipt and receipt[0] in wanted:
                found[receipt[0]] = file.stem, receipt[1]
            if len(found) == len(wanted) or (receipt and receipt[1] < since):
                break
    return found


def _received(row: Row, receipts: dict[str, tuple[str, float]]) -> Row:
    by, at = receipts.get(row.id, (None, None))
    return dataclasses.replace(row, received_by=by, received_at=at)


def _row(raw: bytes) -> Row | None:
    line = read(raw)
    event = read_event(Acknowledged, line.text) if line else None
    return Row(event.id, event.text, line.at, event.ms / 1000, event.by) if line and event else None


def _receipt(raw: bytes) -> tuple[str, float] | None:
    line = read(raw)
    event = read_event(Received, line.text) if line else None
    return (event.id, line.at) if line and event else None


# -- the files --------------------------------------------------------------------------------------------------------

BLOCK = 1 << 18


def files(folder: Path, *roles: Role) -> list[Path]:
    """Return the log files of these roles in a run."""
    return sorted(file for role in roles for file in (folder / "logs").glob(f"{role}-*.log"))


def role_of(file: Path) -> Role:
    """Return the role of the process that wrote a log file."""
    return Role(file.stem.partition("-")[0])


def plain(text: str) -> bytes:
    """Return the longest piece of a text that is unchanged in both log formats, by which lines are found quickly."""
    return max(re.findall(r"[0-9A-Za-z_.:/ -]+", text), key=len, default="").encode()


def read(raw: bytes) -> Line | None:
    """Return a line of a log file; None if it is not one."""
    return parse(raw.decode(errors="replace"))


def backwards(file: Path) -> Iterator[bytes]:
    """Yield the lines of a file from the last one to the first."""
    with file.open("rb") as source:
        end, rest = source.seek(0, 2), b""
        while end > 0:
            begin = max(0, end - BLOCK)
            source.seek(begin)
            rest, *lines = (source.read(end - begin) + rest).split(b"\n")
            yield from reversed(lines)
            end = begin
        yield rest


# -- the journey of one message ---------------------------------------------------------------------------------------

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
"""The number of events around a message that are shown; during an hour in the queue there may be hundreds."""

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
