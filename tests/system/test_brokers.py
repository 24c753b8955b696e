"""The system with its queue in Kafka: real brokers, what is kept of them and what is not."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from support.project import Project, free_ports, make_project, up

from microq.backends.kafka import server as kafka
from microq.caveats import caveats
from microq.config import Address, Config, load
from microq.errors import ExitedEarlyError, MachineError, PortTakenError, StartTimeoutError
from microq.fleet import ProcessState, Role, Snapshot
from microq.supervisor import control, records, runs
from microq.supervisor.process import Process, executing
from microq.supervisor.readiness import says, until
from microq.supervisor.readiness import seen as logged
from microq.supervisor.supervisor import Supervisor, supervise
from microq.supervisor.topology import ProcessSpec, child_environment
from microq.workflows.machine import provide

pytestmark = pytest.mark.usefixtures("kafka_engine")

LOOPBACK = {"127.0.0.1", "::ffff:127.0.0.1"}
SENT = 20


@asynccontextmanager
async def supervised(project: Project) -> AsyncIterator[Supervisor]:
    config = project.config
    async with supervise(config, runs.new_run(config, "up"), provide(config)) as supervisor:
        yield supervisor


def in_kafka(folder: Path, heap: str = "256m") -> Project:
    project = make_project(folder, extra='[queue]\nbackend = "kafka"\n')
    file = folder / "config.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("[kafka]\n", f'[kafka]\nheap = "{heap}"\n'), encoding="utf-8")
    return project


def is_up(supervisor: Supervisor) -> bool:
    return any(process.up for process in supervisor.processes.values())


# -- what keeps brokers from starting ---------------------------------------------------------------------------------


async def test_taken_broker_port_is_named_before_the_start(tmp_path: Path) -> None:
    project = in_kafka(tmp_path)
    address = project.config.servers[1]
    async with supervised(project) as supervisor:
        with (
            socket.create_server((address.host, address.port)),
            pytest.raises(PortTakenError, match=f"kafka-{address.port} needs .* pid {os.getpid()}"),
        ):
            await supervisor.start(["all"])
        assert {process.started_at for process in supervisor.processes.values()} == {None}


async def test_data_of_another_cluster_is_refused_by_name(tmp_path: Path) -> None:
    project = in_kafka(tmp_path)
    last = f"kafka-{project.config.servers[-1].port}"
    async with supervised(project) as supervisor:
        mark = supervisor.folder / "data" / last / "meta.properties"
        mark.parent.mkdir(parents=True)
        mark.write_text("version=1\ncluster.id=another\nnode.id=3\n", encoding="utf-8")
        with pytest.raises(MachineError, match=f"{last} holds the data of another cluster"):
            await supervisor.start(["all"])
        assert not is_up(supervisor)
    assert not project.alive()


async def test_failed_brokers_show_logs_and_members_end(tmp_path: Path) -> None:
    project = in_kafka(tmp_path, heap="1m")
    async with supervised(project) as supervisor:
        with pytest.raises(ExitedEarlyError) as caught:
            await supervisor.start(["all"])
        assert caught.value.name.startswith("kafka-")
        assert "heap" in caught.value.why.lower()
        assert not is_up(supervisor)
    assert not project.alive()


async def test_a_broker_without_the_others_says_what_it_waits_for(tmp_path: Path) -> None:
    config = Config("the test", tmp_path, queue=dataclasses.replace(load(environ={}).queue, backend="kafka"))
    config.folder.mkdir()
    free = iter(free_ports(9))

    def local() -> Address:
        return Address("127.0.0.1", next(free))

    brokers = [kafka.Broker(n, f"kafka-{n}", local(), local(), local(), tmp_path) for n in (1, 2, 3)]
    engine = provide(config)
    parts = engine.parts["kafka"]
    kafka.write_files(config, brokers[0], brokers, kafka.new_id())
    argv = kafka.argv(engine.java, parts.jars, brokers[0], "256m", parts.archive.flags(tmp_path))
    spec = ProcessSpec("kafka-1", Role.QUEUE, brokers[0].address)
    child = Process(spec, tmp_path / "kafka-1.log", records.Book(config, "the-run"), lambda _event: None)
    async with asyncio.TaskGroup() as tasks:
        await child.spawn(argv, executing(child_environment(config, "the-run")))
        tasks.create_task(child.watch())
        try:
            await logged(child, says(child, " kafka-1 "), 60)
            with pytest.raises(StartTimeoutError) as caught:
                await until(child, says(child, kafka.READY_LINE), 4)
        finally:
            await child.kill()
    assert " kafka-1 " in caught.value.why or "its last error" in caught.value.why


# -- a system that runs -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def system_in_kafka(tmp_path_factory: pytest.TempPathFactory, kafka_engine: None) -> Iterator[Project]:
    """A small one without consumers: what is sent stays in the brokers."""
    words = ("--queue", "kafka", "--no-messages", "--set", "members=1", "--set", "logging=1")
    with up(tmp_path_factory.mktemp("brokers"), *words) as found:
        yield found
        folder = data(found)
        assert folder.exists()
    assert not folder.exists(), "the data outlived its system"


def data(project: Project) -> Path:
    (run_folder,) = (project.config.folder / "runs").iterdir()
    return run_folder / "data"


async def seen(operator: control.ControlClient, true: Callable[[Snapshot], bool], seconds: float = 60) -> Snapshot:
    deadline = time.monotonic() + seconds
    while not true(view := await operator.snapshot()):
        assert time.monotonic() < deadline, view
        await asyncio.sleep(0.1)
    return view


def holds(count: int) -> Callable[[Snapshot], bool]:
    return lambda view: view.settled and view.queue is not None and view.queue.size == count


async def test_brokers_of_a_system_are_a_safe_loopback_cluster(system_in_kafka: Project) -> None:
    async with control.connect(records.in_force(system_in_kafka.config)) as operator:
        view = await seen(operator, lambda view: view.settled and view.copies is not None)
    # Its one member can hold no copy of the maps.
    assert (view.settled, view.safe, view.copies) == (True, False, 0)
    assert (view.backend, view.managed) == ("kafka", True)
    assert [figures.members_seen for figures in view.brokers] == [3] * 3
    assert {partition.replicas for partition in view.partitions} == {3}
    for process in system_in_kafka.alive():
        found = {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        assert found <= LOOPBACK, process.cmdline()


async def test_a_killed_broker_comes_back_with_its_data(system_in_kafka: Project) -> None:
    assert system_in_kafka.microq("send", str(SENT)).returncode == 0
    async with control.connect(records.in_force(system_in_kafka.config)) as operator:
        view = await seen(operator, holds(SENT))
        name = next(iter(view.owners))
        await operator.kill([name])

        def knows_that_it_is_gone(view: Snapshot) -> bool:
            """The other brokers go on to call it a leader for seconds; that it is gone is known at once."""
            assert name not in view.owners
            assert not any(name in partition.in_sync for partition in view.partitions)
            return len(view.brokers) == 2 and bool(view.partitions)

        view = await seen(operator, knows_that_it_is_gone)
        assert "no server of the queue answers" not in caveats(view, {})
        view = await seen(operator, lambda view: {figures.members_seen for figures in view.brokers} == {2})
        assert (view.named(name).state, view.named(name).exit_status) == (ProcessState.EXITED, -signal.SIGKILL)
        assert name not in view.owners
        assert data(system_in_kafka).joinpath(name).exists()
        assert await operator.start([name]) == [name]
        view = await seen(operator, holds(SENT))
        assert view.named(name).restarts == 1
        assert all(name in partition.in_sync for partition in view.partitions)


async def test_all_brokers_killed_at_once_come_back_with_their_data(system_in_kafka: Project) -> None:
    async with control.connect(records.in_force(system_in_kafka.config)) as operator:
        before = (await seen(operator, lambda view: view.settled)).queue
        assert before
        assert before.size
        assert len(await operator.kill(["kafka"])) == 3
        assert len(await operator.start(["kafka"])) == 3
        await seen(operator, holds(before.size))


async def test_a_stopped_broker_leaves_in_order(system_in_kafka: Project) -> None:
    async with control.connect(records.in_force(system_in_kafka.config)) as operator:
        name = (await seen(operator, lambda view: view.settled)).having(Role.QUEUE)[-1].name
        assert await operator.stop([name]) == [name]
        stopped = (await operator.snapshot()).named(name)
        assert (stopped.state, stopped.exit_status) == (ProcessState.STOPPED, 128 + signal.SIGTERM)
        assert data(system_in_kafka).joinpath(name).exists()
        assert await operator.start([name]) == [name]
        await seen(operator, lambda view: view.settled)
