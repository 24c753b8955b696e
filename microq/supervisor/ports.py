"""Ports: the process that listens on one, and free ones."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import shlex
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from pathlib import Path

import psutil

from microq.config import Address, Config, started_addresses, with_addresses
from microq.errors import MachineError, MicroqError, PortTakenError
from microq.fleet import SystemView
from microq.settings import EVERYWHERE
from microq.supervisor.records import in_force, system_of, systems

_PORTS = range(12_000, 20_000)

_NAMED = range(10_100, 12_000)
"""The ports of named systems: no other system uses them, so the port of a process that restarts stays free."""

_BLOCK = 100
"""The distance between the first ports of two named systems."""

KEPT = 1000
"""The number of ports that one process keeps reserved; a matrix of runs reserves more, one run after another."""


def check(name: str, address: Address) -> None:
    """Raise `PortTakenError` if a process listens on a port that microq needs."""
    try:
        _bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise MachineError(f"{name} cannot listen on {address}: {error.strerror}") from error
        holder, remedy = _holder(address)
        raise PortTakenError(name, str(address), holder or "a process of another user", remedy) from error


def _bind(address: Address) -> None:
    """Bind an address for a moment, as a server does; raises `OSError` if it is in use."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address.host, address.port))


def _holder(address: Address) -> tuple[str, str]:
    other = "end it, give another address in config.toml, or let `microq up --name NAME` choose free ones"
    try:
        process = _listener(address)
    except psutil.AccessDenied:
        return "another process", other
    if process is None:
        return "", other
    system = system_of(process)
    if system is None:
        return _named(process), other
    option = f" --name {system.name}" if system.name else ""
    end = f"`cd {shlex.quote(str(system.project))} && microq down{option}` ends it"
    return _named(process), f"it is a system of microq: {end}, `microq up --name NAME` starts another one beside it"


def stranger(address: Address, config: Config) -> str:
    """Return the process that listens at an address and belongs to no system; empty if there is none or it is unknown.

    Processes that a supervisor started, or a user in a project's folder, belong to a system.
    """
    try:
        process = _listener(address)
        if process is None:
            return "" if _is_free(address) else "a process of another user"
        theirs = system_of(process) or Config("its process", Path(process.cwd()), name=config.name)
    except psutil.Error:
        return ""
    if os.path.realpath(theirs.project) == os.path.realpath(config.project) and theirs.name == config.name:
        return ""
    return f"{_named(process)} in {theirs.title}"


def _is_free(address: Address) -> bool:
    try:
        with socket.create_connection((address.host, address.port), timeout=1):
            return False
    except OSError:
        return True


def _listener(address: Address) -> psutil.Process | None:
    """Return the process that listens at an address, the first one of a shared socket.

    Raises `psutil.AccessDenied` if this user may not see it.
    """
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and _overlaps(connection.laddr, address) and connection.pid:
            with contextlib.suppress(psutil.NoSuchProcess):
                return psutil.Process(connection.pid)
    return None


def _named(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"pid {process.pid} ({' '.join(process.cmdline()).strip()[:120]})"
    return f"pid {process.pid}"


def _overlaps(local: tuple[str, int] | tuple[()], address: Address) -> bool:
    """Return whether a listener at `local` accepts connections to the address, or occupies its port."""
    everywhere = {EVERYWHERE, "::"}
    if not local:
        return False
    host, port = local
    mapped = host.removeprefix("::ffff:")  # as a JVM listens
    return port == address.port and bool({host, address.host} & everywhere or mapped == address.host)


def free(count: int, among: Sequence[int] = _PORTS) -> list[int]:
    """Return ports of the loopback interface that are free now.

    They are below the ports that the kernel gives to clients: a client could occupy one before a restart needs it.
    """
    return _first(count, among, lambda _port: True)


def reserve(count: int, apart_from: Collection[int] = ()) -> list[int]:
    """Return free ports, none of `apart_from`, that no other system of this user gets while this process lives.

    Without a reservation another system could choose them before the server binds them. The newest `KEPT` ports that
    this process reserved stay reserved.
    """
    found = _first(count, _PORTS, lambda port: port not in apart_from and port not in _mine and _lock(port))
    _mine.extend(found)
    while len(_mine) > KEPT:
        fcntl.lockf(_locks(), fcntl.LOCK_UN, 1, _mine.popleft())
    return found


def with_own_ports(config: Config, kept: Iterable[str] = ()) -> Config:
    """Return the configuration with free ports for all processes of microq, except those of the keys `kept`.

    Each key is a `table.key`. No other system of this user gets these ports while this process lives, or while the
    system with them runs. Raises `MachineError` if not enough ports are free.
    """
    taken = {address.port for address in started_addresses(config)}
    taken.update(port for view in systems() for port in _ports_of(view))
    return with_addresses(config, block(started_addresses(config, kept), taken))


def _ports_of(view: SystemView) -> set[int]:
    config = Config("its folder", Path(view.folder), name=view.name)
    with contextlib.suppress(MicroqError, OSError):
        config = in_force(config)
    return {address.port for address in started_addresses(config)}


def block(addresses: Sequence[Address], taken: Collection[int]) -> dict[Address, Address]:
    """Return for each address one on the same host with a new port, all from the first block that is entirely free.

    None of the ports is `taken`, and no other system of this user gets one while this process lives.
    """
    for begin in range(_NAMED.start, _NAMED.stop - len(addresses) + 1, _BLOCK):
        found = {old: Address(old.host, port) for port, old in enumerate(addresses, begin)}
        if all(_is_ours(new, taken) for new in found.values()):
            return found
    raise MachineError(
        f"no {len(addresses)} free ports in a row from {_NAMED.start} to {_NAMED.stop - 1}; "
        "`microq ls` shows your systems, `microq down --name NAME` ends one"
    )


def _is_ours(address: Address, taken: Collection[int]) -> bool:
    if address.port in taken or not _lock(address.port):
        return False
    with contextlib.suppress(OSError):
        _bind(address)
        return True
    return False


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
    """Lock the byte that stands for a port; the kernel unlocks it when this process ends in any way."""
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
