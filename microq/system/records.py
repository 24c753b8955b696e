"""What is on disk of a running system: the lock, who supervises, which children there are.

A child is known by pid and create time, so that a later process with the same pid is never taken for ours; and every
child carries `MICROQ_RUN` and `MICROQ_PROJECT` in its environment, which finds those whose record was not yet written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

import psutil

from microq.config import Address, Config
from microq.errors import AlreadyRunningError, MachineError, PortTakenError

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


def new_run(config: Config, what: str) -> Path:
    """Make the folder of a new run, readable by this user only, and return it."""
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
    runs = config.folder / "runs"
    try:
        config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        runs.mkdir(mode=0o700, exist_ok=True)
        for number in range(1000):
            folder = runs / (f"{stamp}-{what}" if not number else f"{stamp}-{what}-{number}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                return folder
    except OSError as error:
        raise MachineError(f"cannot make a run folder in {runs}: {error.strerror}") from error
    raise MachineError(f"{runs} holds too many runs of this second")


@contextmanager
def locked(config: Config) -> Iterator[None]:
    """Be the only supervisor of this project for as long as this process lives.

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
            os.write(file.fileno(), str(os.getpid()).encode())
        except OSError as error:
            raise MachineError(f"cannot write in {config.folder}: {error.strerror}") from error
        yield


def supervisor_pid(config: Config) -> int | None:
    """Return the pid of the supervisor that holds the lock, or None."""
    try:
        with (config.folder / "lock").open("r") as file:
            while not _lock(file, fcntl.LOCK_SH):
                file.seek(0)
                if written := file.read():
                    return int(written)
                time.sleep(_TICK)  # it holds the lock, and writes its pid next
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise MachineError(f"cannot look into {config.folder}: {error.strerror}") from error
    return None


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
            record = {"pid": pid, "created": psutil.Process(pid).create_time(), "run": self.run}
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
            if abs(process.create_time() - record["created"]) < _CLOCK_SLACK and alive(process):
                found[process.pid] = Leftover(file.stem, process)
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            continue  # no record any more, or no such process
    for process in psutil.process_iter():
        if process.pid not in found and process.pid != os.getpid():
            environment = _environment(process)
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
    return [p for p in psutil.process_iter() if _group(p.pid) == group and _environment(p).get("MICROQ_RUN") == run]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def check_port(name: str, address: Address) -> None:
    """Raise `PortTakenError` if somebody listens on a port that we need."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise MachineError(f"{name} cannot listen on {address}: {error.strerror}") from error
            holder, remedy = _holder(address.port)
            raise PortTakenError(name, str(address), holder or "a process that cannot be seen", remedy) from error


def _holder(port: int) -> tuple[str, str]:
    other = "end it, or give another address in config.toml"
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return "another process", other
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        if listens and connection.pid:
            try:
                process = psutil.Process(connection.pid)
                command = " ".join(process.cmdline())[:120]
            except psutil.Error:
                continue
            project = _environment(process).get("MICROQ_PROJECT")
            ours = f"it is a system of microq: `cd {project} && microq down` ends it" if project else other
            return f"pid {connection.pid} ({command})", ours
    return "", other


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
