"""What the timeline of a run has around one message: where its copies were, what happened to the servers meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from microq import timeline
from microq.figures import PartitionView
from microq.fleet import Event, ProcessState, Role, Snapshot, Topic
from microq.timeline import Frame

NEAR = 5.0
"""Seconds by which a look at the system may be away from what it is to tell of."""

MOST = 20
"""Of what happened around a message so much is told; one that waited for an hour may have seen all of it."""

Happening = tuple[float, str, bool]
"""When something happened, what, and whether it was seen for certain."""

_TOLD = {
    ProcessState.READY: "ready",
    ProcessState.PAUSED: "paused",
    ProcessState.STOPPED: "stopped",
    ProcessState.EXITED: "ended",
}
_AROUND = {Role.HAZELCAST, Role.KAFKA, Role.MESSAGES}


def looks(folder: Path, put: float, ended: float) -> list[Frame | Event]:
    """Return what the timeline has from before a message was put until it was received, with a margin."""
    found: list[Frame | Event] = []
    for each in timeline.read(folder):
        if each.at > ended + NEAR:
            break
        if each.at >= put - NEAR and (each.at <= ended or isinstance(each, Frame)):
            found.append(each)
    return found


def copies(looks: Sequence[Frame | Event], put: float, message_id: str) -> str:
    """Say on which servers a message was that was put into the queue then; nothing if no look is near."""
    frames = [each for each in looks if isinstance(each, Frame) and abs(each.at - put) <= NEAR]
    if not frames:
        return ""
    nearest = min(frames, key=lambda frame: abs(frame.at - put))
    view, away = nearest.snapshot, nearest.at - put
    where = _in_topic(view, message_id) if view.queue_role is Role.KAFKA else _in_cluster(view)
    seen = f"{abs(away) * 1000:.0f} ms" if abs(away) < 1 else f"{abs(away):.1f} s"
    return f"{where}, as seen {seen} {'later' if away > 0 else 'before'}" if where else ""


def _in_cluster(view: Snapshot) -> str:
    if not view.owner:
        return ""
    backups = [figures.name for figures in view.members if figures.backups and figures.name != view.owner]
    if backups:
        return f"on {view.owner} (owner), backups on {_listed(backups)}"
    if view.queue is None:
        return f"on {view.owner} (owner)"
    # Of an empty queue nobody holds backups; as many are made as there are servers for.
    count = max(0, min(view.queue.backup_count, len(view.members) - 1))
    return f"on {view.owner} (owner) and {count} backup{'' if count == 1 else 's'}"


def _in_topic(view: Snapshot, message_id: str) -> str:
    partition = _partition(view.partitions, message_id)
    if partition:
        followers = [name for name in partition.in_sync if name != partition.leader]
        copied = f", in sync on {_listed(followers)}" if followers else ""
        return f"in partition {partition.number} on {partition.leader or 'no broker'} (leader){copied}"
    leaders = sorted(view.owners)
    return f"in a partition that {_listed(leaders, 'or')} leads" if leaders else ""


def _partition(partitions: Sequence[PartitionView], message_id: str) -> PartitionView | None:
    """Return the partition of a message, as the producer's client chooses it by the id."""
    try:
        from microq.kfk import partition_of  # noqa: PLC0415 - an extra; a run may be looked at without it
    except ImportError:
        return None
    number = partition_of(message_id, len(partitions)) if partitions else None
    return next((partition for partition in partitions if partition.number == number), None)


def happened(looks: Sequence[Frame | Event], began: float, ended: float) -> list[Happening]:
    """Return what happened to the servers of the queue and to its consumers while a message was on its way."""
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
        if each.name.partition("-")[0] in _AROUND and each.kind in _TOLD:
            killed = each.kind == ProcessState.EXITED and "SIGKILL" in each.detail
            told = "killed" if killed else _TOLD[ProcessState(each.kind)]
            detail = f" {each.detail}" if each.detail and not killed else ""
            yield each.at, f"{each.name} {told}{detail}", True


def _owners(looks: Sequence[Frame | Event]) -> Iterator[Happening]:
    """Yield who became owner or leader between two looks; when, is known only as well as one looked."""
    views = [each.snapshot for each in looks if isinstance(each, Frame)]
    known = [view for view in views if view.owners]
    for before, after in pairwise(known):
        if after.queue_role is Role.KAFKA:
            led = {partition.number: partition.leader for partition in before.partitions}
            for partition in after.partitions:
                if partition.leader and partition.leader != led.get(partition.number):
                    yield after.taken_at, f"{partition.leader} is seen to lead partition {partition.number} now", False
        elif after.owner != before.owner:
            yield after.taken_at, f"{after.owner} is seen to own the queue now: its backup was promoted", False


def _listed(names: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
