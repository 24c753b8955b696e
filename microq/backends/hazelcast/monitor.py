"""What the members report through their Jolokia agents: copies, ages, partitions, heap, and whether they are safe.

The names of MBeans and attributes are Hazelcast's (`com.hazelcast:type=IQueue` and others), observed on 5.7.0. A
client does not have these facts: its partition table contains the primary owner, but not the backups.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from microq.config import Config
from microq.figures import MemberFigures
from microq.settings import heap_bytes
from microq.store import names

ANSWER_SECONDS = 1.0
"""Seconds that a member may take to answer; a paused member never answers."""

COLLECT_SECONDS = 5.0
"""Seconds that a member may take to collect its garbage: 0.1 s with 50 MB of live data, on 2 cores."""

SAFETY_SECONDS = 0.25
"""Seconds within which a member must confirm that its copies are in place; else they count as not in place."""


@dataclass(frozen=True, slots=True)
class Source:
    """How to query a member: its name, and the URL, user and password of its agent."""

    name: str
    url: str
    user: str
    password: str


AGENT_SUFFIX = ".agent.properties"
"""The suffix of a member's file in a run's folder that configures its agent, with URL, user and password."""


def sources_in(folder: Path) -> list[Source]:
    """Return how to query the members that were started with files in this folder; some may be down.

    Only the user of the system can read the files.
    """
    found = []
    for file in sorted(folder.glob(f"*{AGENT_SUFFIX}")):
        with contextlib.suppress(OSError, KeyError):
            rows = dict(line.partition("=")[::2] for line in file.read_text(encoding="utf-8").splitlines())
            url = f"http://{rows['host']}:{rows['port']}{rows['agentContext']}/"
            found.append(Source(file.name.removesuffix(AGENT_SUFFIX), url, rows["user"], rows["password"]))
    return found


_QUEUE = (
    "localOwnedItemCount",
    "localBackupItemCount",
    "localOfferOperationCount",
    "localPollOperationCount",
    "localRejectedOfferOperationCount",
    "localEmptyPollOperationCount",
)
_MAP = ("localOwnedEntryCount", "localBackupEntryCount")
_CONFIG = "config"
"""The attribute with the configuration of a queue or map, as text; on 5.7.0 it contains `backupCount=2`."""

_BACKUP_COUNT = re.compile(r"\bbackupCount=(\d+)")

_SPARE = 8
"""A JVM reports a heap that is less than an eighth smaller than the configured one: it keeps a part free."""

Held = dict[str, tuple[int, int]]
"""Structure -> how many of its items a member owns, and how many backups of others' items it holds."""
_PARTITIONS = "com.hazelcast:type=HazelcastInstance.PartitionServiceMBean,*"


async def read_all(
    session: aiohttp.ClientSession, sources: Sequence[Source], config: Config
) -> tuple[MemberFigures, ...]:
    """Query all members concurrently; those that do not answer are missing from the result."""
    answers = await asyncio.gather(*(_read_figures(session, source, config) for source in sources))
    figures = [answer for answer, _ in filter(None, answers)]
    # To answer, a member asks the master, and hangs for seconds if that has just died. So members are asked only
    # once they agree on the member list.
    agreed = bool(figures) and all(each.members_seen == len(sources) == len(figures) for each in figures)
    safe = agreed and all(await asyncio.gather(*(_is_safe(session, source) for source in sources)))
    copies = await _counted(session, sources, config, [held for _, held in filter(None, answers)]) if agreed else None
    return tuple(replace(each, cluster_safe=safe, copies=copies) for each in figures)


async def _counted(
    session: aiohttp.ClientSession, sources: Sequence[Source], config: Config, first: Sequence[Held]
) -> int | None:
    """Return the number of backups of the structure with the fewest; None if all are empty or moving.

    The members are not read at the same moment. Numbers that do not add up count only if a second reading has the same.
    """
    sums = _sums(first)
    if any(backups != owned * config.queue.backup_count for owned, backups in sums.values()):
        again = await asyncio.gather(*(_ask(session, source, ANSWER_SECONDS, *_asked(config)) for source in sources))
        second = _sums([_held(config, answers) for answers in again]) if all(again) else {}
        sums = {name: counts for name, counts in sums.items() if second.get(name) == counts}
    return min((backups // owned for owned, backups in sums.values() if owned), default=None)


def _sums(held: Sequence[Held]) -> dict[str, tuple[int, int]]:
    structures = {name for each in held for name in each}
    return {
        name: (sum(each.get(name, (0, 0))[0] for each in held), sum(each.get(name, (0, 0))[1] for each in held))
        for name in structures
    }


def _asked(config: Config) -> tuple[dict[str, Any], ...]:
    """Return the requests about the structures that hold messages: the queue and the maps."""
    return (
        _read(f"com.hazelcast:type=IQueue,name={config.queue.name},*", *_QUEUE, _CONFIG),
        *(_read(f"com.hazelcast:type=IMap,name={name},*", *_MAP, _CONFIG) for name in names(config.queue.name)),
    )


def _held(config: Config, answers: Sequence[Any]) -> Held:
    """Return what a member holds, from the answers to the requests of `_asked`."""
    beans = [_only(answer) for answer in answers]
    queue = (beans[0].get(_QUEUE[0], 0), beans[0].get(_QUEUE[1], 0))
    maps = {
        name: (bean.get(_MAP[0], 0), bean.get(_MAP[1], 0))
        for name, bean in zip(names(config.queue.name), beans[1:], strict=True)
    }
    return {"": queue, **maps}


async def _read_figures(
    session: aiohttp.ClientSession, source: Source, config: Config
) -> tuple[MemberFigures, Held] | None:
    asked = _asked(config)
    answers = await _ask(
        session,
        source,
        ANSWER_SECONDS,
        *asked,
        _read(_PARTITIONS, "activePartitionCount", "partitionCount"),
        _read("com.hazelcast:type=HazelcastInstance,*", "memberCount", "clusterName"),
        _read("java.lang:type=GarbageCollector,name=*", "CollectionCount", "CollectionTime"),
        _read("java.lang:type=Memory", "HeapMemoryUsage"),
    )
    if not answers:
        return None
    of_structures, (partitions, instance, collectors, memory) = answers[: len(asked)], answers[len(asked) :]
    rest = {**_only(partitions), **_only(instance), **memory["value"]["HeapMemoryUsage"]}
    if not _only(partitions) or not _only(instance):
        return None  # the JVM answers, but it is not a member yet, or no longer
    beans = [_only(answer) for answer in of_structures]
    figures = _figures(source.name, beans[0], beans[1], rest, list(collectors["value"].values()))
    kept = _kept([config.queue.name, *names(config.queue.name)], beans)
    if config.by_text and not beans[0]:  # external services may use another name
        figures = replace(figures, items=None, backups=None)
    figures = replace(figures, backup_count=min(kept.values(), default=None), differs=_differs(config, kept, rest))
    return figures, _held(config, of_structures)


def _kept(structures: Sequence[str], beans: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Return the backup count of each structure that exists, as the member is configured."""
    found = {
        name: _BACKUP_COUNT.search(str(bean.get(_CONFIG, ""))) for name, bean in zip(structures, beans, strict=True)
    }
    return {name: int(hit[1]) for name, hit in found.items() if hit}


def _differs(config: Config, kept: dict[str, int], rest: dict[str, Any]) -> tuple[str, ...]:
    """Return how a member differs from the configuration."""
    table, heap = config.hazelcast, heap_bytes(config.hazelcast.heap)
    rows = [
        ("cluster-name", rest["clusterName"], table.hazelcast_cluster_name),
        ("partition-count", rest["partitionCount"], table.partition_count),
        *((f"backup-count of {name}", found, config.queue.backup_count) for name, found in kept.items()),
    ]
    if not heap * (_SPARE - 1) / _SPARE <= rest["max"] <= heap:
        rows.append(("heap", f"{rest['max'] >> 20}m", table.heap))
    return tuple(f"{key} {found}, not {wanted}" for key, found, wanted in rows if str(found) != str(wanted))


@dataclass(frozen=True, slots=True)
class Heap:
    """The heap of a member, in bytes, as its JVM reports it.

    `used` includes garbage; `live` is the size of the old generation after its last collection, None before the first
    one. `collections` is the number of its collections. `old` is the largest size of the old generation. `life`
    distinguishes a process from the next one of the same name.
    """

    used: int
    live: int | None
    old: int
    collections: int
    life: int


_OLD = "java.lang:type=MemoryPool,name=Tenured Gen"
_OLD_COLLECTOR = "java.lang:type=GarbageCollector,name=MarkSweepCompact"
_MEMORY = "java.lang:type=Memory"


async def read_heap(session: aiohttp.ClientSession, source: Source) -> Heap | None:
    """Return the heap of a member, or None if it does not answer. It must run with the serial collector."""
    answers = await _ask(
        session,
        source,
        ANSWER_SECONDS,
        _read(_OLD, "Usage", "CollectionUsage"),
        _read(_OLD_COLLECTOR, "CollectionCount"),
        _read(_MEMORY, "HeapMemoryUsage"),
        _read("java.lang:type=Runtime", "StartTime"),
    )
    values = [answer.get("value") for answer in answers]
    if not values or not all(values):
        return None
    old, collector, memory, runtime = values
    count = int(collector["CollectionCount"])
    return Heap(
        used=int(memory["HeapMemoryUsage"]["used"]),
        live=int(old["CollectionUsage"]["used"]) if count else None,
        old=int(old["Usage"]["max"]),
        collections=count,
        life=int(runtime["StartTime"]),
    )


async def collect(session: aiohttp.ClientSession, source: Source) -> None:
    """Make a member collect its garbage: only then its heap shows what is live. The member pauses meanwhile."""
    await _ask(session, source, COLLECT_SECONDS, {"type": "exec", "mbean": _MEMORY, "operation": "gc"})


async def _is_safe(session: aiohttp.ClientSession, source: Source) -> bool:
    """Return whether the copies of one member are in place.

    The attribute for the whole cluster is not used: to answer it, a member asks the others in their few operation
    threads. If the master has just died or is cut off, all these threads wait for it for up to 10 s, and no member can
    become master meanwhile (observed on 5.7.0). The attribute for one member waits in a thread of the agent.
    """
    answers = await _ask(session, source, SAFETY_SECONDS, _read(_PARTITIONS, "isLocalMemberSafe"))
    return bool(answers and _only(answers[0]).get("isLocalMemberSafe"))


def _read(mbean: str, *attributes: str) -> dict[str, Any]:
    """Return a request for some attributes by name; a request for all would include the configuration, a long text."""
    return {"type": "read", "mbean": mbean, "attribute": list(attributes)}


async def _ask(session: aiohttp.ClientSession, source: Source, seconds: float, *requests: dict[str, Any]) -> list[Any]:
    """Return the answers to several requests; empty if they did not come in time."""
    secret = base64.b64encode(f"{source.user}:{source.password}".encode()).decode()
    headers = {"Authorization": f"Basic {secret}"}  # aiohttp's own helper for this changes with 4.0
    try:
        async with (
            asyncio.timeout(seconds),
            session.post(source.url, data=json.dumps(requests), headers=headers) as response,
        ):
            answers: list[Any] = json.loads(await response.text())
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return []
    return answers


def _only(answer: Any) -> dict[str, Any]:
    """Return the attributes of the one MBean that a pattern matched; empty if there is none yet."""
    value = answer.get("value") or {}
    return next(iter(value.values()), {})


def _figures(
    name: str, queue: dict[str, Any], log: dict[str, Any], rest: dict[str, Any], collectors: Sequence[dict[str, Any]]
) -> MemberFigures:
    return MemberFigures(
        name=name,
        taken_at=time.time(),
        items=int(queue.get("localOwnedItemCount", 0)),
        backups=int(queue.get("localBackupItemCount", 0)),
        oldest=None,
        offers=int(queue.get("localOfferOperationCount", 0)),
        polls=int(queue.get("localPollOperationCount", 0)),
        rejected=int(queue.get("localRejectedOfferOperationCount", 0)),
        empty_polls=int(queue.get("localEmptyPollOperationCount", 0)),
        log_entries=int(log.get("localOwnedEntryCount", 0)),
        log_backups=int(log.get("localBackupEntryCount", 0)),
        partitions=int(rest["activePartitionCount"]),
        cluster_safe=False,
        members_seen=int(rest["memberCount"]),
        heap_used=int(rest["used"]),
        heap_max=int(rest["max"]),
        gc_count=sum(int(each["CollectionCount"]) for each in collectors),
        gc_seconds=sum(int(each["CollectionTime"]) for each in collectors) / 1000,
    )
