"""The records of a running system on disk: the lock with the supervisor's pid, and a record of each child.

A child is identified by its pid and create time, and by its command or its run, so another process that gets its pid
later is not mistaken for it.
Every child has `MICROQ_RUN`, `MICROQ_PROJECT`, `MICROQ_NAME` and `MICROQ_SUPERVISOR` (its parent's pid) in its
environment: by these a child without a record is found.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

import psutil

from microq.config import FOLDER, NAME_VARIABLE, NAMES, Config
from microq.errors import AlreadyRunningError, MachineError, MicroqError
from microq.fleet import LEFT, LOST, RUNNING, SystemView
from microq.supervisor import runs

MARKS = ("MICROQ_PROJECT", NAME_VARIABLE, "MICROQ_RUN", "MICROQ_SUPERVISOR")
"""The environment variables that mark a child of a system."""

_SOCKET_PATH_LIMIT = 100
"""Bytes of the longest path of a Unix socket, with a margin: macOS allows 104, Linux 108."""

_CLOCK_SLACK = 1.0
"""Seconds by which two readings of a process's create time may differ."""

_TICK = 0.01
"""Seconds between two checks of something that sends no event."""


def socket_path(config: Config) -> Path:
    """Return the control socket's path: in the project's folder, or in a temporary one if that path is too long.

    A running system notes its path in the lock, because another terminal may have another temporary folder.
    """
    _, _, noted = _holder(config)
    return Path(noted) if noted else _chosen_socket_path(config)


def _chosen_socket_path(config: Config) -> Path:
    path = config.folder / "control.sock"
    name = f"microq-{os.getuid()}-{sha256(os.fsencode(path)).hexdigest()[:16]}"
    places = [path, *(Path(folder) / name / path.name for folder in (tempfile.gettempdir(), "/tmp"))]  # noqa: S108 - it is made for one user
    return next((place for place in places if len(os.fsencode(place)) <= _SOCKET_PATH_LIMIT), places[-1])


@contextmanager
def locked(config: Config, folder: Path = Path()) -> Iterator[None]:
    """Hold the lock of this system while the body runs; the files of the run are in `folder`.

    The kernel frees the lock when this process ends in any way. Raises `AlreadyRunningError` and `MachineError`.
    """
    with contextlib.ExitStack() as stack:
        try:
            config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = stack.enter_context((config.folder / "lock").open("a+"))
            # A reader of the lock holds it for a moment too; only a supervisor writes its pid.
            while not _lock(file, fcntl.LOCK_EX):
                pid = supervisor_pid(config)
                if pid is not None:
                    raise AlreadyRunningError(pid, str(config.project), config.name)
            if (pid := lost_supervisor(config)) is not None:
                raise AlreadyRunningError(pid, str(config.project), config.name)
            file.truncate(0)
            os.write(file.fileno(), os.fsencode(f"{os.getpid()}\n{folder}\n{_chosen_socket_path(config)}"))
        except OSError as error:
            raise MachineError(f"cannot write in {config.folder}: {error.strerror}") from error
        yield


def supervisor_pid(config: Config) -> int | None:
    """Return the pid of the supervisor that holds the lock, or None."""
    pid, _, _ = _holder(config)
    return int(pid) if pid else None


def lost_supervisor(config: Config) -> int | None:
    """Return the pid of a supervisor whose folder, and so its lock, was removed; its children have it as a mark.

    Call this only if no process holds the lock.
    """
    for process, marks in _marked(config):
        pid = marks.get("MICROQ_SUPERVISOR", "")
        with contextlib.suppress(psutil.Error):
            if pid == str(process.ppid()) and pid not in {"1", str(os.getpid())}:
                return int(pid)
    return None


def marked() -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    """Yield the other processes that carry the mark of any project, with their environments."""
    for process in psutil.process_iter():
        environment = environment_of(process)
        if "MICROQ_RUN" in environment and process.pid != os.getpid() and alive(process):
            yield process, environment


def _marked(config: Config) -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    """Yield the marked processes of this system."""
    project = os.path.realpath(config.project)
    for process, environment in marked():
        same = environment.get(NAME_VARIABLE, "") == config.name
        folder = environment.get("MICROQ_PROJECT")
        if same and folder and os.path.realpath(folder) == project:
            yield process, environment


def in_force(config: Config, sets: Iterable[str] = ()) -> Config:
    """Return the configuration of the running system with `sets` on top; `config` itself if none runs."""
    _, folder, _ = _holder(config)
    if not folder:
        return config
    return runs.config_of(Path(folder), config.project, config.name, sets)


def _holder(config: Config) -> tuple[str, str, str]:
    """Return pid, folder of the run and control socket of the process that holds the lock; empty if it is free."""
    try:
        with (config.folder / "lock").open("r") as file:
            while not _lock(file, fcntl.LOCK_SH):
                file.seek(0)
                if written := file.read():
                    pid, folder, socket, *_ = [*written.split("\n"), "", ""]
                    return pid, folder, socket
                time.sleep(_TICK)  # it has the lock, but has not written its pid yet
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise MachineError(f"cannot read {config.folder}: {error.strerror}") from error
    return "", "", ""


def _lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Book:
    """The records of the children of one run, one small file each."""

    def __init__(self, config: Config, run: str) -> None:
        self.run = run
        self._folder = config.folder / "children"
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def add(self, name: str, pid: int) -> None:
        """Record a child that was just spawned."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            record = {"pid": pid, "created": process.create_time(), "command": process.cmdline(), "run": self.run}
            (self._folder / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")

    def remove(self, name: str) -> None:
        """Remove the record of a child that is gone."""
        (self._folder / f"{name}.json").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process that an earlier supervisor of this project left behind."""

    name: str
    process: psutil.Process


def leftovers(config: Config) -> list[Leftover]:
    """Return the recorded children that are alive, and all other processes with this project's marks."""
    found: dict[int, Leftover] = {}
    for file in sorted((config.folder / "children").glob("*.json")):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            process = psutil.Process(record["pid"])
            same = abs(process.create_time() - record["created"]) < _CLOCK_SLACK and alive(process)
            # A process of microq changes its title soon after its start.
            if same and (process.cmdline() == record["command"] or _is_of(process, record["run"])):
                found[process.pid] = Leftover(file.stem, process)
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            continue  # the record or the process is gone
    for process, _ in _marked(config):
        found.setdefault(process.pid, Leftover(f"pid {process.pid}", process))
    return list(found.values())


def sweep(config: Config, found: list[Leftover], seconds: float = 5.0) -> None:
    """End leftovers with SIGTERM, after `seconds` with SIGKILL; then remove their records and the control socket.

    Raises `MachineError` if a process does not end.
    """
    processes = [leftover.process for leftover in found]
    for process in processes:
        signal_ours(process, signal.SIGCONT)
        signal_ours(process, signal.SIGTERM)
    for process in wait_gone(processes, seconds):
        signal_ours(process, signal.SIGKILL)
    left = wait_gone(processes, seconds)
    if left:
        raise MachineError(f"these processes do not end: {', '.join(f'pid {p.pid}' for p in left)}")
    for file in (config.folder / "children").glob("*.json"):
        file.unlink(missing_ok=True)
    socket_path(config).unlink(missing_ok=True)


def alive(process: psutil.Process) -> bool:
    """Return whether a process runs. A zombie does not: its parent may never reap it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal, for example by Ctrl-Z."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def wait_gone(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until none of these processes runs; return those that still run after `seconds`."""
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if alive(process)]) and time.monotonic() < deadline:
        time.sleep(_TICK)
    return left


def signal_ours(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process; psutil makes sure that its pid was not given to another process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def in_group(group: int, run: str, *, ending: bool = False) -> list[psutil.Process]:
    """Return the processes of a run that are in a process group, without zombies; `ending`: with those at their end.

    A process that ends loses its memory first, with the marks in its environment; it may hold a port a little longer.
    """
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return []
    there = (process for process in psutil.process_iter() if _group(process.pid) == group)
    return [process for process in there if _is_of(process, run) or (ending and _has_no_environment(process))]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def environment_of(process: psutil.Process) -> dict[str, str]:
    """Return a process's environment, with the marks of a child; empty if it cannot be read."""
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def _has_no_environment(process: psutil.Process) -> bool:
    """Return whether a process runs and has no environment; that of another user is unknown."""
    try:
        return not process.environ() and alive(process)
    except (psutil.Error, OSError):
        return False


def _is_of(process: psutil.Process, run: str) -> bool:
    return environment_of(process).get("MICROQ_RUN", "") == run != ""


def system_of(process: psutil.Process) -> Config | None:
    """Return project and name of the system that a process belongs to; None if it belongs to none.

    Children, and a supervisor in the background, carry both in their environment. Another supervisor holds the lock of
    its system, and has the project as its folder or in its command line.
    """
    marks = environment_of(process)
    if project := marks.get("MICROQ_PROJECT"):
        return Config("its process", Path(project), name=marks.get(NAME_VARIABLE, ""))
    try:
        folders = [Path(process.cwd()), *(Path(word) for word in process.cmdline() if word.startswith("/"))]
    except psutil.Error:
        return None
    for folder in folders:
        for lock in (folder / FOLDER / "lock", *folder.glob(f"{FOLDER}/{NAMES}/*/lock")):
            with contextlib.suppress(OSError):
                pid, _, _ = lock.read_text(encoding="utf-8").partition("\n")
                if pid == str(process.pid):
                    named = lock.parent.parent.name == NAMES
                    return Config("its process", folder, name=lock.parent.name if named else "")
    return None


def systems() -> list[SystemView]:
    """Return all systems of this user, sorted by folder: found by their processes, described by their records.

    The environment of another user's process cannot be read, so their systems are not found.
    """
    found: dict[tuple[str, ...], list[psutil.Process]] = {}
    for process, marks in marked():
        found.setdefault(tuple(marks.get(mark, "") for mark in MARKS), []).append(process)
    return [_system(*values, processes=processes) for values, processes in sorted(found.items())]


def _system(folder: str, name: str, run: str, pid: str, *, processes: Sequence[psutil.Process]) -> SystemView:
    config = Config("its folder", Path(folder), name=name)
    begun = [began for process in processes if (began := _began(process)) is not None]
    known = SystemView(folder, name, run, LEFT, min(begun, default=0.0), len(processes))
    holder = None
    with contextlib.suppress(MicroqError):
        holder = supervisor_pid(config)
    if pid and pid == str(holder):
        config, described = _in_force(config)
        page = config.dashboard.address.url if described and config.dashboard.enabled else None
        queue = config.queue.backend if described else None
        return dataclasses.replace(known, state=RUNNING, supervisor=holder, queue=queue, page=page)
    if pid in {str(parent) for process in processes if (parent := _parent(process)) not in {None, 1}}:
        return dataclasses.replace(known, state=LOST, supervisor=int(pid))
    return known


def _in_force(config: Config) -> tuple[Config, bool]:
    """Return the configuration of a running system, and whether it could be read from its run's folder."""
    with contextlib.suppress(MicroqError, OSError):
        return in_force(config), True
    return config, False


def _began(process: psutil.Process) -> float | None:
    with contextlib.suppress(psutil.Error):
        return process.create_time()
    return None


def _parent(process: psutil.Process) -> int | None:
    with contextlib.suppress(psutil.Error):
        return process.ppid()
    return None
