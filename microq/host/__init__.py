"""The host of a running system: the supervisor, and beside it the dashboard that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from microq.config import Config
from microq.dashboard.server import show_system
from microq.engines.provision import Engine
from microq.errors import PortTakenError
from microq.fleet import Detour
from microq.system import ports, session
from microq.system.supervisor import Supervisor
from microq.system.topology import child_environment

DASHBOARD = "the dashboard"


@asynccontextmanager
async def hosting(  # noqa: PLR0913 - what `session.running` needs, and the page
    config: Config,
    engine: Engine | None,
    folder: Path,
    listener: session.Listener,
    ended: asyncio.Event,
    *,
    detours: Sequence[Detour] = (),
    without_page: Callable[[str], None] | None = None,
) -> AsyncIterator[tuple[Supervisor, str]]:
    """Run a system as `session.running` does and show it; yield the supervisor, and the page's address if it has one.

    Where the page's address is taken this is an error, `PortTakenError`, unless `without_page` is to be told why.
    """
    async with session.running(config, engine, folder, listener, ended, detours) as supervisor:
        if not _can_show(config, without_page):
            yield supervisor, ""
            return
        async with show_system(config, supervisor, folder, child_environment(config, folder.name)) as address:
            yield supervisor, address


def _can_show(config: Config, without_page: Callable[[str], None] | None) -> bool:
    if not config.dashboard.enabled:
        return False
    try:
        ports.check(DASHBOARD, config.dashboard.address)
    except PortTakenError as error:
        if without_page is None:
            raise
        without_page(str(error))
        return False
    return True
