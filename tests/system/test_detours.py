"""A real system through links: it works, and outlives what is done along them, each fault that needs them included."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import psutil
import pytest
from support.project import Project, make_project

from microq.backends.base import Kind, Reply
from microq.chaos.conditions import CLIENTS
from microq.chaos.faults import FAULTS
from microq.chaos.faults.network import Cut, Loss
from microq.chaos.history import record
from microq.chaos.matrix import make
from microq.chaos.proxy import Proxy, proxying
from microq.chaos.recovery import until
from microq.chaos.scenario import Stage, Trial, scenario
from microq.chaos.timeouts import Timeouts
from microq.chaos.verdict import Ruling, Verdict
from microq.client import FacadeClient, open_session
from microq.fleet import ProcessState, Role, Snapshot
from microq.message import Outcome, Receipt
from microq.supervisor import runs
from microq.supervisor.supervisor import Supervisor, supervise
from microq.supervisor.topology import plan_detours
from microq.workflows.machine import provide

SECONDS = 200
"""More than any of these takes, on a loaded machine too."""

T = TypeVar("T")

LINKED = [name for name, kind in FAULTS.items() if kind.needs_links and kind.suits("hazelcast")]

SHORT: dict[str, dict[str, Any]] = {
    "cut-client": {"seconds": 2.0},
    "split-cluster": {"seconds": 1.0},
    "slow-network": {"passing": 30},
}
"""Fault -> options that make it short; the full counts are those of `microq chaos all`."""


@dataclass
class Detoured:
    """A system whose processes all find each other through links."""

    supervisor: Supervisor
    links: Proxy
    session: aiohttp.ClientSession

    async def sends(self, *texts: str) -> list[Receipt]:
        facade = FacadeClient(self.session, self.supervisor.config.service_ips.facade_service)
        return [await facade.send(text) for text in texts]

    async def tries(self, name: str, history_file: Path) -> Verdict:
        with record(history_file) as history:
            stage = Stage(
                self.supervisor.config,
                self.supervisor,
                self.session,
                history,
                print,
                restore=True,
                links=self.links,
                timeouts=Timeouts.of(self.supervisor.config),
            )
            trial = Trial(make(name, **SHORT.get(name, {})), 300, seed=1)
            return await scenario(stage, trial).run()


@asynccontextmanager
async def detoured(project: Project) -> AsyncIterator[Detoured]:
    config = project.config
    detours = plan_detours(config)
    async with (
        proxying(detours) as links,
        supervise(config, runs.new_run(config, "up"), provide(config), detours) as supervisor,
        open_session() as session,
    ):
        await supervisor.start(["all"])
        yield Detoured(supervisor, links, session)


class Elsewhere:
    """An event loop in a thread of its own: what lives in it goes on between two tests."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    @contextmanager
    def holding(self, project: Project) -> Iterator[Detoured]:
        """Have the system up there, in one task from its start to its end."""
        made: Future[Detoured] = Future()
        over = asyncio.Event()

        async def hold() -> None:
            async with detoured(project) as found:
                made.set_result(found)
                await over.wait()
                await found.supervisor.kill(["all"])

        self._thread.start()
        holding = asyncio.run_coroutine_threadsafe(hold(), self._loop)
        try:
            either: list[Future[Any]] = [made, holding]
            wait(either, SECONDS, FIRST_COMPLETED)
            if holding.done():
                holding.result()
            yield made.result(0)
        finally:
            self._loop.call_soon_threadsafe(over.set)
            holding.result(SECONDS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


@pytest.fixture(scope="module")
def elsewhere() -> Elsewhere:
    return Elsewhere()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, engine: None, elsewhere: Elsewhere) -> Iterator[Detoured]:
    """One system behind links for all of these tests, each of which leaves it whole."""
    project = make_project(tmp_path_factory.mktemp("detoured"), extra="heartbeat-timeout = 5\n")
    with elsewhere.holding(project) as system:
        yield system
    assert not project.alive()


def test_everything_goes_through_the_links(found: Detoured, elsewhere: Elsewhere) -> None:
    async def main() -> None:
        assert [receipt.outcome for receipt in await found.sends("first")] == [Outcome.ACKNOWLEDGED]
        names = {spec.name for spec in found.supervisor.specs}

        def whole(view: Snapshot) -> bool:
            owned = view.queue is not None and view.queue.owner in names
            return bool(view.safe) and owned and all(each.held is not None for each in view.having(Role.LOGGING))

        assert await until(found.supervisor, whole, 60)
        opened = {(ends.kind, bool(ends.opener)) for ends in await found.links.connections()}
        assert opened == {(Kind.CLIENT, False), (Kind.PEER, True), (Kind.HTTP, False)}
        for spec in found.supervisor.specs:
            process = psutil.Process(found.supervisor.processes[spec.name].pid)
            ports = {each.laddr.port for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
            assert spec.door.port in ports
            assert spec.address.port not in ports

    elsewhere.run(main())


def test_a_lost_reply_costs_nothing(found: Detoured, elsewhere: Elsewhere) -> None:
    async def main() -> None:
        await found.links.impose(Loss(Reply.ENQUEUE, every=2))
        receipts = await found.sends("kept", "lost")
        await found.links.lift()
        assert (await found.links.counts()).lost == {Reply.ENQUEUE: 1}
        assert [receipt.outcome for receipt in receipts] == [Outcome.ACKNOWLEDGED] * 2

    elsewhere.run(main())


def test_clients_that_were_cut_off_come_back(found: Detoured, elsewhere: Elsewhere) -> None:
    async def main() -> None:
        assert await found.links.impose(Cut(CLIENTS)) > 0
        receipts = await found.sends("cut off")
        assert receipts[0].outcome is not Outcome.ACKNOWLEDGED
        assert (await found.links.counts()).refused > 0
        await found.links.lift()
        while (await found.sends("back"))[0].outcome is not Outcome.ACKNOWLEDGED:  # noqa: ASYNC110 - clients tell nobody
            await asyncio.sleep(0.1)

    elsewhere.run(main())


@pytest.mark.parametrize("name", LINKED)
def test_nothing_is_lost_under_a_fault_of_the_links(
    found: Detoured, elsewhere: Elsewhere, tmp_path: Path, name: str
) -> None:
    before = elsewhere.run(found.links.counts())
    verdict = elsewhere.run(found.tries(name, tmp_path / "history.jsonl"))
    assert (verdict.verdict, verdict.reasons, verdict.quiet, verdict.seed) == (Ruling.PASS, (), False, 1)
    assert verdict.acknowledged >= 300
    assert verdict.lost == verdict.unlogged == verdict.unexpected == verdict.duplicated == ()
    assert verdict.faults
    assert all(hit.fault == name and hit.seen for hit in verdict.faults)
    counts = elsewhere.run(found.links.counts())
    assert (counts.cut > before.cut) is (name == "cut-client")
    # A split is silent: its connections stay open.
    assert (counts.held > before.held) is (name == "split-cluster")
    assert elsewhere.run(until(found.supervisor, lambda view: bool(view.safe), 60))
    view = elsewhere.run(found.supervisor.snapshot())
    assert {process.state for process in view.processes} == {ProcessState.READY}
    assert [receipt.outcome for receipt in elsewhere.run(found.sends("whole again"))] == [Outcome.ACKNOWLEDGED]
