"""`Process` against small real children that behave badly."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from support import commands

from microq.config import Address, Config
from microq.errors import ExitedEarlyError, MachineError, StartTimeoutError, UsageError
from microq.fleet import Event, ProcessState, Role
from microq.supervisor import records
from microq.supervisor.process import TERM_SECONDS, Process, executing
from microq.supervisor.readiness import says, seen, until
from microq.supervisor.topology import ProcessSpec, child_environment

PATIENT = "import time; print('ready', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + PATIENT
DYING = "import sys; print('the disk is on fire'); sys.exit(7)"
MUTE = "import time; print('still looking', flush=True); time.sleep(60)"
FLOOD = """
import os, time
os.write(1, b"ready\\n")
for _ in range(150):
    os.write(1, (b"x" * 99 + b"\\n") * 10_000)
    time.sleep(0.01)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print("grandchild", child.pid, "ready", flush=True)
time.sleep(60)
"""


class Nursery:
    """Spawns children that are watched, and remembers what was told of them."""

    def __init__(self, folder: Path, tasks: asyncio.TaskGroup) -> None:
        self.folder, self.tasks = folder, tasks
        self.config = Config("the test", folder)
        self.config.folder.mkdir(exist_ok=True)
        self.book = records.Book(self.config, "the-run")
        self.events: list[Event] = []
        self.children: list[Process] = []

    def child(self, log_file: Path | None = None) -> Process:
        spec = ProcessSpec("child-1", Role.CONFIG, Address("127.0.0.1", 1))
        self.children.append(Process(spec, log_file or self.folder / "child.log", self.book, self.events.append))
        return self.children[-1]

    async def spawn(self, child: Process, script: str) -> None:
        await child.spawn([sys.executable, "-c", script], executing(child_environment(self.config, self.book.run)))
        self.tasks.create_task(child.watch())

    async def started(self, script: str) -> Process:
        child = self.child()
        await self.spawn(child, script)
        await until(child, says(child, "ready"), 30)
        return child

    def told(self) -> list[tuple[str, str]]:
        return [(event.kind, event.detail) for event in self.events]


@asynccontextmanager
async def nursery(folder: Path) -> AsyncIterator[Nursery]:
    async with asyncio.TaskGroup() as tasks:
        found = Nursery(folder, tasks)
        try:
            yield found
        finally:
            for child in found.children:
                await child.kill()


def records_of(home: Nursery) -> list[Path]:
    return list((home.config.folder / "children").glob("*.json"))


async def test_a_life_is_told_and_recorded(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        child = await home.started(PATIENT)
        assert child.pid is not None
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
        assert [file.name for file in records_of(home)] == ["child-1.json"]
        await child.stop()
        assert child.pid is None
        assert not records_of(home)
        assert [kind for kind, _ in home.told()] == ["starting", "ready", "stopping", "stopped"]


async def test_process_ignoring_sigterm_is_killed_after_grace(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        child = await home.started(STUBBORN)
        began = time.monotonic()
        await child.stop(0.3)
        assert 0.3 <= time.monotonic() - began < TERM_SECONDS
        assert child.exit_status == -signal.SIGKILL
        assert ("stopping", "did not end in 0.3 s, killing it") in home.told()
        assert home.told()[-1] == ("stopped", "by SIGKILL")


async def test_an_early_death_carries_its_status_and_its_last_words(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        child = home.child()
        await home.spawn(child, DYING)
        with pytest.raises(ExitedEarlyError) as caught:
            await until(child, says(child, "ready"), 30)
        assert (caught.value.status, caught.value.why) == (7, ": the disk is on fire")
        assert "the disk is on fire" in str(caught.value)
        assert child.state is ProcessState.EXITED
        assert home.told()[-1] == ("exited", "with status 7")


async def test_a_start_that_takes_too_long_carries_the_last_words(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        child = home.child()
        await home.spawn(child, MUTE)
        await seen(child, says(child, "still looking"), 30)
        with pytest.raises(StartTimeoutError) as caught:
            await until(child, says(child, "ready"), 1)
        assert caught.value.seconds >= 1
        assert caught.value.why == ": still looking"
        assert child.up


async def test_words_of_an_earlier_life_make_nobody_ready(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        child = await home.started(PATIENT)
        await child.stop()
        await home.spawn(child, MUTE)
        with pytest.raises(StartTimeoutError) as caught:
            await until(child, says(child, "ready"), 0.5)
        assert "ready" not in caught.value.why
        assert (tmp_path / "child.log").read_text(encoding="utf-8").startswith("ready")


async def test_a_flood_of_output_slows_nothing_and_fills_no_memory(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        before = psutil.Process().memory_info().rss
        child = home.child()
        await home.spawn(child, FLOOD)
        await until(child, says(child, "x" * 99), 30)
        async with asyncio.timeout(60):
            while child.log_file.stat().st_size <= 20 << 20:
                assert len(child.new_log()) <= 1 << 20
                await asyncio.sleep(0.01)
        await child.stop()
        assert child.exit_status == -signal.SIGTERM
        assert psutil.Process().memory_info().rss - before < 40 << 20
    child.log_file.unlink()


async def test_stop_returns_when_the_grandchild_is_gone_too(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        child = await home.started(PARENT)
        grandchild = psutil.Process(int(child.new_log().split()[1]))
        assert grandchild.is_running()
        await child.stop()
        assert not records.alive(grandchild)
        assert child.exit_status == -signal.SIGTERM


async def test_only_leader_that_dies_leaves_no_process(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        child = await home.started(PARENT)
        grandchild = psutil.Process(int(child.new_log().split()[1]))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        await child.ended.wait()
        assert not records.alive(grandchild)
        assert home.told()[-1] == ("exited", "by SIGKILL")


async def test_kill_reports_the_signal(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        child = await home.started(PATIENT)
        await child.kill()
        assert (child.state, child.exit_status) == (ProcessState.EXITED, -signal.SIGKILL)
        assert home.told()[-1] == ("exited", "by SIGKILL")
        await child.kill()  # of what is gone: nothing to do
        await child.stop()


async def test_pause_and_resume_are_seen_by_the_kernel(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        child = await home.started(PARENT)
        seen = psutil.Process(child.pid)
        group = [seen, *seen.children()]
        await child.pause()
        assert child.state is ProcessState.PAUSED
        assert [process.status() for process in group] == [psutil.STATUS_STOPPED] * 2
        with pytest.raises(UsageError, match="paused; only a ready process"):
            await child.pause()
        await child.resume()
        assert not any(process.status() == psutil.STATUS_STOPPED for process in group)
        with pytest.raises(UsageError, match="ready; only a paused process"):
            await child.resume()


async def test_a_signal_from_outside_is_seen_and_can_be_undone(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        child = await home.started(PATIENT)
        assert child.pid
        os.kill(child.pid, signal.SIGSTOP)
        await asyncio.to_thread(commands.until, lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
        child.look()
        assert child.state.value == "paused"
        assert (home.events[-1].kind, home.events[-1].detail) == ("paused", "by a signal of another process")
        os.kill(child.pid, signal.SIGCONT)
        await asyncio.to_thread(commands.until, lambda: psutil.Process(child.pid).status() != psutil.STATUS_STOPPED)
        child.look()
        assert child.state.value == "ready"
        os.kill(child.pid, signal.SIGSTOP)
        await asyncio.to_thread(commands.until, lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
        await child.resume()
        assert child.state.value == "ready"


@pytest.mark.parametrize("verb", ["stop", "kill"])
async def test_what_is_paused_can_be_ended(tmp_path: Path, verb: str) -> None:
    async with nursery(tmp_path) as home:
        child = await home.started(PATIENT)
        await child.pause()
        began = time.monotonic()
        await getattr(child, verb)()
        assert time.monotonic() - began < TERM_SECONDS
        assert not child.up


async def test_restarts_are_counted(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        child = await home.started(PATIENT)
        first = child.pid
        assert child.restarts == 0
        await child.kill()
        await home.spawn(child, PATIENT)
        await until(child, says(child, "ready"), 30)
        assert (child.restarts, child.exit_status) == (1, None)
        assert child.pid != first


async def test_no_folder_for_the_log_is_an_error_of_the_machine(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        child = home.child(tmp_path / "nowhere" / "child.log")
        with pytest.raises(MachineError, match=r"child-1 cannot be started: No such file or directory: .*nowhere"):
            await home.spawn(child, PATIENT)
        assert not child.up


async def test_a_log_that_cannot_be_written_is_an_error_of_the_machine(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        (tmp_path / "child.log").mkdir()  # root may write into every file, but into no folder
        with pytest.raises(MachineError, match="child-1 cannot be started: Is a directory"):
            await home.spawn(home.child(), PATIENT)


async def test_no_program_is_an_error_of_the_machine(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        child = home.child()
        with pytest.raises(MachineError, match="child-1 cannot be started"):
            await child.spawn([str(tmp_path / "no-java")], executing({}))
        assert not child.up


async def test_a_child_that_cannot_be_recorded_does_not_stay(tmp_path: Path) -> None:
    async with nursery(tmp_path) as home:
        (home.config.folder / "children").rmdir()
        with pytest.raises(MachineError, match="child-1 cannot be started"):
            await home.spawn(home.child(), PATIENT)
        assert not records.leftovers(home.config)
