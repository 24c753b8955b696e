"""The limits of a service over raw sockets: slow clients, too many of them, and those that must not notice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientTimeout, web
from support.fakes import PLAIN, Caller, FakeMap, FakeQueue, FakeStore, calling, facade, logging_app, serving, until
from support.project import free_ports

from microq.config import Address, Limits
from microq.message import Message
from microq.services import logging

TESTS = Path(__file__).parent.parent

QUICK = Limits(header_timeout=1, read_timeout=1)
HURRIED = replace(PLAIN, limits=QUICK)


@dataclass
class Wire:
    """A connection on which anything may be said."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, *pieces: bytes, pause: float = 0.0) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(pause)

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *rows = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (row.partition(": ") for row in rows)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(status.split()[1]), headers, json.loads(body)

    async def ended(self, seconds: float = 10.0) -> bytes:
        """What still came before the service closed the connection."""
        async with asyncio.timeout(seconds):
            # One that still speaks when the other end is closed is told so by a reset.
            with contextlib.suppress(ConnectionResetError):
                return await self.reader.read()
        return b""


@asynccontextmanager
async def wire(address: Address) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def limited(limits: Limits, entries: FakeMap | None = None) -> AsyncIterator[Address]:
    """A logging-service with these limits."""
    config = replace(PLAIN, limits=limits)
    async with serving(logging.make_app(config, "logging-1", FakeStore(log=entries or FakeMap()).opener())) as address:
        yield address


async def test_slow_headers_are_answered_408_and_connection_closed() -> None:
    async with limited(QUICK) as address, wire(address) as slow:
        began = time.monotonic()
        dripping = asyncio.ensure_future(slow.say(b"GET /log HTTP/1.1\r\n", *[b"X: y\r\n"] * 20, pause=0.2))
        status, headers, body = await slow.answer()
        assert (status, headers["connection"], body["status"]) == (408, "close", "failure")
        assert await slow.ended() == b""
        assert 0.9 < time.monotonic() - began < 4  # what drips takes as long
        dripping.cancel()


async def test_silent_connection_is_closed_without_an_answer() -> None:
    async with limited(QUICK) as address, wire(address) as silent:
        assert await silent.ended() == b""


async def test_later_headers_on_a_connection_have_the_same_limit() -> None:
    async with limited(QUICK) as address, wire(address) as kept:
        await kept.say(b"GET /log HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await kept.answer())[0] == 200
        await kept.say(b"GET /log HT")
        assert (await kept.answer())[0] == 408
        assert await kept.ended() == b""


async def test_a_connection_that_is_idle_between_two_requests_is_kept() -> None:
    async with limited(QUICK) as address, wire(address) as kept:
        for pause in (1.6, 0.0):
            await kept.say(b"GET /log HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await kept.answer())[0] == 200
            await asyncio.sleep(pause)


async def test_slow_body_is_answered_408_and_connection_closed() -> None:
    entries = FakeMap()
    async with limited(QUICK, entries) as address, wire(address) as slow:
        await slow.say(b"POST /log HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        dripping = asyncio.ensure_future(slow.say(*[b"x"] * 40, pause=0.1))
        status, headers, body = await slow.answer()
        assert (status, headers["connection"]) == (408, "close")
        assert "read-timeout" in body["message"]
        dripping.cancel()
        await slow.ended()
        assert not entries.entries


async def test_body_with_wrong_encoding_is_answered_400() -> None:
    async with limited(QUICK) as address, wire(address) as wrong:
        head = b"POST /log HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n"
        await wrong.say(head + b"plain")
        assert (await wrong.answer())[0] == 400


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


BATCH = b"POST /facade/batch HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_batch_may_exceed_read_timeout_while_pieces_come() -> None:
    async with facade(FakeQueue(), [logging_app(FakeMap())], config=HURRIED) as client, wire(client.address) as slow:
        lines = [chunk(b'{"msg": "m%d"}\n' % n) for n in range(12)]
        await slow.say(BATCH, *lines, pause=0.2)
        await slow.say(b"0\r\n\r\n")
        answers = await slow.reader.readuntil(b"\r\n0\r\n\r\n")
        assert answers.count(b'"code": 200') == 12


@pytest.mark.parametrize("end", [b"", b"no chunk\r\n"], ids=["stops", "breaks"])
async def test_cut_off_batch_has_an_outcome_for_each_line_that_came(end: bytes) -> None:
    queue = FakeQueue()
    async with facade(queue, [logging_app(FakeMap())], config=HURRIED) as client, wire(client.address) as slow:
        await slow.say(BATCH, chunk(b'{"msg": "a"}\n{"msg": "b"}\n{"msg":'), end)
        said = (await slow.ended()).decode()
        assert said.count('"code": 200') == 2
        assert '"code": 408, "status": "failure"' in said
        assert len(queue.items) == 2


async def test_batch_is_finished_after_its_sender_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    queue = FakeQueue()
    async with facade(queue, [logging_app(FakeMap())]) as client:
        async with wire(client.address) as gone:
            await gone.say(BATCH, *[chunk(b'{"msg": "m%d"}\n' % n) for n in range(20)])
            await gone.reader.readuntil(b"\r\n\r\n")
        await until(lambda: len(queue.items) == 20)
    assert not [record.getMessage() for record in caplog.records if record.exc_info]


async def test_batch_whose_sender_left_early_logs_no_internal_error(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, tried = web.StreamResponse.prepare, []

    async def late(response: web.StreamResponse, request: web.BaseRequest) -> Any:
        while request.transport:  # noqa: ASYNC110 - until the connection is lost
            await asyncio.sleep(0.01)
        tried.append(request.path)
        return await begin(response, request)

    monkeypatch.setattr(web.StreamResponse, "prepare", late)
    async with facade(FakeQueue(), [logging_app(FakeMap())]) as client:
        async with wire(client.address) as gone:
            await gone.say(BATCH, chunk(b'{"msg": "a"}\n'), b"0\r\n\r\n")
        await until(lambda: "/facade/batch" in tried)
        await asyncio.sleep(0.1)
    assert not [record.getMessage() for record in caplog.records if record.exc_info]


async def test_an_answer_may_take_longer_than_the_limits() -> None:
    class Slow(FakeMap):
        async def values(self) -> list[Any]:
            await asyncio.sleep(1.6)
            return await super().values()

    async with limited(QUICK, Slow()) as address, wire(address) as patient:
        await patient.say(b"GET /log HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await patient.answer())[0] == 200


async def test_one_connection_too_many_is_refused_and_the_others_go_on() -> None:
    async with limited(replace(QUICK, header_timeout=5, max_connections=8)) as address:
        held = [await asyncio.open_connection(address.host, address.port) for _ in range(8)]
        async with wire(address) as refused:
            status, headers, body = await refused.answer()
            assert (status, headers["retry-after"], body["status"]) == (503, "1", "failure")
            assert await refused.ended() == b""
        for reader, writer in held:
            await Wire(reader, writer).say(b"GET /log HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await Wire(reader, writer).answer())[0] == 200
        held[0][1].close()
        await held[0][1].wait_closed()
        await asyncio.sleep(0.05)  # the service hears of it in its own time
        async with wire(address) as welcome:
            await welcome.say(b"GET /log HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await welcome.answer())[0] == 200
        for _, writer in held[1:]:
            writer.close()


SERVE_SLOWLY = """
import asyncio, sys
from support.fakes import FakeMap, logging_app
from microq.config import Address
from microq.services.app import serve

class Slow(FakeMap):
    async def values(self):
        print("asked", flush=True)
        await asyncio.sleep(1)
        return []

serve(logging_app(Slow()), "logging-1", Address("127.0.0.1", int(sys.argv[1])))
"""


async def test_open_request_is_answered_after_two_signals() -> None:
    address = Address("127.0.0.1", free_ports(1)[0])
    words = [sys.executable, "-c", SERVE_SLOWLY, str(address.port)]
    service = await asyncio.create_subprocess_exec(*words, cwd=TESTS, stdout=asyncio.subprocess.PIPE)
    assert service.stdout is not None
    await service.stdout.readuntil(b"is ready")
    while True:
        with contextlib.suppress(OSError):
            async with wire(address) as patient:
                await patient.say(b"GET /log HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await service.stdout.readuntil(b"asked")
                for _ in range(2):
                    service.send_signal(signal.SIGTERM)
                    await asyncio.sleep(0.1)
                assert (await patient.answer())[0] == 200
                break
    assert await service.wait() == 0


async def test_a_thousand_at_once_are_served() -> None:
    entries = FakeMap({"a": Message("a", "hello", 1.0, "logging-1").to_json()})

    async def ask(client: Caller) -> int:
        # The client has all the time there is to connect: it shares one busy loop with the service.
        return (await client.call("GET", "/log", timeout=ClientTimeout(total=None)))[0]

    async with calling(logging_app(entries)) as client:
        assert set(await asyncio.gather(*(ask(client) for _ in range(1000)))) == {200}


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"/log\r\n\r\n",
        b"GET /log HTTP/1.1\r\nno header\r\n\r\n",
        b"POST /log HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST /log HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET /log HTTP/1.1\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
    ],
    ids=["tls", "no-method", "no-colon", "length", "both-lengths", "long-path", "long-header"],
)
async def test_what_is_no_http_is_answered_in_one_line(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        async with limited(QUICK) as address, wire(address) as wrong:
            await wrong.say(data)
            status, _, body = await wrong.answer()
            assert (status, body["status"]) == (400, "failure")
            assert body["message"].isprintable()
            assert await wrong.ended() == b""
    told = [record for record in caplog.records if record.levelname != "DEBUG"]
    assert not [record for record in told if record.exc_info]
    assert [record.getMessage().partition(":")[0] for record in told] == ["400 to invalid HTTP"]


async def test_an_expectation_that_is_no_text_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    async with limited(QUICK) as address, wire(address) as wrong:
        await wrong.say(b"GET /log HTTP/1.1\r\nHost: localhost\r\nExpect: 100-\xaf\xee\r\n\r\n")
        status, _, body = await wrong.answer()
        assert (status, body["message"]) == (417, "invalid HTTP: its Expect is not UTF-8 text")
        assert await wrong.ended() == b""
    assert not [record for record in caplog.records if record.exc_info]


async def test_client_that_leaves_after_expect_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with limited(QUICK) as address:
        with socket.create_connection((address.host, address.port)) as leaving:
            leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            leaving.sendall(b"GET /log HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n")
        async with wire(address) as other:
            await other.say(b"GET /log HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await other.answer())[0] == 200
    assert not [record for record in caplog.records if record.exc_info]
