"""Measuring: real services, or a handler that does nothing, under the real load generator."""

from __future__ import annotations

from pathlib import Path

import psutil
from support.commands import ends_with_its_starter
from support.fakes import FakeQueue
from support.inprocess import StuckQueue, in_process

from microq.bench.ceiling import doing_nothing
from microq.bench.generator import generating
from microq.bench.measure import QUEUE, System, by_kind, processor_time
from microq.bench.result import Pace
from microq.client import open_session


async def measured(folder: Path, queue: FakeQueue, patience: float) -> Pace:
    async with in_process(folder, queue=queue) as system, open_session() as session, generating() as generator:
        of = System(session, system.config, by_kind(await system.snapshot()), generator, patience)
        await of.warm(2, 0.1)
        return await of.measure(4, 0.3)


async def test_what_is_stored_is_waited_for(tmp_path: Path) -> None:
    got = await measured(tmp_path, FakeQueue(), 10)
    assert (got.connections, got.failed) == (4, 0)
    assert got.acknowledged > 0
    assert got.stored_per_s
    assert 0 < got.stored_per_s <= got.acknowledged_per_s
    assert got.p50_ms
    assert got.p99_ms
    assert 0 < got.p50_ms <= got.p99_ms
    # The processes of this fake system are no processes.
    assert got.cpu_s[QUEUE] is None


async def test_what_is_never_stored_has_no_rate(tmp_path: Path) -> None:
    got = await measured(tmp_path, StuckQueue(), 0.2)
    assert got.acknowledged > 0
    assert got.stored_per_s is None


async def nothing() -> tuple[float, int]:
    async with doing_nothing() as address, generating() as generator:
        sent = await generator.send(address, 4, 0.2)
        return sent.per_second, address.port


def listens(port: int) -> bool:
    return any(c.laddr.port == port for c in psutil.Process().net_connections() if c.laddr)


async def test_idle_handler_answers_and_is_gone_afterwards() -> None:
    before = psutil.Process().children()  # the process from which the commands of other tests are forked, perhaps
    rate, port = await nothing()
    assert rate > 0
    assert not listens(port)
    assert psutil.Process().children() == before


def test_child_ends_with_its_parent() -> None:
    ends_with_its_starter(STARTER)


STARTER = """
import asyncio, psutil
from microq.bench.ceiling import doing_nothing
async def main():
    async with doing_nothing():
        print(psutil.Process().children()[0].pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def test_the_processor_time_of_what_is_gone_is_unknown() -> None:
    used = processor_time([psutil.Process().pid])
    assert used
    assert used > 0
    assert processor_time([2**22 + 1]) is None
