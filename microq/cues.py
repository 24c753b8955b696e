"""What a picture of a system must not keep quiet about: each cue is one line for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from microq.figures import Figures
from microq.fleet import UP, ProcessState, ProcessView, Role, Snapshot

OLD = 2.0
"""Seconds after which figures are called old."""


def cues(now: Snapshot, last: Mapping[str, Figures]) -> list[str]:
    """Return what whoever looks at `now` has to know: what is unknown, old, not safe, or waits for somebody.

    `last` has the last figures of each server that were seen, if any.
    """
    found = [*_of_queue(now), *_of_consumers(now)]
    if now.managed:
        found += of_servers(now, last)
    if now.queue and now.queue.dead:
        several = "s wait" if now.queue.dead > 1 else " waits"
        found.append(f"{now.queue.dead:,} dead letter{several}: `microq dead list` shows why")
    return found


def of_servers(now: Snapshot, last: Mapping[str, Figures]) -> list[str]:
    """Return those of the cues that are about the servers: why the cluster is not safe, and who tells nothing."""
    return [*_of_cluster(now), *_of_partitions(now), *_of_each_server(now, last)]


def _of_queue(now: Snapshot) -> Iterator[str]:
    if now.queue is None:
        yield "the facade does not answer: how full the queue is, and who owns it, is unknown"
        return
    if not now.queue.backup_count:
        yield "backup-count is 0: what a killed server owned is lost"
    if now.queue.size is None:
        yield "the queue does not answer: how full it is, is unknown"
    if now.managed and not now.owners:
        yield "who owns the queue is unknown"


def _of_consumers(now: Snapshot) -> Iterator[str]:
    consumers = now.having(Role.MESSAGES)
    full = [process for process in consumers if process.full]
    if full and all(process.full for process in consumers if process.state is ProcessState.READY):
        yield "every messages-service is full: what comes stays in the queue, and when that is full, POST is refused"
    for process in full:
        held = f"{process.held or 0:,} messages"
        yield f"{process.name} is full with {held} and receives none; a larger [limits] max-held is for the next `up`"


def _of_cluster(now: Snapshot) -> Iterator[str]:
    servers = now.having(now.queue_role)
    up = [process for process in servers if process.state in UP]
    if not now.servers:
        yield "no server of the queue answers"
        return
    if not now.joined:
        yield "cluster not safe: not every server that is up sees all the others"
    elif not now.safe:
        # Kafka makes none elsewhere: its copies are whole again when the broker is back.
        kafka = now.queue_role is Role.KAFKA
        yield f"cluster not safe: {'not every copy is in sync' if kafka else 'copies are being made'}"
    if len(up) < len(servers):
        wanted = now.queue.backup_count if now.queue else 0
        left = max(0, min(wanted, len(up) - 1))
        fewer = f": {left} of {wanted} backups" if left < wanted else ""
        yield f"{len(up)} of {len(servers)} servers of the queue are up{fewer}"


def _of_partitions(now: Snapshot) -> Iterator[str]:
    leaderless = [partition.number for partition in now.partitions if not partition.leader]
    if leaderless:
        yield f"nobody leads {_partitions(leaderless)}: what is in there waits"
    short = [p.number for p in now.partitions if p.leader and len(p.in_sync) < p.replicas]
    if short:
        verb = "has" if len(short) == 1 else "have"
        yield f"{_partitions(short)} {verb} fewer copies in sync than {'its' if len(short) == 1 else 'their'} replicas"


def _partitions(numbers: list[int]) -> str:
    return f"partition{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _of_each_server(now: Snapshot, last: Mapping[str, Figures]) -> Iterator[str]:
    answered = {figures.name: figures for figures in now.figures}
    for process in now.processes:
        if process.role not in {Role.HAZELCAST, Role.KAFKA}:
            continue
        figures = answered.get(process.name)
        if figures is None:
            yield from _silent(process, now, last.get(process.name))
        elif now.taken_at - figures.taken_at > OLD:
            yield f"the figures of {process.name} are {_age(now, figures)} old"


_SILENT = {ProcessState.READY: "does not answer", ProcessState.EXITED: "has ended"}
"""What is said of a server that tells no figures, unless its state says it."""


def _silent(process: ProcessView, now: Snapshot, last: Figures | None) -> Iterator[str]:
    said = _SILENT.get(process.state, f"is {process.state}")
    if last:
        held = f"{last.items:,} items and {last.backups:,} backups"
        yield f"{process.name} {said}: n/a; {_age(now, last)} ago it had {held}"
    elif process.state is ProcessState.READY:
        yield f"{process.name} {said}: its figures are n/a"


def _age(now: Snapshot, figures: Figures) -> str:
    return f"{max(0.0, now.taken_at - figures.taken_at):.0f} s"
