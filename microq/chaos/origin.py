"""Which process opened a connection: a link sees only the port that it comes from."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import psutil

from microq.fleet import Detour

Whose = Callable[[Sequence[Detour], int], Awaitable[str]]
"""Says which process opened a connection, by the port that it comes from; nothing if nobody knows."""


async def by_sockets(detours: Sequence[Detour], port: int) -> str:
    """Look among this process and its children for the one that has the socket; its name is that of its target."""
    return await asyncio.to_thread(_owner, detours, port)


def _owner(detours: Sequence[Detour], port: int) -> str:
    names = {detour.hidden.port: detour.name for detour in detours}
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            found = process.net_connections("tcp")
            listening = [each.laddr.port for each in found if each.status == psutil.CONN_LISTEN]
            opened = {each.laddr.port for each in found if each.raddr and each.laddr.port not in listening}
            if port in opened:
                return next((names[each] for each in listening if each in names), "")
    return ""
