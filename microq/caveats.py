"""Caveats of a snapshot: what is unknown, outdated, unsafe or waiting, one line of text each."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping

from microq.config import Address, Config
from microq.figures import Figures
from microq.fleet import SERVERS, UP, ProcessState, ProcessView, Role, Snapshot, backend_of
from microq.hints import pasteable

UNKNOWN = "n/a"

OLD = 2.0
"""Age in seconds after which figures get a caveat."""


def caveats(now: Snapshot, last: Mapping[str, Figures]) -> list[str]:
    """Return the caveats of the snapshot `now`: what is unknown, outdated, unsafe or waiting.

    `last` holds the last known figures of each server, if any.
    """
    found = [*_of_queue(now), *_of_services(now), *_of_facade(now), *_of_consumers(now)]
    found += [*_of_hidden(now), *_of_logs(now), *_of_merges(now)]
    if now.managed:
        found += of_servers(now, last)
    if now.queue and now.queue.dead:
        several = "s wait" if now.queue.dead > 1 else " waits"
        found.append(f"{now.queue.dead:,} dead letter{several}: `microq dead list` shows why")
    return list(map(pasteable, found))


def of_servers(now: Snapshot, last: Mapping[str, Figures]) -> list[str]:
    """Return the caveats about the servers: why the cluster is not safe, and which servers do not report."""
    return [*_of_cluster(now), *_of_partitions(now), *_of_each_server(now, last)]


def _of_queue(now: Snapshot) -> Iterator[str]:
    if now.wanted == 0:
        yield _NO_BACKUPS
    if now.queue is None:
        external = any(process.external for process in now.having(Role.FACADE))
        why = "the facade is external, and no server reports its items" if external else "the facade does not answer"
        yield f"{why}: the size and the owner of the queue are unknown"
        return
    if now.queue.size is None:
        yield "the queue does not answer: its size is unknown"
    if now.partitioned and now.brokers and not now.partitions:
        yield f"the {now.words.servers(2)} know no topic {now.queue.name}; `microq restart facade` makes it anew, empty"
    elif now.managed and not now.owners:
        yield "the owner of the queue is unknown"


def _of_services(now: Snapshot) -> Iterator[str]:
    for process in now.processes:
        if process.silent and not (process.role is Role.FACADE and now.queue is None):
            yield f"{process.name} is up and does not answer: its figures are n/a"


def _of_consumers(now: Snapshot) -> Iterator[str]:
    consumers = now.having(Role.MESSAGES)
    full = [process for process in consumers if process.full]
    if full and all(process.full for process in consumers if process.state is ProcessState.READY):
        yield "every messages-service is full: new messages stay in the queue, and when that is full, POST is refused"
    for process in full:
        held = f"{process.held or 0:,} messages"
        yield f"{process.name} is full with {held} and receives no more: its log names the bound that it has reached"


def _of_facade(now: Snapshot) -> Iterator[str]:
    for process in now.having(Role.FACADE):
        if process.full:
            yield f"{process.name} refuses messages: the members' memory ([hazelcast] heap) has no room"


def _of_hidden(now: Snapshot) -> Iterator[str]:
    for name, count in (now.queue.hidden if now.queue else {}).items():
        seconds = now.queue.take_over_after if now.queue else 0
        others = f"; after {seconds} s of silence the others take over as many as they have room for" if seconds else ""
        yield hides(name, count) + others


def hides(name: str, count: int) -> str:
    """Return the caveat about a silent messages-service that stored about `count` messages."""
    return f"{name} is silent: about {count:,} message{'s' if count > 1 else ''} that it stored are hidden"


def _of_logs(now: Snapshot) -> Iterator[str]:
    for process in now.processes:
        if lost := process.counters.get("log_lines_lost"):
            lines = "1 line of its log" if lost == 1 else f"{lost:,} lines of its log"
            yield f"{process.name} could not write {lines}: is the disk full?"


def _of_merges(now: Snapshot) -> Iterator[str]:
    doubtful = [process.name for process in now.processes if process.merging]
    if doubtful:
        yield f"members joined, perhaps to merge: {', '.join(doubtful)} may show only some of the messages"


def safety(now: Snapshot) -> tuple[bool, str]:
    """Return whether every configured copy is in place, and a sentence about it. Every view takes it from here."""
    problem = _unsettled(now) or _lacking(now)
    return not problem, problem or "cluster safe: every copy is in place"


def _unsettled(now: Snapshot) -> str:
    """Return why the copies cannot be relied on now; empty if the servers have joined and all copies are made."""
    if not now.managed:
        return "the servers run elsewhere; their copies cannot be seen from here"
    if not now.servers:
        return "no server of the queue answers"
    # A server that does not answer may see fewer servers, and hold fewer copies.
    if not now.ready(Role.QUEUE) | now.ready(Role.MAPS) <= {figures.name for figures in now.figures}:
        return "the safety of the cluster is unknown: a server that is up does not answer"
    if not now.joined:
        return "cluster not safe: a server that is up does not see all the others"
    if not now.settled:
        return f"cluster not safe: {now.words.unsettled}"
    return ""


def _lacking(now: Snapshot) -> str:
    """Return a sentence about the missing copies; empty if every configured copy is in place."""
    if now.copies is None or now.wanted is None:
        return "the number of copies is unknown"
    if now.copies < now.wanted:
        return f"{now.copies} of {now.wanted} backups: {_why_fewer(now)}"
    return "" if now.wanted else _NO_BACKUPS


_NO_BACKUPS = "backup-count is 0: what a killed server owned is lost"


def backups(now: Snapshot) -> str:
    """Return the number of backups, and how many are configured."""
    wanted = UNKNOWN if now.wanted is None else str(now.wanted)
    plural = "" if wanted == "1" else "s"
    if not now.managed:
        return f"{wanted} backup{plural} configured"
    found = (
        ""
        if now.copies == now.wanted and now.copies is not None
        else f"{UNKNOWN if now.copies is None else now.copies} of "
    )
    return f"{found}{wanted} backup{plural}"


def _why_fewer(now: Snapshot) -> str:
    """Return why there are fewer copies than configured, although no server waits for a copy."""
    for role in (Role.MAPS, Role.QUEUE):
        servers = now.having(role)
        missing = [process for process in servers if process.state is not ProcessState.READY]
        words = now.words_of(role)
        if missing and len(servers) - len(missing) <= (now.wanted or 0):
            how = "not ready" if any(process.state in UP for process in missing) else "down"
            return f"{_few(len(missing))} {words.servers(len(missing))} {'are' if len(missing) > 1 else 'is'} {how}"
        if servers and len(servers) <= (now.wanted or 0):
            return f"{_few(len(servers))} {words.servers(len(servers))} can hold no more"
    if any(each.differs for each in now.figures):
        return "the servers run with that number"
    return "counted on the servers"


def _few(count: int) -> str:
    """Return a small number as a word."""
    return dict(enumerate(("no", "one", "two", "three"))).get(count, str(count))


def exposed(listeners: Iterable[tuple[str, Address]]) -> str:
    """Return a warning about those (name, address) that other machines can reach; empty if there are none."""
    exposed = [f"{name} ({address})" for name, address in listeners if not _is_loopback(address.host)]
    if not exposed:
        return ""
    return (
        f"Warning: other machines may reach {', '.join(exposed)}, and there is no authentication: "
        "anyone who can connect can read, send and delete messages."
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Another name may resolve to another address tomorrow.
        return host == "localhost"


def of_configuration(config: Config) -> list[str]:
    """Return the settings that the configured servers cannot fulfil, a line each."""
    clusters = filter(None, (backend_of(config, role) for role in (Role.MAPS, Role.QUEUE)))
    kinds = {each.key: each.addresses(config) for each in clusters if each.managed(config)}
    wanted = config.queue.backup_count
    copies = [
        f"[queue] backup-count = {wanted} needs {wanted + 1} servers, and {key} lists {len(listed)}: "
        f"there will be {len(listed) - 1} of {wanted} backups"
        for key, listed in kinds.items()
        if len(listed) <= wanted
    ]
    return [*copies, *(f"{line}; more is refused" for line in config.misfits)]


def differences(now: Snapshot) -> list[str]:
    """Return how the servers differ from the configuration."""
    topic, of_topic, others = "", set[str](), now.figures
    if now.partitioned:
        # Every broker reports the same difference: it is the topic's.
        topic, others = now.queue.name if now.queue else "the topic", now.members
        of_topic = {phrase for each in now.brokers for phrase in each.differs}
    return [
        *(f"{topic} has {phrase} as configured" for phrase in sorted(of_topic)),
        *(f"{each.name} runs with {phrase} as configured" for each in others for phrase in each.differs),
    ]


def _of_cluster(now: Snapshot) -> Iterator[str]:
    safe, sentence = safety(now)
    if not safe and now.wanted != 0:
        yield sentence
    yield from differences(now)
    servers = now.having(Role.QUEUE)
    up = [process for process in servers if process.state in UP]
    if now.servers and len(up) < len(servers) and (_unsettled(now) or not _lacking(now)):
        yield f"{len(up)} of {len(servers)} servers of the queue are up"


def _of_partitions(now: Snapshot) -> Iterator[str]:
    leaderless = [partition.number for partition in now.partitions if not partition.leader]
    if leaderless:
        verb = "has" if len(leaderless) == 1 else "have"
        yield f"{_partitions(leaderless)} {verb} no leader: the messages there wait"
    short = [p.number for p in now.partitions if p.leader and len(p.in_sync) < p.replicas]
    if short:
        verb = "has" if len(short) == 1 else "have"
        yield f"{_partitions(short)} {verb} fewer copies in sync than {'its' if len(short) == 1 else 'their'} replicas"


def _partitions(numbers: list[int]) -> str:
    return f"partition{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _of_each_server(now: Snapshot, last: Mapping[str, Figures]) -> Iterator[str]:
    answered = {figures.name: figures for figures in now.figures}
    for process in now.processes:
        if process.role not in SERVERS:
            continue
        figures = answered.get(process.name)
        if figures is None:
            yield from _silent(process, now, last.get(process.name))
        elif now.taken_at - figures.taken_at > OLD:
            yield f"the figures of {process.name} are {_age(now, figures)} old"


_SILENT = {ProcessState.READY: "does not answer", ProcessState.EXITED: "has ended"}
"""Process state -> the caveat about a server that reports no figures; the other states say it themselves."""


def _silent(process: ProcessView, now: Snapshot, last: Figures | None) -> Iterator[str]:
    said = _SILENT.get(process.state, f"is {process.state}")
    if process.out_of_memory:
        said = "ran out of memory and has ended"
    if last:
        items, backups = (UNKNOWN if count is None else f"{count:,}" for count in (last.items, last.backups))
        held = f"{items} items and {backups} backups"
        yield f"{process.name} {said}: n/a; {_age(now, last)} ago it had {held}"
    elif process.state is ProcessState.READY or process.out_of_memory:
        yield f"{process.name} {said}: its figures are n/a"


def _age(now: Snapshot, figures: Figures) -> str:
    return f"{max(0.0, now.taken_at - figures.taken_at):.0f} s"
