"""What is on disk of a running system: the lock, who supervises, which children there are.

A child is known by pid, create time and command, so that a later process with the same pid is never taken for ours;
and every child carries `MICROQ_RUN` and `MICROQ_PROJECT` in its environment, which finds those whose record was not
yet written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

import psutil

from microq.config import FOLDER, Config
from microq.errors import AlreadyRunningError, MachineError
from microq.system import runs

_SOCKET_PATH_LIMIT = 100
"""Longest path of a Unix socket, with a margin: 104 bytes on macOS, 108 on Linux."""

_CLOCK_SLACK = 1.0
"""Seconds by which two readings of a process's create time may differ."""

_TICK = 0.01
"""Pause in seconds between two looks at what tells nothing by itself."""


def socket_path(config: Config) -> Path:
    """Return the control socket's path: in the project's folder, or in the temporary one if that is too deep."""
    path = config.folder / "control.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
        return path
    name = sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"microq-{os.getuid()}-{name}" / "control.sock"


@contextmanager
def locked(config: Config, folder: Path = Path()) -> Iterator[None]:
    """Be the only supervisor of this project for as long as this process lives; its run's files are in `folder`.

    Raises `AlreadyRunningError`. The kernel frees the lock however the process ends.
    """
    with contextlib.ExitStack() as stack:
        try:
            config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = stack.enter_context((config.folder / "lock").open("a+"))
            # Whoever looks at the lock holds it for that moment; only a supervisor has a pid to tell.
            while not _lock(file, fcntl.LOCK_EX):
                pid = supervisor_pid(config)
                if pid is not None:
                    raise AlreadyRunningError(pid, str(config.project))
            file.truncate(0)
            os.write(file.fileno(), f"{os.getpid()}\n{folder}".encode())
        except OSError as error:
            raise MachineError(f"cannot write in {config.folder}: {error.strerror}") from error
        yield


def supervisor_pid(config: Config) -> int | None:
    """Return the pid of the supervisor that holds the lock, or None."""
    pid, _, _ = _holder(config).partition("\n")
    return int(pid) if pid else None


def in_force(config: Config) -> Config:
    """Return the configuration of the system that runs in this project, else `config` as it is."""
    _, _, folder = _holder(config).partition("\n")
    if not folder:
        return config
    return runs.config_of(Path(folder), config.project)


def _holder(config: Config) -> str:
    """Return what the holder of the lock has written: its pid, and the folder of its run in the next line."""
    try:
        with (config.folder / "lock").open("r") as file:
            while not _lock(file, fcntl.LOCK_SH):
                file.seek(0)
                if written := file.read():
                    return written
                time.sleep(_TICK)  # it holds the lock, and writes its pid next
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise MachineError(f"cannot look into {config.folder}: {error.strerror}") from error
    return ""


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
        """Note a child that was just spawned."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            record = {"pid": pid, "created": process.create_time(), "command": process.cmdline(), "run": self.run}
            (self._folder / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")

    def remove(self, name: str) -> None:
        """Forget a child that is gone."""
        (self._folder / f"{name}.json").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process that an earlier supervisor of this project left behind."""

    name: str
    process: psutil.Process


def leftovers(config: Config) -> list[Leftover]:
    """Return what is alive of the recorded children, and whatever else carries this project's mark."""
    found: dict[int, Leftover] = {}
    for file in sorted((config.folder / "children").glob("*.json")):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            process = psutil.Process(record["pid"])
            same = abs(process.create_time() - record["created"]) < _CLOCK_SLACK and alive(process)
            if same and process.cmdline() == record["command"]:
                found[process.pid] = Leftover(file.stem, process)
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            continue  # no record any more, or no such process
    for process in psutil.process_iter():
        if process.pid not in found and process.pid != os.getpid():
            environment = environment_of(process)
            if "MICROQ_RUN" in environment and environment.get("MICROQ_PROJECT") == str(config.project):
                found[process.pid] = Leftover(f"pid {process.pid}", process)
    return list(found.values())


def sweep(config: Config, found: list[Leftover], seconds: float = 5.0) -> None:
    """End leftovers: SIGTERM, SIGKILL after `seconds`; forget their records and the control socket."""
    processes = [leftover.process for leftover in found]
    for process in processes:
        signal_ours(process, signal.SIGCONT)
        signal_ours(process, signal.SIGTERM)
    for process in wait_gone(processes, seconds):
        signal_ours(process, signal.SIGKILL)
    left = wait_gone(processes, seconds)
    if left:
        raise MachineError(f"these do not go: {', '.join(f'pid {p.pid}' for p in left)}")
    for file in (config.folder / "children").glob("*.json"):
        file.unlink(missing_ok=True)
    socket_path(config).unlink(missing_ok=True)


def alive(process: psutil.Process) -> bool:
    """Return whether a process still runs; one that its parent has not reaped, and may never, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_gone(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until none of these runs; return those that still do after `seconds`."""
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if alive(process)]) and time.monotonic() < deadline:
        time.sleep(_TICK)
    return left


def signal_ours(process: psutil.Process, number: signal.Signals) -> None:
    """Signal a process; psutil makes sure that the pid was not given to another one meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def in_group(group: int, run: str) -> list[psutil.Process]:
    """Return the processes of a run that are in a process group; zombies do not count."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return []
    return [p for p in psutil.process_iter() if _group(p.pid) == group and environment_of(p).get("MICROQ_RUN") == run]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def environment_of(process: psutil.Process) -> dict[str, str]:
    """Return a process's environment, which marks it as ours; empty if it is gone or not to be read."""
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def supervised_by(process: psutil.Process) -> Path | None:
    """Return the project that a process supervises, if it supervises one and can be looked at.

    It holds the lock of its project, and was started in it or for it.
    """
    try:
        folders = [Path(process.cwd()), *(Path(word) for word in process.cmdline() if word.startswith("/"))]
    except psutil.Error:
        return None
    for folder in folders:
        with contextlib.suppress(OSError):
            pid, _, _ = (folder / FOLDER / "lock").read_text(encoding="utf-8").partition("\n")
            if pid == str(process.pid):
                return folder
    return None
