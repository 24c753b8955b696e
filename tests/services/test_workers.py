"""Real worker processes that share the facade's port: all of them answer, for all of them, and none is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import web
from support.fakes import Caller, FakeMap, logging_app, serving, until
from support.project import environment, free_ports

from microq.client import open_session
from microq.config import Address
from microq.services.health import Health
from microq.supervisor.records import alive

TESTS = Path(__file__).parent.parent

FACADE = """
import sys
from support.fakes import FakeQueue, FakeStore, queue_opener
from microq.errors import DeadlineError
from microq.fleet import Role
from microq.services.__main__ import main
from microq.services.app import DRAIN
from microq.services.facade import make_app

def make(config, name):
    app = make_app(config, name, queue_opener(FakeQueue()), opener)
    app[DRAIN] = 100.0  # on a busy machine the usual ones are not enough
    return app

opener = FakeStore().opener()
if sys.argv[1] == "lonely":
    def opener(config, name):
        raise DeadlineError("no cluster answered")
    del sys.argv[1]
sys.exit(main({Role.FACADE: make}))
"""

DEAF = """
import socket, sys, time
from microq.services import app
from microq.services.health import Health

def work(listener, started, leash):
    started()
    time.sleep(60)

health = Health("facade-1", 2)
health.start()
health.become(1)
health.start()
listeners = [socket.socket(), socket.socket()]
sys.stdout.reconfigure(line_buffering=True)
import logging
logging.basicConfig(stream=sys.stdout, level=logging.INFO)
app.share(health, listeners, work, "is ready", 0.2)
"""


class Held(FakeMap):
    """A log that keeps everybody waiting until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.go = asyncio.Event()

    async def put_if_absent(self, key: str, value: Any) -> Any:
        self.asked.append(key)
        await self.go.wait()
        return await super().put_if_absent(key, value)


async def status_of(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(150):
        return await process.wait()


@dataclass
class Running:
    """A facade of several processes, and where it writes."""

    process: asyncio.subprocess.Process
    address: Address
    output: Path
    workers: list[psutil.Process]

    @property
    def log(self) -> str:
        return self.output.read_text(encoding="utf-8")

    async def ended(self) -> int:
        status = await status_of(self.process)
        psutil.wait_procs(self.workers, timeout=60)
        assert not any(alive(worker) for worker in self.workers)
        return status

    def connections(self) -> list[int]:
        """How many each worker has."""
        listed = [worker.net_connections("tcp4") for worker in self.workers]
        mine = (self.address.port, psutil.CONN_ESTABLISHED)
        return [sum((c.laddr.port, c.status) == mine for c in each if c.laddr) for each in listed]

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.address.host, self.address.port)) == 0


def written(folder: Path, workers: int, logging: Address, port: int) -> Path:
    """A configuration with messages-services that are away."""
    file = folder / f"{workers}.toml"
    text = (
        f'[service_ips]\nfacade-service = "127.0.0.1:{port}"\nlogging-service = ["{logging}"]\n'
        f'messages-service = ["127.0.0.1:{free_ports(1)[0]}"]\n[facade]\nworkers = {workers}\n'
    )
    file.write_text(text, encoding="utf-8")
    return file


@asynccontextmanager
async def spawned(script: str, output: Path, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a script in a process group of its own, of which nothing is left afterwards."""
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            script,
            *words,
            cwd=TESTS,
            env=environment(),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        # Whatever is left of the group, its leader or not.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@asynccontextmanager
async def running(folder: Path, logging: web.Application, workers: int = 2) -> AsyncIterator[Running]:
    (port,), output = free_ports(1), folder / "facade.log"
    async with serving(logging) as place:
        file = written(folder, workers, place, port)
        async with spawned(FACADE, output, "facade", "--config", str(file)) as process:
            async with asyncio.timeout(150):
                await until(lambda: "is ready" in output.read_text())
            found = psutil.Process(process.pid).children()
            yield Running(process, Address("127.0.0.1", port), output, found)


async def asked_anew(address: Address, path: str) -> Any:
    """Ask over a connection that is no other request's."""
    async with open_session() as session:
        return (await Caller(address, session).get(path))[1]


async def test_all_workers_take_requests_and_each_answers_for_all(tmp_path: Path) -> None:
    async with running(tmp_path, logging_app(FakeMap())) as it, open_session() as session:
        client = Caller(it.address, session)
        for _ in range(5):
            answers = await asyncio.gather(*(client.post({"msg": f"m{n}"}) for n in range(40)))
            assert {status for status, _ in answers} == {200}
        assert len(it.workers) == 2
        assert min(it.connections()) > 0
        for _ in range(8):
            health = await asked_anew(it.address, "/healthz")
            assert health["counters"]["messages_acknowledged"] == sum(health["latency"]) == 200
            while (pending := (await asked_anew(it.address, "/queue"))["pending"]) is None:
                pass  # the store was too busy to tell
            assert pending == 200
        async with session.get(f"{it.address.url}/metrics") as response:
            text = await response.text()
        assert "microq_messages_acknowledged_total 200.0" in text
        assert "process_cpu_seconds_total" not in text, "of one worker of two it would be wrong"
        assert it.log.count("is ready") == 1
        os.killpg(it.process.pid, signal.SIGTERM)
        assert await it.ended() == 0
        assert it.log.count("stopped") == 1


async def test_open_requests_of_all_workers_are_answered(tmp_path: Path) -> None:
    log = Held()
    async with running(tmp_path, logging_app(log)) as it, open_session() as session:
        client = Caller(it.address, session)
        sends: dict[str, asyncio.Future[tuple[int, Any]]] = {}
        # A worker writes to a logging-service once at a time, so two at the same time are of two workers.
        while len(log.asked) < 2:
            name = str(len(sends))
            sends[name] = asyncio.ensure_future(client.post({"msg": "a", "uuid": name}))
            await asyncio.sleep(0.05)
        it.process.send_signal(signal.SIGTERM)
        await until(lambda: not it.listens())
        log.go.set()
        for name in log.asked[:2]:
            assert (await sends[name])[0] == 200
        await asyncio.gather(*sends.values(), return_exceptions=True)
        assert await it.ended() == 0


async def test_a_worker_that_dies_ends_the_whole_facade_and_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, logging_app(FakeMap())) as it:
        dead = it.workers[1]
        dead.kill()
        assert await it.ended() == 1
        assert f"(pid {dead.pid}) ended by SIGKILL; the others end with it" in it.log
        assert it.log.splitlines()[-1] == f"microq: worker 2 of 2 (pid {dead.pid}) ended by SIGKILL"


async def test_worker_signalled_alone_counts_as_ended_by_itself(tmp_path: Path) -> None:
    async with running(tmp_path, logging_app(FakeMap()), workers=3) as it:
        it.workers[0].terminate()
        assert await it.ended() == 1
        assert "ended with status 0; the others end with it" in it.log


async def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    async with running(tmp_path, logging_app(FakeMap())) as it:
        it.process.kill()
        assert await it.ended() == -signal.SIGKILL
        assert not it.listens()


async def test_a_port_that_other_workers_share_is_taken(tmp_path: Path) -> None:
    async with running(tmp_path, logging_app(FakeMap())) as it:
        for workers in (1, 2):
            output = tmp_path / f"{workers}.log"
            file = written(tmp_path, workers, Address("127.0.0.1", free_ports(1)[0]), it.address.port)
            async with spawned(FACADE, output, "facade", "--config", str(file)) as second:
                assert await status_of(second) == 4
            assert f"cannot listen on {it.address}: Address already in use" in output.read_text()
            ready = {"status": "success", "service": f"facade-{it.address.port}"}
            assert await asked_anew(it.address, "/readyz") == ready


async def test_workers_that_cannot_begin_end_as_one_process_would(tmp_path: Path) -> None:
    output, (port,) = tmp_path / "facade.log", free_ports(1)
    file = written(tmp_path, 2, Address("127.0.0.1", free_ports(1)[0]), port)
    async with spawned(FACADE, output, "lonely", "facade", "--config", str(file)) as process:
        assert await status_of(process) == 5
    assert "microq: no cluster answered" in output.read_text()
    assert "is ready" not in output.read_text()


async def test_workers_that_do_not_end_in_time_are_killed(tmp_path: Path) -> None:
    output = tmp_path / "deaf.log"
    async with spawned(DEAF, output) as process:
        await until(lambda: "is ready" in output.read_text())
        left = psutil.Process(process.pid).children()
        process.terminate()
        assert await status_of(process) == 1
    assert len(left) == 2
    assert not any(alive(worker) for worker in left)
    assert "2 workers did not end in 0.2 s, and were killed" in output.read_text()


def test_each_worker_writes_its_own_row_and_reads_all() -> None:
    health = Health("facade-1", 3)
    for worker in range(3):
        assert not health.started
        health.become(worker)
        health.count("messages_acknowledged", worker + 1)
        health.observe(0.5)
        health.wait_for(10 + worker)
        health.start()
    assert health.started
    assert {name: number for name, number in health.counters.items() if number} == {"messages_acknowledged": 6}
    assert health.latency
    assert (sum(health.latency.counts), health.latency.sum) == (3, 1.5)
    assert health.pending == 33
    health.wait_for(0)
    assert health.pending == 21


def test_what_is_no_counter_of_a_service_is_not_counted() -> None:
    with pytest.raises(KeyError):
        Health("logging-1").count("messages_received")
    assert Health("logging-1").latency is None
