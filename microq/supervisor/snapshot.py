"""Takes a `Snapshot`: processes from the kernel, copies from the servers, the queue from the facade."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from microq.backends.base import Answers
from microq.client import get_json
from microq.config import Address, Config
from microq.errors import MicroqError
from microq.figures import BrokerFigures, MemberFigures, PartitionView, QueueView, fullest
from microq.fleet import SERVERS, ProcessState, ProcessView, Role, Snapshot, addresses, map_role, name_of, program_of
from microq.supervisor.process import Process
from microq.supervisor.topology import Servers
from microq.usage import family, usage

OLD_SECONDS = 5.0

ANSWER_SECONDS = 1.0
"""Seconds for a service to report its health."""


class Sockets:
    """Counts the connections of the services to each port, because no member reports its clients.

    Listing them takes half of the time of a snapshot, so the counts may be up to `OLD_SECONDS` old.
    """

    def __init__(self) -> None:
        self._looked = -math.inf
        self._counts: Counter[Address] = Counter()

    def connected(self, processes: Sequence[Process], config: Config) -> Counter[Address]:
        """Return the number of connections to each address."""
        if time.monotonic() - self._looked >= OLD_SECONDS:
            self._counts = Counter(peer for process in processes for peer in _peers(process, config))
            self._looked = time.monotonic()
        return self._counts


def _peers(process: Process, config: Config) -> list[Address]:
    if process.pid is None or process.spec.role in SERVERS:
        return []
    try:
        listed = [c for each in _family(process.pid, process, config) for c in each.net_connections("tcp4")]
    except psutil.Error:
        return []
    return [Address(*each.raddr) for each in listed if each.raddr and each.status == psutil.CONN_ESTABLISHED]


def _family(pid: int, process: Process, config: Config) -> list[psutil.Process]:
    """Return a process and its workers."""
    forks = process.spec.role is Role.FACADE and config.facade.workers > 1
    return family(pid, forks=forks or process.spec.program is not None)


async def take(
    session: aiohttp.ClientSession,
    config: Config,
    folder: Path,
    processes: Sequence[Process],
    servers: Servers,
    sockets: Sockets,
) -> Snapshot:
    """Query everything concurrently; a value that does not come in time is unknown, not zero."""
    for process in processes:
        process.look()
    said, queue, views = await asyncio.gather(
        servers.ask(session, [process.spec for process in processes if process.state is ProcessState.READY]),
        _queue(session, config, processes),
        asyncio.gather(*(_process(session, process, config) for process in processes)),
    )
    if program_of(config, Role.FACADE):
        queue = _counted(config, said[Role.QUEUE])
    connected = sockets.connected(processes, config)
    now = time.time()
    gone = {process.spec.name for process in processes if not process.up}
    at = {process.spec.name: process.spec.address for process in processes}
    keepers = map_role(config)
    members = (
        replace(each, clients=connected[at[each.name]], oldest=_waited(queue, each.name, now))
        for each in said[keepers].figures
        if isinstance(each, MemberFigures)
    )
    return Snapshot(
        taken_at=now,
        folder=str(folder),
        processes=tuple(views),
        members=tuple(members),
        queue=replace(queue, owner=None) if queue and queue.owner in gone else queue,
        managed=config.managed,
        backend=config.queue.backend,
        brokers=tuple(each for each in said[Role.QUEUE].figures if isinstance(each, BrokerFigures)),
        partitions=tuple(_without(partition, gone) for partition in said[Role.QUEUE].partitions),
        backup_count=config.queue.backup_count,
    )


def _without(partition: PartitionView, gone: Collection[str]) -> PartitionView:
    """Return a partition without brokers that are gone: for seconds the other brokers still list them."""
    leader = None if partition.leader in gone else partition.leader
    waiting = None if partition.leader in gone else partition.waiting
    in_sync = tuple(name for name in partition.in_sync if name not in gone)
    return replace(partition, leader=leader, in_sync=in_sync, waiting=waiting)


async def _process(session: aiohttp.ClientSession, process: Process, config: Config) -> ProcessView:
    tells = process.spec.role not in SERVERS and not process.spec.program
    said = await _ask(session, process, "/healthz") if tells else {}
    rss, cpu_s = _usage(process, config)
    return ProcessView(
        name=process.spec.name,
        role=process.spec.role,
        address=str(process.spec.address),
        state=process.state,
        pid=process.pid,
        started_at=process.started_at if process.up else None,
        restarts=process.restarts,
        exit_status=process.exit_status,
        rss=rss,
        external=process.spec.program is not None,
        silent=process.state is ProcessState.READY and tells and not said,
        held=said.get("held"),
        full=said.get("full"),
        merging=said.get("merging", False),
        cpu_s=cpu_s,
        counters=said.get("counters", {}),
        latency=tuple(said.get("latency", ())),
    )


async def _queue(session: aiohttp.ClientSession, config: Config, processes: Sequence[Process]) -> QueueView | None:
    facade = next(process for process in processes if process.spec.role is Role.FACADE)
    body = {} if facade.spec.program else await _ask(session, facade, "/queue")
    if not body:
        return None
    names = {str(server): name_of(config, Role.QUEUE, server) for server in addresses(config, Role.QUEUE)}
    known = {each.name: body[each.name] for each in fields(QueueView)}
    return QueueView(**{**known, "owner": names.get(known["owner"], known["owner"])})


def _counted(config: Config, said: Answers) -> QueueView | None:
    """Return the queue as its servers report it; None if none does. Of an empty queue they do not say who owns it.

    An external facade reports nothing about it.
    """
    items = [(each.name, each.items) for each in said.figures]
    if not items:
        return None
    known = [count for _, count in items if count is not None]
    size = sum(known) if len(known) == len(items) else None
    queue = config.queue
    return QueueView(
        backend=queue.backend,
        name=queue.name,
        size=size,
        max_size=queue.max_size,
        backup_count=queue.backup_count,
        owner=fullest(items) if size else None,
    )


def _waited(queue: QueueView | None, member: str, now: float) -> float | None:
    """Return how long the next item has waited, if this member owns the queue: the member itself does not report it."""
    if queue is None or queue.owner != member or queue.oldest_at is None:
        return None
    return max(0.0, now - queue.oldest_at)


async def _ask(session: aiohttp.ClientSession, process: Process, path: str) -> dict[str, Any]:
    """Return the answer of a service; empty if it does not answer."""
    if process.state is not ProcessState.READY:
        return {}
    try:
        body: dict[str, Any] = await get_json(session, process.spec.door, path, ANSWER_SECONDS)
    except MicroqError:
        return {}
    return body


def _usage(process: Process, config: Config) -> tuple[int, float] | tuple[None, None]:
    """Return the memory of a process in bytes, and its processor time in seconds."""
    if process.pid is None:
        return None, None
    try:
        found = usage(_family(process.pid, process, config))
    except psutil.Error:
        return None, None
    return found.rss, round(found.cpu_s, 2)
