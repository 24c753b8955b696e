"""What the members say of themselves, through their Jolokia agents: copies, ages, partitions, heap.

The names of the MBeans and attributes are Hazelcast's (`com.hazelcast:type=IQueue` and others), seen on 5.7.0. A
client cannot know them: its partition table tells the primary owner, never where the backups are.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from microq.figures import MemberFigures
from microq.store import LOG_MAP

ANSWER_SECONDS = 1.0
"""How long a member may take; one that is paused answers never."""

SAFETY_SECONDS = 0.25
"""How long a member may take to say that its copies are in place; until it does, they count as not in place."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where to ask a member: its name and its agent's URL, user and password."""

    name: str
    url: str
    user: str
    password: str


_QUEUE = (
    "localOwnedItemCount",
    "localBackupItemCount",
    "localOfferOperationCount",
    "localPollOperationCount",
    "localRejectedOfferOperationCount",
    "localEmptyPollOperationCount",
)
_MAP = ("localOwnedEntryCount", "localBackupEntryCount")
_PARTITIONS = "com.hazelcast:type=HazelcastInstance.PartitionServiceMBean,*"


async def read_all(session: aiohttp.ClientSession, sources: Sequence[Source], queue: str) -> tuple[MemberFigures, ...]:
    """Ask all members side by side; those that do not answer are missing from the result."""
    answers = await asyncio.gather(*(_read_figures(session, source, queue) for source in sources))
    figures = [answer for answer in answers if answer]
    # A member asks the master, and hangs for seconds if that has just died: asked only once all agree on who is there.
    agreed = bool(figures) and all(each.members_seen == len(sources) == len(figures) for each in figures)
    safe = agreed and all(await asyncio.gather(*(_is_safe(session, source) for source in sources)))
    return tuple(replace(each, cluster_safe=safe) for each in figures)


async def _read_figures(session: aiohttp.ClientSession, source: Source, queue: str) -> MemberFigures | None:
    answers = await _ask(
        session,
        source,
        ANSWER_SECONDS,
        _read(f"com.hazelcast:type=IQueue,name={queue},*", *_QUEUE),
        _read(f"com.hazelcast:type=IMap,name={LOG_MAP},*", *_MAP),
        _read(_PARTITIONS, "activePartitionCount"),
        _read("com.hazelcast:type=HazelcastInstance,*", "memberCount"),
        _read("java.lang:type=GarbageCollector,name=*", "CollectionCount", "CollectionTime"),
        _read("java.lang:type=Memory", "HeapMemoryUsage"),
    )
    if not answers:
        return None
    queue_bean, map_bean, partitions, instance = (_only(answer) for answer in answers[:4])
    if not partitions or not instance:
        return None  # it answers, and is not yet or no longer a member
    rest = {**partitions, **instance, **answers[5]["value"]["HeapMemoryUsage"]}
    return _figures(source.name, queue_bean, map_bean, rest, list(answers[4]["value"].values()))


async def _is_safe(session: aiohttp.ClientSession, source: Source) -> bool:
    """Ask one member whether its copies are in place.

    To be asked whether the cluster is safe, a member asks the others in their operation threads, of which each has
    few: where the master has just died or is cut off, all of them wait for it there for up to 10 s, and nobody can
    become master meanwhile (seen on 5.7.0). Asked for itself it waits in a thread of the agent.
    """
    answers = await _ask(session, source, SAFETY_SECONDS, _read(_PARTITIONS, "isLocalMemberSafe"))
    return bool(answers and _only(answers[0]).get("isLocalMemberSafe"))


def _read(mbean: str, *attributes: str) -> dict[str, Any]:
    """Ask for some attributes by name: among the others is the whole configuration, as text, at each look."""
    return {"type": "read", "mbean": mbean, "attribute": list(attributes)}


async def _ask(session: aiohttp.ClientSession, source: Source, seconds: float, *requests: dict[str, Any]) -> list[Any]:
    """Return the answers to several requests, or nothing if they did not come in time."""
    secret = base64.b64encode(f"{source.user}:{source.password}".encode()).decode()
    headers = {"Authorization": f"Basic {secret}"}  # aiohttp's own word for it changes with 4.0
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
    """Return the attributes of the one MBean that a pattern found; empty if there is none yet."""
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
