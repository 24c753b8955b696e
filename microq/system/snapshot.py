"""Take a `Snapshot`: processes from the kernel, copies from the members, the queue from the facade."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from microq.client import get_json
from microq.config import Config
from microq.errors import MicroqError
from microq.figures import QueueView
from microq.fleet import ProcessState, ProcessView, Role, Snapshot
from microq.system.process import Process
from microq.system.servers import READY_LINES, Servers
from microq.usage import family, usage

OLD_SECONDS = 5.0

ANSWER_SECONDS = 1.0
"""How long a service may take to say how it is."""


class Sockets:
    """How many connections the services have to each port, as no member tells its clients.

    To list them is half of what a look costs, so what is known is at most `OLD_SECONDS` old, not always new.
    """

    def __init__(self) -> None:
        self._looked = -math.inf
        self._counts: Counter[int] = Counter()

    def connected(self, processes: Sequence[Process], config: Config) -> Counter[int]:
        """Return the number of connections by the port that they lead to."""
        if time.monotonic() - self._looked >= OLD_SECONDS:
            self._counts = Counter(port for process in processes for port in _ports(process, config))
            self._looked = time.monotonic()
        return self._counts


def _ports(process: Process, config: Config) -> list[int]:
    if process.pid is None or process.spec.role in READY_LINES:
        return []
    try:
        listed = [c for each in _family(process.pid, process, config) for c in each.net_connections("tcp4")]
    except psutil.Error:
        return []
    return [each.raddr.port for each in listed if each.raddr and each.status == psutil.CONN_ESTABLISHED]


def _family(pid: int, process: Process, config: Config) -> list[psutil.Process]:
    """Return the kernel's processes that are one of ours."""
    return family(pid, forks=process.spec.role is Role.FACADE and config.facade.workers > 1)


async def take(
    session: aiohttp.ClientSession,
    config: Config,
    folder: Path,
    processes: Sequence[Process],
    servers: Servers,
    sockets: Sockets,
) -> Snapshot:
    """Look at everything side by side; what does not answer in time is unknown, never zero."""
    said, queue, views = await asyncio.gather(
        servers.ask(session, processes),
        _queue(session, config, processes),
        asyncio.gather(*(_process(session, process, config) for process in processes)),
    )
    connected = sockets.connected(processes, config)
    now = time.time()
    members = (
        replace(each, clients=connected[int(each.name.rpartition("-")[2])], oldest=_waited(queue, each.name, now))
        for each in said.members
    )
    return Snapshot(
        taken_at=now,
        folder=str(folder),
        processes=tuple(views),
        members=tuple(members),
        queue=queue,
        managed=config.managed,
        backend=config.queue.backend,
        brokers=said.brokers,
        partitions=said.partitions,
    )


async def _process(session: aiohttp.ClientSession, process: Process, config: Config) -> ProcessView:
    said = await _ask(session, process, "/healthz") if process.spec.role not in READY_LINES else {}
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
        held=said.get("held"),
        full=said.get("full"),
        cpu_s=cpu_s,
        counters=said.get("counters", {}),
        latency=tuple(said.get("latency", ())),
    )


async def _queue(session: aiohttp.ClientSession, config: Config, processes: Sequence[Process]) -> QueueView | None:
    facade = next(process for process in processes if process.spec.role is Role.FACADE)
    body = await _ask(session, facade, "/queue")
    if not body:
        return None
    names = {str(server): f"{config.queue.backend}-{server.port}" for server in config.servers}
    owner = body["owner"]
    return QueueView(
        backend=body["backend"],
        name=body["name"],
        size=body["size"],
        max_size=body["max_size"],
        backup_count=body["backup_count"],
        owner=names.get(owner, owner),
        pending=body["pending"],
        redelivered=body["redelivered"],
        dead=body["dead"],
        oldest_at=body["oldest_at"],
    )


def _waited(queue: QueueView | None, member: str, now: float) -> float | None:
    """Return for how long the next item has waited if this member owns the queue: itself it knows of what left only."""
    if queue is None or queue.owner != member or queue.oldest_at is None:
        return None
    return max(0.0, now - queue.oldest_at)


async def _ask(session: aiohttp.ClientSession, process: Process, path: str) -> dict[str, Any]:
    """Return what a service answers, or nothing if it does not."""
    if process.state is not ProcessState.READY:
        return {}
    try:
        body: dict[str, Any] = await get_json(session, process.spec.door, path, ANSWER_SECONDS)
    except MicroqError:
        return {}
    return body


def _usage(process: Process, config: Config) -> tuple[int, float] | tuple[None, None]:
    """Return the memory of a process in bytes, and the seconds of a processor that it has used."""
    if process.pid is None:
        return None, None
    try:
        found = usage(_family(process.pid, process, config))
    except psutil.Error:
        return None, None
    return found.rss, round(found.cpu_s, 2)
