"""How far storing is behind accepting, at a rate that is held."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from microq.bench.generator import Generator
from microq.bench.pace import System, milliseconds
from microq.bench.result import Lag
from microq.client import read_messages
from microq.config import Config

SHARE = 0.8
"""Of the highest rate."""

CONNECTIONS = 128
"""Enough that a message does not wait for a connection, but for its time."""


async def lag(
    system: System, session: aiohttp.ClientSession, generator: Generator, config: Config, rate: float, seconds: float
) -> Lag:
    """Send `rate` messages a second, and compare when each was acknowledged with when it was stored.

    Both are wall times of this machine. A message's `at` is when its consumer begins to write its claim: it can be
    shown one write later. Raises `NotRunningError` or `DeadlineError` if a consumer does not tell what it holds.
    """
    held = await system.held()
    sent = await generator.send_spaced(config.service_ips.facade_service, CONNECTIONS, rate, seconds)
    await system.until_stored(held, len(sent.acknowledged))
    shown = [await read_messages(session, each, "/messages") for each in config.service_ips.messages_service]
    stored = {message.id: message.at for messages in shown for message in messages}
    late = lags(sent.acknowledged, stored)
    return Lag(
        asked_per_s=round(rate, 1),
        sent_per_s=round(sent.per_second, 1),
        late_ms=round(sent.late_s * 1000, 1),
        client_cpu=round(sent.client_cpu, 3),
        messages=len(late),
        missing=len(sent.acknowledged) - len(late),
        p50_ms=milliseconds(late, 0.5),
        p99_ms=milliseconds(late, 0.99),
        worst_ms=milliseconds(late, 1),
    )


def lags(acknowledged: Mapping[str, float], stored: Mapping[str, float]) -> list[float]:
    """Return how long after its acknowledgement each message was stored, the shortest first; before it counts as 0."""
    return sorted(max(0.0, stored[each] - at) for each, at in acknowledged.items() if each in stored)
