"""A real system through links: it works, is split and heals, and outlives a reply that is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil
from conftest import Project, run

from microq.chaos.conditions import around, clients, to
from microq.chaos.links import Links, open_links
from microq.chaos.wire import Kind, Reply
from microq.client import FacadeClient, open_session
from microq.engines.provision import provide
from microq.fleet import Role, Snapshot
from microq.message import Outcome, Receipt
from microq.system import runs
from microq.system.supervisor import Supervisor, supervise
from microq.system.topology import plan_detours

SPLIT_SECONDS = 40
"""The heartbeat limit is 5 s, and a loaded machine slow."""


@dataclass
class Detoured:
    """A system whose processes all find each other through links."""

    supervisor: Supervisor
    links: Links
    facade: FacadeClient

    async def sends(self, *texts: str) -> list[Receipt]:
        return [await self.facade.send(text) for text in texts]

    async def sees(self, *members: int) -> Snapshot:
        """Wait until the members see so many of them, each for itself."""
        end = time.monotonic() + SPLIT_SECONDS
        while True:
            view = await self.supervisor.snapshot()
            found = sorted(figures.members_seen for figures in view.members)
            if found == sorted(members):
                return view
            assert time.monotonic() < end, found
            await asyncio.sleep(0.1)


@asynccontextmanager
async def detoured(project: Project) -> AsyncIterator[Detoured]:
    config = project.config
    detours = plan_detours(config)
    async with (
        open_links(detours) as links,
        supervise(config, runs.new_run(config, "up"), provide(config), detours) as supervisor,
        open_session() as session,
    ):
        await supervisor.start(["all"])
        yield Detoured(supervisor, links, FacadeClient(session, config.service_ips.facade_service))


def test_a_system_behind_links(project: Project, engine: None) -> None:
    async def main() -> None:
        async with detoured(project) as found:
            await everything_goes_through_the_links(found)
            await a_lost_reply_costs_nothing(found)
            await cut_clients_come_back(found)
            await a_split_is_seen_on_both_sides_and_heals(found)

    run(main())


async def everything_goes_through_the_links(found: Detoured) -> None:
    assert [receipt.outcome for receipt in await found.sends("first")] == [Outcome.ACKNOWLEDGED]
    view = await found.supervisor.snapshot()
    assert view.safe
    assert view.queue
    assert view.queue.owner in found.links.links
    assert all(process.held is not None for process in view.having(Role.LOGGING))
    opened = {(ends.kind, bool(ends.opener)) for ends in found.links.connections()}
    assert opened == {(Kind.CLIENT, False), (Kind.MEMBER, True), (Kind.HTTP, False)}
    for spec in found.supervisor.specs:
        process = psutil.Process(found.supervisor.processes[spec.name].pid)
        ports = {each.laddr.port for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
        assert spec.door.port in ports
        assert spec.address.port not in ports


async def a_lost_reply_costs_nothing(found: Detoured) -> None:
    found.links.lose_replies(Reply.ENQUEUE, every=2)
    receipts = await found.sends("kept", "lost")
    found.links.keep_replies()
    assert found.links.counts.lost == {Reply.ENQUEUE: 1}
    assert [receipt.outcome for receipt in receipts] == [Outcome.ACKNOWLEDGED] * 2


async def cut_clients_come_back(found: Detoured) -> None:
    assert found.links.cut(clients) > 0
    receipts = await found.sends("cut off")
    assert receipts[0].outcome is not Outcome.ACKNOWLEDGED
    assert found.links.counts.refused > 0
    found.links.heal()
    while (await found.sends("back"))[0].outcome is not Outcome.ACKNOWLEDGED:  # noqa: ASYNC110 - the clients tell nobody
        await asyncio.sleep(0.1)


async def a_split_is_seen_on_both_sides_and_heals(found: Detoured) -> None:
    name = next(spec.name for spec in found.supervisor.specs)
    found.links.cut(around(name), silent=True)
    view = await found.sees(1, 2, 2)
    assert {figures.name: figures.members_seen for figures in view.members}[name] == 1
    assert found.links.connections(to(name))
    found.links.heal()
    await found.sees(3, 3, 3)
    assert [receipt.outcome for receipt in await found.sends("whole again")] == [Outcome.ACKNOWLEDGED]
