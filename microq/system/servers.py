"""The servers of a run, members and brokers: how each is started, when it is ready, and what all of them say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from microq import members
from microq.config import Config
from microq.engines import hazelcast, kafka
from microq.engines.provision import Engine
from microq.figures import BrokerFigures, MemberFigures, PartitionView
from microq.fleet import Detour, ProcessState, Role
from microq.system.brokers import Brokers
from microq.system.cluster import Cluster
from microq.system.process import Process
from microq.system.topology import ProcessSpec

if TYPE_CHECKING:  # the module needs the client of Kafka, which is an extra
    from microq import kfk

READY_LINES = {Role.HAZELCAST: hazelcast.READY_LINE, Role.KAFKA: kafka.READY_LINE}
"""What a server logs when it serves."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the servers say at one moment; those that do not answer are missing."""

    members: tuple[MemberFigures, ...]
    brokers: tuple[BrokerFigures, ...]
    partitions: tuple[PartitionView, ...]


class Servers:
    """The servers that this run starts, and the brokers it asks. Made by `open_servers`.

    `specs` are all processes of the run.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        engine: Engine | None,
        specs: Sequence[ProcessSpec],
        client: kfk.Brokers | None,
    ) -> None:
        self.engine, self.specs = engine, specs
        self._queue, self._client = config.queue.name, client
        self._cluster = Cluster(config, folder, engine, specs)
        self._brokers = Brokers(config, folder, engine, specs)

    def argv(self, spec: ProcessSpec, *, alone: bool) -> list[str]:
        """Return a server's command line; `alone` if no member is up to be joined. Raises `MachineError`."""
        if spec.role is Role.KAFKA:
            return self._brokers.argv(spec.name)
        return self._cluster.argv(spec.name, alone=alone)

    async def ask(self, session: aiohttp.ClientSession, processes: Sequence[Process]) -> Said:
        """Ask those of the processes that are servers and ready, side by side."""
        ready = [process.spec for process in processes if process.state is ProcessState.READY]
        sources = self._cluster.sources([spec.name for spec in ready])
        figures, (brokers, partitions) = await asyncio.gather(
            members.read_all(session, sources, self._queue),
            self._ask_brokers([spec for spec in ready if spec.role is Role.KAFKA]),
        )
        return Said(figures, brokers, partitions)

    async def _ask_brokers(
        self, ready: Sequence[ProcessSpec]
    ) -> tuple[tuple[BrokerFigures, ...], tuple[PartitionView, ...]]:
        if self._client is None:
            return (), ()
        from microq import brokers  # noqa: PLC0415 - an extra, only there where the queue is in Kafka

        return await brokers.read_all(self._client, self._queue, [spec.address for spec in ready])

    def remove_data(self) -> None:
        """Remove what the brokers stored."""
        self._brokers.remove_data()


@asynccontextmanager
async def open_servers(
    config: Config, folder: Path, engine: Engine | None, specs: Sequence[ProcessSpec], detours: Sequence[Detour]
) -> AsyncIterator[Servers]:
    """Yield the servers of a run; where the queue is in Kafka they are asked past all detours."""
    if config.queue.backend != Role.KAFKA:
        yield Servers(config, folder, engine, specs, None)
        return
    from microq import kfk  # noqa: PLC0415 - an extra, only there where the queue is in Kafka

    doors = {detour.address: detour.hidden for detour in detours}
    async with kfk.connect(config.kafka.kafka_brokers, "supervisor", doors) as client:
        yield Servers(config, folder, engine, specs, client)
