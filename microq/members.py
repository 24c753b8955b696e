"""What the members say of themselves, through their Jolokia agents: copies, ages, partitions, heap.

The names of the MBeans and attributes are Hazelcast's (`com.hazelcast:type=IQueue` and others), seen on 5.7.0. A
client cannot know them: its partition table tells the primary owner, never where the backups are.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from microq.fleet import MemberFigures
from microq.store import LOG_MAP

ANSWER_SECONDS = 1.0
"""How long a member may take; one that is paused answers never."""

_NO_AGE = 2**62
"""Ages above it are Hazelcast's way to say that nothing is in the queue."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where to ask a member: its name and its agent's URL, user and password."""

    name: str
    url: str
    user: str
    password: str


async def read_figures(session: aiohttp.ClientSession, source: Source, queue: str) -> MemberFigures | None:
    """Ask one member; None if it does not answer in time."""
    request = json.dumps(
        [
            {"type": "read", "mbean": f"com.hazelcast:type=IQueue,name={queue},*"},
            {"type": "read", "mbean": f"com.hazelcast:type=IMap,name={LOG_MAP},*"},
            {"type": "read", "mbean": "com.hazelcast:type=HazelcastInstance.PartitionServiceMBean,*"},
            {"type": "read", "mbean": "com.hazelcast:type=HazelcastInstance,*", "attribute": "memberCount"},
            {"type": "read", "mbean": "java.lang:type=Memory", "attribute": "HeapMemoryUsage"},
        ]
    )
    auth = aiohttp.BasicAuth(source.user, source.password)
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            session.post(source.url, data=request, auth=auth) as response,
        ):
            answers = json.loads(await response.text())
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None
    queue_bean, map_bean, partitions, instance = (_only(answer) for answer in answers[:4])
    if not partitions or not instance:
        return None  # it answers, and is not yet or no longer a member
    return _figures(source.name, queue_bean, map_bean, {**partitions, **instance, **answers[4]["value"]})


def _only(answer: Any) -> dict[str, Any]:
    """Return the attributes of the one MBean that a pattern found; empty if there is none yet."""
    value = answer.get("value") or {}
    return next(iter(value.values()), {})


def _figures(name: str, queue: dict[str, Any], log: dict[str, Any], rest: dict[str, Any]) -> MemberFigures:
    owned = int(queue.get("localOwnedItemCount", 0))
    oldest = int(queue.get("localMaxAge", 0))
    return MemberFigures(
        name=name,
        taken_at=time.time(),
        items=owned,
        backups=int(queue.get("localBackupItemCount", 0)),
        oldest=oldest / 1000 if owned and oldest < _NO_AGE else None,
        offers=int(queue.get("localOfferOperationCount", 0)),
        polls=int(queue.get("localPollOperationCount", 0)),
        rejected=int(queue.get("localRejectedOfferOperationCount", 0)),
        empty_polls=int(queue.get("localEmptyPollOperationCount", 0)),
        log_entries=int(log.get("localOwnedEntryCount", 0)),
        log_backups=int(log.get("localBackupEntryCount", 0)),
        partitions=int(rest["activePartitionCount"]),
        cluster_safe=bool(rest["isClusterSafe"]),
        members_seen=int(rest["memberCount"]),
        heap_used=int(rest["used"]),
        heap_max=int(rest["max"]),
    )


async def read_all(session: aiohttp.ClientSession, sources: list[Source], queue: str) -> tuple[MemberFigures, ...]:
    """Ask all members side by side; those that do not answer are missing from the result."""
    answers = await asyncio.gather(*(read_figures(session, source, queue) for source in sources))
    return tuple(figures for figures in answers if figures)
