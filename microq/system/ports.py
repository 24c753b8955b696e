"""Ports: who holds one that we need, and which ones are free."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from collections.abc import Sequence

import psutil

from microq.config import Address
from microq.errors import MachineError, PortTakenError
from microq.system.records import environment_of, supervised_by

_PORTS = range(10_000, 20_000)


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
    found: list[int] = []
    for port in random.sample(among, len(among)):
        if len(found) == count:
            return found
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    raise MachineError(f"no {count} free ports from {min(among)} to {max(among)}")
