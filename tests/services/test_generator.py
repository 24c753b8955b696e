"""The load generator, a real process, against real services and against servers that misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import web
from support.commands import ends_with_its_starter
from support.fakes import FakeQueue
from support.inprocess import in_process

from microq.bench.ceiling import doing_nothing
from microq.bench.experiments import Holding, measure_batch, measure_lag
from microq.bench.generator import Generator, generating
from microq.bench.load import Sent, send_for
from microq.bench.measure import CLIENT, LEAST_FOR_P999, System, measure_level, peaks, sizes
from microq.bench.result import Held, Lag, Level, Lines
from microq.client import open_session
from microq.config import Address
from microq.errors import MachineError, RemoteError

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[Address]:
    serving = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with serving:
        yield Address("127.0.0.1", serving.sockets[0].getsockname()[1])


async def sent_to(handler: Handler, seconds: float = 0.2) -> Sent:
    async with server(handler) as address:
        return await send_for(address, 2, seconds)


async def after(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes) -> None:
    await reader.readuntil(b"}")
    writer.write(answer)


async def test_an_answer_may_come_in_pieces() -> None:
    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await reader.readuntil(b"}")
            for piece in (b"HTTP/1.1 200 OK\r\nContent-", b"Length: 2\r\n\r", b"\n{", b"}"):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)
        writer.close()

    got = await sent_to(slowly, 20.0)  # it ends with the connections
    # The fourth of each connection found it closed.
    assert (got.acknowledged, got.failed) == (6, 2)


async def test_what_is_refused_or_broken_off_is_not_acknowledged() -> None:
    answers = iter([b"HTTP/1.1 503 Away\r\nRetry-After: 0.01\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await after(reader, writer, answer)
        writer.close()

    got = await sent_to(refuse)
    assert got.acknowledged == 0
    assert got.failed >= 3
    assert got.latencies == ()


async def everything(folder: Path) -> tuple[Level, Lines, Lag, Held, Held]:
    async with (
        in_process(folder, queue=FakeQueue(most=100_000)) as running,
        open_session() as session,
        generating() as sender,
        generating() as reader,
        doing_nothing() as nothing,
    ):
        groups = {"here": [psutil.Process().pid], CLIENT: [sender.pid]}
        system = System(session, running.config, groups, sender, 20)
        one = await measure_level(system, nothing, 4, 0.4)
        behind = await measure_lag(system, 100, 0.5)
        many = await measure_batch(system, groups["here"], 300)
        holding = Holding(system, reader, nothing, 0.3)
        await holding.fill(100)  # there are more already
        least = await holding.measure(100)
        await holding.fill(4000)
        await holding.settle()
        return one, many, behind, least, await holding.measure(4000)


async def test_a_real_system_is_measured_in_every_way(tmp_path: Path) -> None:
    one, many, behind, least, most = await everything(tmp_path)
    assert one.ratio
    assert one.ceiling_per_s > 0 < one.pace.acknowledged_per_s
    assert set(one.pace.cpu_s) == {"here", CLIENT}
    assert one.pace.p50_ms
    assert one.pace.p999_ms is None or one.pace.p50_ms <= one.pace.p999_ms
    assert (one.pace.p999_ms is None) == (one.pace.acknowledged < LEAST_FOR_P999)
    assert (many.acknowledged, many.failed) == (300, 0)
    assert many.stored_per_s
    assert many.facade_peak_bytes
    assert many.facade_before_bytes
    assert many.facade_peak_bytes >= many.facade_before_bytes
    assert (behind.messages, behind.missing) == (50, 0)
    assert behind.p50_ms is not None
    assert behind.p99_ms is not None
    assert behind.p50_ms <= behind.p99_ms
    assert (least.fill_per_s, most.fill_per_s is None) == (None, False)
    assert most.reads[0].texts >= 4000
    assert most.reads[0].bytes > least.reads[0].bytes > 0
    assert most.reading_p99_ms
    assert most.idle_p99_ms


async def asked(ask: Callable[[Generator], Awaitable[Any]]) -> Any:
    async with generating() as generator:
        return await ask(generator)


async def test_a_job_that_cannot_be_done_says_why() -> None:
    nobody = Address("127.0.0.1", 1)
    with pytest.raises(RemoteError, match="nothing listens at"):
        await asked(lambda generator: generator.send(nobody, 1, 0.1))
    with pytest.raises(RemoteError, match="/facade broke off"):
        await asked(lambda generator: generator.read(nobody, "/facade"))


async def test_a_generator_that_dies_is_an_error() -> None:
    async def dying(generator: Generator) -> None:
        psutil.Process(generator.pid).kill()
        await generator.send(Address("127.0.0.1", 1), 1, 0.1)

    with pytest.raises(MachineError, match="the load generator ended during 'send'"):
        await asked(dying)


async def test_a_rate_is_kept_whatever_the_answers_take() -> None:
    async def late(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(0.2)
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/facade", late)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = Address("127.0.0.1", runner.addresses[0][1])
    async with generating() as generator:
        enough = await generator.send_spaced(address, 60, 100, 0.3)
        few = await generator.send_spaced(address, 2, 100, 0.3)
    await runner.cleanup()
    assert (len(enough.acknowledged), enough.failed) == (30, 0)
    assert len(few.acknowledged) == 30
    # Two connections answer ten a second: the last one was due after 0.3 s and sent after 2.8 s.
    assert few.late_s > 2 > enough.late_s


@pytest.mark.parametrize(
    "send",
    [
        lambda generator, address: generator.send(address, 2, 0.3),
        lambda generator, address: generator.send_spaced(address, 2, 20, 0.3),
        lambda generator, address: generator.send_lines(address, 5),
    ],
    ids=["rate", "spaced", "lines"],
)
async def test_refusals_are_no_figure(send: Callable[[Generator, Address], Awaitable[Any]]) -> None:
    async def full(request: web.Request) -> web.Response:
        await request.read()
        answer = {"status": "failure", "message": "the members' memory is 75 % full"}
        return web.json_response(answer, status=503, headers={"Retry-After": "0.01"})

    async def full_for_lines(request: web.Request) -> web.StreamResponse:
        answers = web.StreamResponse()
        await answers.prepare(request)
        async for _ in request.content:
            line = {"code": 503, "status": "failure", "message": "the members' memory is 75 % full"}
            await answers.write(json.dumps(line).encode() + b"\n")
        return answers

    app = web.Application()
    app.router.add_post("/facade", full)
    app.router.add_post("/facade/batch", full_for_lines)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = Address("127.0.0.1", runner.addresses[0][1])
    with pytest.raises(MachineError, match=r"of \d+ messages \d+ were not acknowledged: .*memory is 75 % full"):
        await asked(lambda generator: send(generator, address))
    await runner.cleanup()


def test_child_ends_with_its_parent() -> None:
    ends_with_its_starter(STARTER)


STARTER = """
import asyncio
from microq.bench.generator import generating
from microq.config import Address
async def main():
    async with generating() as generator:
        print(generator.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def test_the_memory_of_what_is_gone_is_unknown() -> None:
    groups = {"here": [psutil.Process().pid], "gone": [2**22 + 1]}
    for found in (peaks(groups), sizes(groups)):
        assert found["here"]
        assert found["gone"] is None
