"""The server that forks the services: what it starts are processes like any other, and outlive it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from support.fakes import until
from support.project import Project

from microq.fleet import Role
from microq.supervisor import records
from microq.supervisor.process import UNKNOWN, Child, ForkServer, forking
from microq.supervisor.topology import child_environment, service_argv, specs

DEADLINE = 60.0


@asynccontextmanager
async def server(project: Project) -> AsyncIterator[ForkServer]:
    """A server, of which nothing is left at the end."""
    async with (
        asyncio.timeout(DEADLINE),
        asyncio.TaskGroup() as tasks,
        forking(child_environment(project.config, "the-run"), tasks) as forks,
    ):
        yield forks
    assert project.alive() == []


def argv(project: Project) -> list[str]:
    """Return the command line of the service that needs no cluster."""
    spec = next(spec for spec in specs(project.config) if spec.role is Role.CONFIG)
    return service_argv(spec, project.folder / "config.toml")


async def started(forks: ForkServer, project: Project, name: str = "config-1") -> tuple[Child, Path]:
    log_file = project.folder / f"{name}.log"
    child = await forks.start(argv(project), log_file)
    await until(lambda: "is ready" in log_file.read_text())
    return child, log_file


async def asked_while_stopped(forks: ForkServer, project: Project) -> tuple[psutil.Process, asyncio.Task[Child]]:
    """Ask the server for a service while it is stopped; return its process, and who waits."""
    process = psutil.Process(await forks.warm())
    process.suspend()
    asked = asyncio.create_task(forks.start(argv(project), project.folder / "config-1.log"))
    await asyncio.sleep(0)
    return process, asked


def files_of(child: Child) -> list[Path]:
    return [Path(f"/proc/{child.pid}/fd/{number}").readlink() for number in range(3)]


def parent(child: Child) -> psutil.Process:
    found = psutil.Process(child.pid).parent()
    assert found
    return found


async def test_a_forked_service_is_a_process_of_its_own(project: Project) -> None:
    async with server(project) as forks:
        child, log_file = await started(forks, project)
        process = psutil.Process(child.pid)
        port = project.config.service_ips.config_service.port
        assert process.name() == f"config-{port}"
        assert " ".join(process.cmdline()).strip() == f"microq config --port {port}"
        assert os.getpgid(child.pid) == os.getsid(child.pid) == child.pid
        assert process.cwd() == str(project.folder)
        assert records.environment_of(process)["MICROQ_RUN"] == "the-run"
        assert child.returncode is None
        # Nothing of the server's is open in it: who waits for the server's end would wait for the service's.
        assert files_of(child) == [Path(os.devnull), log_file, log_file]
        os.killpg(child.pid, signal.SIGTERM)
        assert await child.wait() == 0
        assert "stopped" in log_file.read_text()


async def test_how_a_forked_service_ended_is_told(project: Project) -> None:
    async with server(project) as forks:
        child, log_file = await started(forks, project)
        child.kill()
        assert await child.wait() == -signal.SIGKILL
        child.kill()  # it is gone, which is no error
        wrong = await forks.start([*argv(project), "--port", "no number"], log_file)
        assert await wrong.wait() == 2
        assert "invalid int value" in log_file.read_text()


async def test_services_outlive_fork_server_and_a_new_one_starts(project: Project) -> None:
    async with server(project) as forks:
        child, _ = await started(forks, project)
        first = parent(child)
        first.kill()
        await until(lambda: not records.alive(first))
        assert records.alive(psutil.Process(child.pid))
        child.kill()
        assert await child.wait() == UNKNOWN
        after, _ = await started(forks, project, "config-2")
        assert parent(after) != first
        after.kill()
        await after.wait()


async def test_a_server_that_ends_while_it_is_asked_is_an_error(project: Project) -> None:
    async with server(project) as forks:
        process, asked = await asked_while_stopped(forks, project)
        process.kill()
        with pytest.raises(OSError, match="ended"):
            await asked


async def test_what_is_no_service_is_executed(project: Project) -> None:
    async with server(project) as forks:
        log_file = project.folder / "other.log"
        child = await forks.start([sys.executable, "-c", "print('by itself')"], log_file)
        assert await child.wait() == 0
        assert log_file.read_text() == "by itself\n"


async def test_a_start_that_is_given_up_leaves_no_service(project: Project) -> None:
    async with server(project) as forks:
        process, asked = await asked_while_stopped(forks, project)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        process.resume()


async def test_the_end_of_the_server_ends_what_it_forked(project: Project) -> None:
    async with server(project) as forks:
        await started(forks, project)
