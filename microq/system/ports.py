"""Ports: who holds one that we need, and which ones are free."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import cache
from pathlib import Path

import psutil

from microq.config import Address
from microq.errors import MachineError, PortTakenError
from microq.system.records import environment_of, supervised_by

_PORTS = range(10_000, 20_000)

KEPT = 1000
"""Ports that one process keeps reserved; a matrix of runs needs more, one after the other."""


def check(name: str, address: Address) -> None:
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
            project = environment_of(process).get("MICROQ_PROJECT") or supervised_by(process)
            ours = f"it is a system of microq: `cd {project} && microq down` ends it" if project else other
            return f"pid {connection.pid} ({command})", ours
    return "", other


def free(count: int, among: Sequence[int] = _PORTS) -> list[int]:
    """Return ports of the loopback interface that nobody listens on now.

    They are below those that the kernel gives to clients, which might take one of them before a restart needs it.
    """
    return _first(count, among, lambda _port: True)


def reserve(count: int, apart_from: Collection[int] = ()) -> list[int]:
    """Return free ports, none of `apart_from`, that no other system of this user is given while this process lives.

    A server binds its ports seconds after they were chosen, when they may be free for somebody else as well. Of what
    this process reserved the newest `KEPT` ports stay so.
    """
    found = _first(count, _PORTS, lambda port: port not in apart_from and port not in _mine and _lock(port))
    _mine.extend(found)
    while len(_mine) > KEPT:
        fcntl.lockf(_locks(), fcntl.LOCK_UN, 1, _mine.popleft())
    return found


def _first(count: int, among: Sequence[int], fits: Callable[[int], bool]) -> list[int]:
    found: list[int] = []
    for port in random.sample(among, len(among)):
        if len(found) == count:
            break
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if fits(port):
                found.append(port)
    if len(found) < count:
        raise MachineError(f"no {count} free ports from {min(among)} to {max(among)}")
    return found


_mine: deque[int] = deque()


def _lock(port: int) -> bool:
    """Lock the byte that stands for a port; the kernel unlocks it however this process ends."""
    file = _locks()
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@cache
def _locks() -> int:
    """Open the file whose bytes are locked: one for all systems of this user, never written."""
    path = Path(tempfile.gettempdir()) / f"microq-{os.getuid()}.ports"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
