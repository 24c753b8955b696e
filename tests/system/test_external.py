"""External programs under the supervisor: started, seen ready, killed, paused, restarted, and their ends."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from support.foreign import foreign_project, program
from support.project import Project

from microq.aio import poll_until
from microq.errors import ExitedEarlyError, MachineError, UsageError
from microq.fleet import ProcessState, Role
from microq.supervisor import runs
from microq.supervisor.records import alive
from microq.supervisor.supervisor import Supervisor, supervise

ALONE = "managed = false\n"
"""The members run elsewhere: these tests need none."""

PYTHON = f"{sys.executable} service.py"


def project_of(folder: Path, **ready: str) -> Project:
    """A project whose four services are external; `ready` are the lines of some of their tables."""
    roles = {"facade": "fixed", "logging": "logging", "messages": "fixed", "config": "fixed"}
    tables = [program(role, f"{PYTHON} {kind} --port {{port}}", ready.get(role, "")) for role, kind in roles.items()]
    return foreign_project(folder, messages=1, of_members=ALONE, extra="".join(tables))


@asynccontextmanager
async def supervised(project: Project) -> AsyncIterator[Supervisor]:
    config = project.config
    async with supervise(config, runs.new_run(config, "up"), None) as supervisor:
        yield supervisor
    assert not project.alive()


async def test_external_program_lives_as_a_service_does(tmp_path: Path) -> None:
    project = project_of(tmp_path, logging="ready = '/log'\n", facade="ready = 'fixed listens on'\n")
    async with supervised(project) as supervisor:
        await supervisor.start(["all"])
        view = await supervisor.snapshot()
        assert {process.state for process in view.processes} == {ProcessState.READY}
        assert all(process.external and not process.silent and process.held is None for process in view.processes)
        assert view.queue is None
        (logging,) = [process.name for process in view.having(Role.LOGGING)]
        first = view.named(logging).pid
        assert first
        assert "logging listens on port" in (supervisor.folder / "logs" / f"{logging}.log").read_text()
        await supervisor.pause([logging])
        assert psutil.Process(first).status() == psutil.STATUS_STOPPED
        await supervisor.resume([logging])
        await supervisor.kill([logging])
        assert not psutil.pid_exists(first)
        await supervisor.start([logging])
        again = (await supervisor.snapshot()).named(logging)
        assert (again.state, again.restarts) == (ProcessState.READY, 1)
        with pytest.raises(UsageError, match="facade is an external program, which cannot run with the defect"):
            await supervisor.sabotage("facade", "no-redelivery")


async def test_program_that_ends_shows_its_last_lines(tmp_path: Path) -> None:
    code = "import time; print(1, flush=True); time.sleep(0.3); print(2); raise SystemExit(7)"
    table = program("config", f'{sys.executable} -c "{code}"', "ready = '1'\n")
    project = foreign_project(tmp_path, messages=1, of_members=ALONE, extra=table)
    async with supervised(project) as supervisor:
        await supervisor.start(["config"])
        (config,) = [process for process in supervisor.processes.values() if process.spec.role is Role.CONFIG]
        heard: list[str] = []
        async for event in supervisor.events():
            heard.append(event.detail)
            if event.kind == ProcessState.EXITED:
                break
        assert heard[-1] == "with status 7; its last lines: | 1 | 2"
        assert config.exit_status == 7


async def test_program_that_cannot_start_says_why(tmp_path: Path) -> None:
    tables = program("config", "./missing") + program("logging", f'{PYTHON} "no role" --port {{port}}')
    project = foreign_project(tmp_path, messages=1, of_members=ALONE, extra=tables)
    async with supervised(project) as supervisor:
        with pytest.raises(MachineError, match=r"config-.* cannot be started: .*missing"):
            await supervisor.start(["config"])
        with pytest.raises(ExitedEarlyError, match="argument role: invalid choice"):
            await supervisor.start(["logging"])


async def test_whole_group_of_a_program_ends(tmp_path: Path) -> None:
    code = "import os, time\nos.fork()\nprint('is', os.getpid(), flush=True)\ntime.sleep(600)\n"
    (tmp_path / "twins.py").write_text(code, encoding="utf-8")
    table = program("config", f"{sys.executable} twins.py", "ready = 'is'\n")
    project = foreign_project(tmp_path, messages=1, of_members=ALONE, extra=table)
    async with supervised(project) as supervisor:
        await supervisor.start(["config"])
        (log,) = (supervisor.folder / "logs").glob("config-*.log")
        assert await poll_until(lambda: log.read_text().count("is") == 2, 0.02, 30)
        pids = [int(word) for word in log.read_text().split() if word != "is"]
        await supervisor.kill(["config"])
        assert not any(psutil.pid_exists(pid) and alive(psutil.Process(pid)) for pid in pids)
