"""The supervisor with real members: what is left after a failed start, and what a member's return looks like."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import hazelcast
import psutil
import pytest
from conftest import Project, make_project, run

from microq.engines.provision import provide
from microq.errors import ExitedEarlyError, PortTakenError
from microq.fleet import Role, Snapshot
from microq.store import LOG_MAP, STORED_MAP
from microq.system import control, records, runs
from microq.system.supervisor import Supervisor, supervise

LOOPBACK = {"127.0.0.1", "::ffff:127.0.0.1"}


@asynccontextmanager
async def supervised(project: Project) -> AsyncIterator[Supervisor]:
    config = project.config
    async with supervise(config, runs.new_run(config, "up"), provide()) as supervisor:
        yield supervisor


def listen(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def test_a_port_that_is_taken_is_named_before_anything_starts(project: Project, engine: None) -> None:
    port = project.config.service_ips.facade_service.port

    async def main() -> None:
        async with supervised(project) as supervisor:
            with listen(port), pytest.raises(PortTakenError, match=f"pid {os.getpid()}"):
                await supervisor.start(["all"])
            assert {process.started_at for process in supervisor.processes.values()} == {None}

    run(main())


def test_a_member_that_cannot_start_shows_its_last_words(tmp_path: Path, engine: None) -> None:
    project = make_project(tmp_path, extra='heap = "1m"\n')

    async def main() -> None:
        async with supervised(project) as supervisor:
            with pytest.raises(ExitedEarlyError) as caught:
                await supervisor.start(["all"])
            assert caught.value.status == 1
            assert any("heap" in line for line in caught.value.tail)
            assert not any(process.up for process in supervisor.processes.values())

    run(main())
    assert not project.alive()


def test_a_half_started_system_is_stopped_and_the_first_error_is_told(project: Project, engine: None) -> None:
    port = project.config.service_ips.facade_service.port

    async def steal(supervisor: Supervisor) -> socket.socket:
        await anext(supervisor.events())  # the ports were looked at before anything started
        return listen(port)

    async def main() -> None:
        async with supervised(project) as supervisor:
            async with asyncio.TaskGroup() as tasks:
                thief = tasks.create_task(steal(supervisor))
                with pytest.raises(ExitedEarlyError, match="cannot listen on") as caught:
                    await supervisor.start(["all"])
            thief.result().close()
            assert caught.value.name == f"facade-{port}"
            assert not any(process.up for process in supervisor.processes.values())
            assert not records.leftovers(project.config)

    run(main())


async def seen(operator: control.ControlClient, true: Callable[[Snapshot], bool], seconds: float = 15) -> Snapshot:
    deadline = time.monotonic() + seconds
    while not true(view := await operator.snapshot()):
        assert time.monotonic() < deadline, view
        await asyncio.sleep(0.1)
    return view


def whole(view: Snapshot) -> bool:
    return [(m.members_seen, m.cluster_safe) for m in view.members] == [(3, True)] * 3


def test_a_killed_member_comes_back_into_the_same_cluster(system: Project) -> None:
    async def main() -> None:
        async with control.connect(system.config) as operator:
            name = (await seen(operator, whole)).having(Role.HAZELCAST)[0].name
            assert await operator.kill([name]) == [name]
            view = await seen(operator, lambda view: {m.members_seen for m in view.members} == {2})
            assert view.named(name).exit_status == -9
            assert name not in {figures.name for figures in view.members}
            assert await operator.start([name]) == [name]
            view = await seen(operator, whole)
            assert view.named(name).restarts >= 1

    run(main())


def test_everything_listens_on_loopback_only(system: Project) -> None:
    async def main() -> Snapshot:
        async with control.connect(system.config) as operator:
            return await operator.snapshot()

    view = asyncio.run(main())
    for process in view.processes:
        found = [
            connection
            for connection in psutil.Process(process.pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert found, process.name
        assert {connection.laddr.ip for connection in found} <= LOOPBACK, process.name


class Bomb:
    """Pickled by the plain client; whoever unpickles it makes the folder `canary`."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.canary),)


def test_a_pickled_item_runs_nothing_and_stops_nothing(system: Project, tmp_path: Path) -> None:
    canary, config = tmp_path / "canary", system.config
    client = hazelcast.HazelcastClient(
        cluster_name=config.hazelcast.hazelcast_cluster_name,
        cluster_members=[str(address) for address in config.hazelcast.hazelcast_clients],
    )
    try:
        maps = [client.get_map(name).blocking() for name in (LOG_MAP, STORED_MAP)]
        for planted in maps:
            planted.set("bomb", Bomb(canary))
            planted.set("bystander", Bomb(canary))
        assert client.get_queue(config.queue.name).blocking().offer(Bomb(canary))
        asyncio.run(send_over("bomb", system))
        for planted in maps:
            planted.delete("bystander")
    finally:
        client.shutdown()
    assert not canary.exists()
    given_up = system.microq("logs", "messages", "--grep", "an item of type -120, not text")
    assert given_up.stdout.count("\n") == 1


async def send_over(key: str, system: Project) -> None:
    """POST under the id of what was planted, until a consumer shows it."""
    url = f"{system.config.service_ips.facade_service.url}/facade"
    async with aiohttp.ClientSession() as session:
        headers = {"Idempotency-Key": key}
        async with session.post(url, json={"msg": "after the bomb"}, headers=headers) as response:
            assert response.status == 200, await response.text()
        deadline = time.monotonic() + 10
        while True:
            async with session.get(url) as response:
                shown = await response.json()
            assert "after the bomb" in shown["logs"]
            if "after the bomb" in shown["message"]:
                return
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
