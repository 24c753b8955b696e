"""The supervisor with real members: what is left after a failed start, and what a member's return looks like."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from support.commands import ask
from support.project import Project, make_project, small

from microq.errors import DeadlineError, ExitedEarlyError, PortTakenError
from microq.fleet import SERVERS, Role, Snapshot
from microq.message import Message
from microq.store import open_store
from microq.supervisor import control, runs
from microq.supervisor.supervisor import Supervisor, supervise
from microq.workflows.machine import provide

LOOPBACK = {"127.0.0.1", "::ffff:127.0.0.1"}


@asynccontextmanager
async def supervised(project: Project) -> AsyncIterator[Supervisor]:
    config = project.config
    async with supervise(config, runs.new_run(config, "up"), provide(config)) as supervisor:
        yield supervisor


def listen(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


async def test_a_port_that_is_taken_is_named_before_anything_starts(project: Project, engine: None) -> None:
    port = project.config.service_ips.facade_service.port
    async with supervised(project) as supervisor:
        with listen(port), pytest.raises(PortTakenError, match=f"pid {os.getpid()}"):
            await supervisor.start(["all"])
        assert {process.started_at for process in supervisor.processes.values()} == {None}


async def test_a_member_that_cannot_start_shows_its_last_words(tmp_path: Path, engine: None) -> None:
    project = make_project(tmp_path, extra='heap = "999999g"\n')
    async with supervised(project) as supervisor:
        with pytest.raises(ExitedEarlyError) as caught:
            await supervisor.start(["all"])
        assert caught.value.status == 1
        assert "heap" in caught.value.why.lower()
        assert not any(process.up for process in supervisor.processes.values())
    assert not project.alive()


@small
async def test_server_without_figures_is_named_if_start_fails(project: Project, engine: None) -> None:
    (address,) = project.config.hazelcast.hazelcast_clients
    name = f"hazelcast-{address.port}"

    async def steal(supervisor: Supervisor) -> socket.socket:
        await anext(supervisor.events())  # what the member will read is written
        rows = (supervisor.folder / f"{name}.agent.properties").read_text(encoding="utf-8").splitlines()
        return listen(int(dict(row.split("=", 1) for row in rows)["port"]))

    async with supervised(project) as supervisor:
        async with asyncio.TaskGroup() as tasks:
            thief = tasks.create_task(steal(supervisor))
            with pytest.raises(DeadlineError, match=f"not one safe cluster .*: .*{name} does not answer"):
                await supervisor.start(["all"])
        thief.result().close()
    assert not project.alive()


@small
async def test_half_started_system_is_stopped_with_first_error(project: Project, engine: None) -> None:
    port = project.config.service_ips.facade_service.port

    async def steal(supervisor: Supervisor) -> socket.socket:
        await anext(supervisor.events())  # the ports were looked at before anything started
        return listen(port)

    async with supervised(project) as supervisor:
        async with asyncio.TaskGroup() as tasks:
            thief = tasks.create_task(steal(supervisor))
            with pytest.raises(ExitedEarlyError, match="cannot listen on") as caught:
                await supervisor.start(["all"])
        thief.result().close()
        assert caught.value.name == f"facade-{port}"
        assert not any(process.up for process in supervisor.processes.values())
        left = [" ".join(process.cmdline()).strip() for process in project.alive() if process.pid != os.getpid()]
        assert left == ["microq fork server"]


def shown_by_ps(pid: int | None) -> str:
    command = ["ps", "-o", "comm=", "-o", "args=", "-p", str(pid)]
    return subprocess.check_output(command, text=True).strip()


@small
async def test_ps_shows_which_process_is_which(project: Project, engine: None) -> None:
    async with supervised(project) as supervisor:
        await supervisor.start(["all"])
        for name, process in supervisor.processes.items():
            comm, title = (await asyncio.to_thread(shown_by_ps, process.pid)).split(maxsplit=1)
            assert comm == name[:15]
            assert title.startswith(f"{name} -") or process.spec.role not in SERVERS


async def seen(operator: control.ControlClient, true: Callable[[Snapshot], bool], seconds: float = 60) -> Snapshot:
    deadline = time.monotonic() + seconds
    while not true(view := await operator.snapshot()):
        assert time.monotonic() < deadline, view
        await asyncio.sleep(0.1)
    return view


def whole(view: Snapshot) -> bool:
    return [(m.members_seen, m.cluster_safe) for m in view.members] == [(3, True)] * 3


async def test_a_killed_member_comes_back_into_the_same_cluster(system: Project) -> None:
    async with control.connect(system.config) as operator:
        name = (await seen(operator, whole)).having(Role.QUEUE)[0].name
        assert await operator.kill([name]) == [name]
        view = await seen(operator, lambda view: {m.members_seen for m in view.members} == {2})
        assert view.named(name).exit_status == -9
        assert name not in {figures.name for figures in view.members}
        assert await operator.start([name]) == [name]
        view = await seen(operator, whole)
        assert view.named(name).restarts >= 1


async def test_claimed_message_is_held_after_a_join(system: Project) -> None:
    """As after a merge, which may leave the claim of one half, and the other half has given the message away."""
    address = system.config.service_ips.messages_service[0]
    claimed = f"claimed-{uuid.uuid4()}"
    async with control.connect(system.config) as operator:
        name = (await seen(operator, whole)).having(Role.QUEUE)[-1].name
        async with open_store(system.config, f"messages-{address.port}") as store:
            await store.stored.add([Message(claimed, claimed, time.time())])
        assert claimed not in ask(address, "GET", "/messages")[1]
        await operator.kill([name])
        await operator.start([name])
        await seen(operator, lambda _: claimed in ask(address, "GET", "/messages")[1])
        # What is held is written back after it is shown again.
        logger = system.config.service_ips.logging_service[0]
        await seen(operator, lambda _: claimed in ask(logger, "GET", "/log")[1])


async def test_everything_listens_on_loopback_only(system: Project) -> None:
    async with control.connect(system.config) as operator:
        view = await operator.snapshot()
    for process in view.processes:
        found = listened(psutil.Process(process.pid))
        assert found, process.name
        assert found <= LOOPBACK, process.name
    for alive in system.alive():  # the supervisor, and whatever else carries this project's mark
        assert listened(alive) <= LOOPBACK, alive.cmdline()


def listened(process: psutil.Process) -> set[str]:
    """The addresses at which a process takes connections, or what comes without one."""
    return {
        connection.laddr.ip
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
    }
