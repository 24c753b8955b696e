"""Do the assignment for many projects, one after another; no project disturbs another one.

Each runs on a copy of its folder, in processes of its own, with limits; `python -m microq.workflows.grade` starts them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from microq import interpreter
from microq.backends.jars import cache_folder
from microq.chaos.matrix import ERROR
from microq.chaos.verdict import Ruling
from microq.config import DEFAULT_FILE, FOLDER, Config, load
from microq.errors import MachineError, MicroqError, UsageError, reason
from microq.fleet import SERVICES, program_of
from microq.supervisor import records
from microq.workflows import Terminal

STARTER = "microq.workflows.grade"
"""The module that starts the assignment with limits."""

NOT_COPIED = (".git", FOLDER, "__pycache__")

NOT_COMPARED = frozenset({*NOT_COPIED, ".venv", "venv", "node_modules"})
"""Folders in which no changes are looked for: they have too many files."""

KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "LANG", "JAVA_HOME", "XDG_CACHE_HOME", "PYTHONPATH")
"""The environment variables that a project gets, beside `LC_...`: others may be secrets."""

LOOK = 1.0
"""Seconds between two checks of the limits."""

END_SECONDS = 20.0
"""Seconds that a project may take to end after it was asked to; then it is killed."""

MOST_RESULT = 16 << 20
"""Bytes of the longest result that is read."""

LAST = 2000
"""Bytes of the end of an error that are shown."""

LEAST_FREE = 1 << 30
"""Bytes that must be free on the disk of the copies."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What each project may use: seconds, bytes of memory of all its processes, and bytes of each file it writes."""

    seconds: float = 600.0
    memory: int = 4 << 30
    file: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Grade:
    """The result of a project: the verdict of its assignment, or `ERROR` if it could not be done, with the reason.

    `held` of `steps` hold. `changed` are files outside its copy that changed while it ran.
    """

    project: str
    folder: str
    verdict: str
    held: int = 0
    steps: int = 0
    why: str = ""
    seconds: float = 0.0
    queue: str = ""
    report: str | None = None
    changed: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    """The roles of the services that are the project's own programs; the others are microq's."""


Tell = Callable[[Grade], None]
"""Called with each project's result when it ends."""


def chosen(folders: Sequence[Path]) -> list[Path]:
    """Return the folders of the projects. Raises `UsageError` if one is not a folder with a configuration."""
    found = list(dict.fromkeys(folder.resolve() for folder in folders))
    for folder in found:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder; name the folders of the projects")
        if not (folder / DEFAULT_FILE).is_file():
            raise UsageError(f"{folder} has no {DEFAULT_FILE}, which says how its programs are started")
    return found


async def grade(folders: Sequence[Path], limits: Limits, home: Path, terminal: Terminal, tell: Tell) -> None:
    """Do the assignment for each project; `home` gets the reports.

    All copies are made first: what a project does to the files of another one does not matter.
    Raises `MachineError` if the disk has too little room for them.
    """
    with tempfile.TemporaryDirectory(prefix="microq-", ignore_cleanup_errors=True) as place:
        works = [Path(place) / f"{number}" for number in range(1, len(folders) + 1)]
        for folder, work in zip(folders, works, strict=True):
            await asyncio.to_thread(_copy, folder, work)
        before = await asyncio.to_thread(_files, folders)
        for number, (folder, work) in enumerate(zip(folders, works, strict=True), 1):
            terminal.note(f"[{number}/{len(folders)}] {folder}")
            found = await _one(folder, work, limits, home / f"{number}-{folder.name}.html")
            now = await asyncio.to_thread(_files, folders)
            tell(_with_changes(found, before, now))
            before = now
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)


# -- copies ------------------------------------------------------------------------------------------------------------


def _copy(folder: Path, work: Path) -> None:
    """Copy a project; a link stays a link, so one out of the project still points there."""
    size = sum(file.lstat().st_size for file in _all_files(folder, frozenset(NOT_COPIED)))
    free = shutil.disk_usage(work.parent).free
    if size + LEAST_FREE > free:
        raise MachineError(f"a copy of {folder} needs {size >> 20} MiB, and only {free >> 20} MiB are free")
    (work / "tmp").mkdir(parents=True)
    ignored = shutil.ignore_patterns(*NOT_COPIED)
    try:
        shutil.copytree(folder, work / "project", symlinks=True, ignore=ignored)
    except shutil.Error as error:  # it has a list of what could not be copied
        source, _, why = error.args[0][0]
        raise MachineError(f"{source} cannot be copied: {why}") from error


def _all_files(folder: Path, without: frozenset[str]) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in without]
        yield from (Path(place) / name for name in names)


Files = dict[str, tuple[int, int, int]]
"""Path -> inode, size, time of the last change."""


def _files(folders: Sequence[Path]) -> Files:
    """Return the files of all projects."""
    found: Files = {}
    for folder in folders:
        for file in _all_files(folder, NOT_COMPARED):
            with suppress(OSError):
                facts = file.lstat()
                found[str(file)] = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
    return found


def _with_changes(found: Grade, before: Files, now: Files) -> Grade:
    changed = tuple(sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path)))
    if not changed:
        return found
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    why = f"while it ran, {changed[0]}{more} changed, outside its copy"
    verdict = ERROR if found.verdict == ERROR else Ruling.FAIL.value
    return dataclasses.replace(found, verdict=verdict, changed=changed, why="; ".join(filter(None, [why, found.why])))


# -- one project -------------------------------------------------------------------------------------------------------


async def _one(folder: Path, work: Path, limits: Limits, report: Path) -> Grade:
    """Do the assignment for one project; whatever happens to it, the result is a grade, and nothing of it is left."""
    began, project = time.monotonic(), work / "project"
    out, err = work / "result.json", work / "errors.txt"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        child = await asyncio.create_subprocess_exec(
            *(*interpreter.PYTHON_M, STARTER, str(limits.file), folder.name),
            cwd=project,
            env=_environment(work / "tmp"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        exceeded = await _watch(child, work, limits)
    finally:
        left = await _end(child, project)
    seconds = round(time.monotonic() - began, 1)
    known = Grade(
        folder.name, str(folder), ERROR, seconds=seconds, programs=await asyncio.to_thread(_programs, project)
    )
    if exceeded:
        return dataclasses.replace(known, why=exceeded)
    found = await asyncio.to_thread(_result, known, out, err, report)
    return dataclasses.replace(found, why="; ".join(filter(None, [found.why, left])))


def _programs(folder: Path) -> tuple[str, ...]:
    """Return the roles of a project's own programs; a configuration that cannot be read is its command's error."""
    with suppress(MicroqError):
        config = load(folder / DEFAULT_FILE, environ={})
        return tuple(role.value for role in SERVICES if program_of(config, role))
    return ()


def _environment(temporary: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith("LC_")}
    return interpreter.environment({**kept, "MICROQ_CACHE": str(cache_folder()), "TMPDIR": str(temporary)})


async def _watch(child: asyncio.subprocess.Process, work: Path, limits: Limits) -> str:
    """Wait for the end of a project; return the limit that it exceeded, empty if none."""
    ending = asyncio.ensure_future(child.wait())
    end = asyncio.get_running_loop().time() + limits.seconds
    try:
        while not (await asyncio.wait([ending], timeout=LOOK))[0]:
            if asyncio.get_running_loop().time() >= end:
                return f"it was not finished after {limits.seconds:g} s"
            used = await asyncio.to_thread(_memory, child.pid)
            if used > limits.memory:
                return f"its processes used {used >> 20} MiB of memory, more than {limits.memory >> 20} MiB"
            if shutil.disk_usage(work).free < LEAST_FREE:
                return "it filled the disk"
    finally:
        ending.cancel()
    return ""


def _tree(pid: int) -> list[psutil.Process]:
    """Return a process and all that descend from it."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _memory(pid: int) -> int:
    """Return the resident memory of a process and its descendants, in bytes; shared memory counts for each."""
    total = 0
    for process in _tree(pid):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


async def _end(child: asyncio.subprocess.Process, project: Path) -> str:
    """End everything of a project; return what had to be ended after its command, empty if nothing."""
    pid = child.pid if child.returncode is None else None  # a pid that is free may be another process's by now
    # It goes on if the grade is cancelled: nothing may be left running.
    return await asyncio.shield(asyncio.ensure_future(asyncio.to_thread(_sweep, pid, project)))


def _sweep(pid: int | None, project: Path) -> str:
    tree = _tree(pid) if pid else []
    for process in tree[:1]:
        records.signal_ours(process, signal.SIGCONT)
        records.signal_ours(process, signal.SIGTERM)
        records.wait_gone([process], END_SECONDS)
        tree += _tree(process.pid) if records.alive(process) else []
    for process in tree:
        records.signal_ours(process, signal.SIGKILL)
    config = Config("a project", project)
    left = records.leftovers(config)
    try:
        records.sweep(config, left)
    except MachineError as error:
        return str(error)
    return "" if tree or not left else f"it left {len(left)} processes running: they were ended"


def _result(known: Grade, out: Path, err: Path, report: Path) -> Grade:
    """Read the result that a project's command printed, and keep its report."""
    try:
        with out.open("rb") as file:
            body: dict[str, Any] = json.loads(file.read(MOST_RESULT))
        steps = body["steps"]
        wrong = [step for step in steps if step["ruling"] != Ruling.PASS]
        why = f"step {wrong[0]['number']}, {wrong[0]['title']}: {wrong[0]['came']}" if wrong else ""
        found = dataclasses.replace(
            known,
            verdict=str(Ruling(body["verdict"])),
            held=int(body["held"]),
            steps=len(steps),
            why=why,
            queue=str(body["queue"]),
        )
        if body["report"]:
            shutil.copyfile(body["report"], report)
            found = dataclasses.replace(found, report=str(report))
    except OSError as error:
        return dataclasses.replace(known, why=f"its result cannot be read: {reason(error)}")
    except (ValueError, LookupError, TypeError):
        return dataclasses.replace(known, why=_error(err))
    return found


def _error(err: Path) -> str:
    """Return the error that a command printed: the last line, as JSON if it is one of microq."""
    with suppress(OSError), err.open("rb") as file:
        file.seek(max(0, err.stat().st_size - LAST))
        lines = file.read().decode(errors="replace").strip().splitlines() or ["it ended without a result"]
        with suppress(ValueError, LookupError, TypeError):
            return str(json.loads(lines[-1])["message"])
        return lines[-1]
    return "its errors cannot be read"


# -- in the process of a project ---------------------------------------------------------------------------------------


def main(file: str, student: str) -> None:
    """Become the command `microq assignment`, with a limit for the size of each file that it and its children write."""
    for limit, most in ((resource.RLIMIT_FSIZE, int(file)), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(limit)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (least, least))
    command = [*interpreter.PYTHON_M, "microq", "assignment", "--json", f"--student={student}"]
    os.execv(sys.executable, command)  # noqa: S606 - no shell is needed


if __name__ == "__main__":
    main(*sys.argv[1:])
