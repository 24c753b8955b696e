"""Traces: one message, one trace, through real services to a real receiver of OTLP; and nothing where it is off."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.fakes import FakeQueue, Stub, serving, until
from support.inprocess import InProcess, in_process

from microq import tracing
from microq.client import open_session
from microq.message import Message

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DEADLINE = 20.0


@dataclass(frozen=True)
class Seen:
    """A span as it came to the receiver, ids in hexadecimal; `failed` if it ended with an error."""

    name: str
    service: str
    instance: str
    trace: str
    id: str
    parent: str
    failed: bool
    message: str


class Receiver:
    """A collector: it takes what OTLP over HTTP sends."""

    def __init__(self, refusals: int = 0) -> None:
        self.spans: list[Seen] = []
        self._refusals = refusals
        self.app = web.Application()
        self.app.router.add_post("/v1/traces", self._take)

    async def _take(self, request: web.Request) -> web.Response:
        if self._refusals:
            self._refusals -= 1
            raise web.HTTPBadRequest
        body = ExportTraceServiceRequest.FromString(await request.read())
        for group in body.resource_spans:
            facts = {fact.key: fact.value.string_value for fact in group.resource.attributes}
            for span in (span for scope in group.scope_spans for span in scope.spans):
                said = {fact.key: fact.value.string_value for fact in span.attributes}
                self.spans.append(
                    Seen(
                        span.name,
                        facts["service.name"],
                        facts["service.instance.id"],
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.status.code == span.status.STATUS_CODE_ERROR,
                        said.get("messaging.message.id", ""),
                    )
                )
        return web.Response(content_type="application/x-protobuf")

    def the(self, name: str) -> Seen:
        (span,) = [span for span in self.spans if span.name == name]
        return span


@asynccontextmanager
async def traced(folder: Path, queue: FakeQueue | None = None) -> AsyncIterator[tuple[InProcess, Receiver]]:
    """A system in this process whose spans have come to the receiver when the block is left."""
    receiver = Receiver()
    async with asyncio.timeout(DEADLINE), serving(receiver.app) as address:
        system = in_process(folder, f'[tracing]\nendpoint = "{address.url}"\n', **({"queue": queue} if queue else {}))
        async with system:
            yield system, receiver


async def send(system: InProcess, body: str, path: str = "/facade", headers: dict[str, str] | None = None) -> int:
    url = system.config.service_ips.facade_service.url
    async with open_session() as session, session.post(url + path, data=body, headers=headers) as response:
        await response.read()
        return response.status


async def test_one_message_is_one_trace_through_every_service(tmp_path: Path) -> None:
    async with traced(tmp_path) as (system, receiver):
        await send(system, '{"msg": "hello", "uuid": "a"}', headers={tracing.HEADER: CLIENT})
        await until(lambda: bool(system.stored.entries))
    the = receiver.the
    assert {span.trace for span in receiver.spans} == {CLIENT[3:35]}
    parents = {
        "POST /facade": CLIENT[36:52],
        "log": the("POST /facade").id,
        "POST /log": the("log").id,
        "queue put": the("POST /facade").id,
        "receive": the("queue put").id,
        "store": the("receive").id,
    }
    assert {span.name: span.parent for span in receiver.spans} == parents
    services = {span.name: span.service for span in receiver.spans}
    assert services["POST /facade"] == services["log"] == services["queue put"] == "facade"
    assert services["POST /log"] == "logging"
    assert services["receive"] == services["store"] == "messages"
    assert the("store").instance.startswith("messages-")
    assert the("POST /facade").message == the("receive").message == "a"
    assert not any(span.failed for span in receiver.spans)


async def test_message_without_header_is_a_new_trace(tmp_path: Path) -> None:
    async with traced(tmp_path) as (system, receiver):
        await send(system, '{"msg": "a"}', headers={tracing.HEADER: "00-nonsense"})
        await send(system, '{"msg": "b"}\n{"msg": "c"}\n', "/facade/batch")
        await until(lambda: len(system.stored.entries) == 3)
    spans = receiver.spans
    assert len({span.trace for span in spans}) == 3
    assert sorted(span.name for span in spans if not span.parent) == [
        "POST /facade",
        "POST /facade/batch",
        "POST /facade/batch",
    ]


async def test_the_log_and_the_store_keep_the_trace_for_a_redelivery(tmp_path: Path) -> None:
    async with traced(tmp_path) as (system, _):
        await send(system, '{"msg": "hello", "uuid": "a"}', headers={tracing.HEADER: CLIENT})
        await until(lambda: bool(system.stored.entries))
        logged, stored = (Message.from_json(held.entries["a"]).trace for held in (system.log, system.stored))
    assert logged[3:35] == stored[3:35] == CLIENT[3:35]


async def test_a_message_that_is_refused_is_seen_to_fail(tmp_path: Path) -> None:
    async with traced(tmp_path, FakeQueue(most=0)) as (system, receiver):
        assert await send(system, '{"msg": "hello"}') == 503
    assert receiver.the("queue put").failed
    assert {span.trace for span in receiver.spans} == {receiver.the("POST /facade").trace}
    assert receiver.the("DELETE /log").parent == receiver.the("POST /facade").id


async def refused(receiver: Receiver | None, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is told of a collector that refuses three times, or is not there, and then takes traces."""
    app = receiver.app if receiver else web.Application()
    async with asyncio.timeout(DEADLINE), serving(app) as address:
        traces = tracing._Live(address.url, "facade-1")
        for _ in range(4):
            with traces.entry("POST /facade"):
                pass
            await asyncio.to_thread(traces._provider.force_flush)
        await traces.close()
    return [record.getMessage() for record in caplog.records if record.name == "microq.tracing"]


async def test_silent_collector_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    (told,) = await refused(None, caplog)
    assert "accepts no traces" in told


async def test_recovered_collector_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    receiver = Receiver(refusals=3)
    first, second = await refused(receiver, caplog)
    assert "accepts no traces" in first
    assert "accepts traces again" in second
    assert len(receiver.spans) == 1


async def test_a_service_ends_soon_though_its_collector_hangs(tmp_path: Path) -> None:
    stub = Stub(hangs=True)
    async with asyncio.timeout(DEADLINE), serving(stub.app) as address:
        traces = tracing.start(address.url, "facade-1")
        for _ in range(2000):
            with traces.entry("POST /facade"):
                pass
        await traces.close()
    assert stub.calls <= 2


def test_what_is_off_records_nothing_and_passes_nothing_on() -> None:
    traces = tracing.start("", "facade-1")
    assert traces is tracing.OFF
    with traces.entry("POST /facade", CLIENT) as span, tracing.span("log"):
        span.set("messaging.message.id", "a")
        tracing.current().set("messaging.message.id", "a")
        assert (tracing.traceparent(), tracing.trace_id(), tracing.headers()) == ("", "", {})


def test_what_is_off_loads_nothing() -> None:
    program = (
        "import sys, microq.services.facade, microq.services.messages\n"
        "heavy = {'opentelemetry', 'requests', 'prometheus_client'}\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        ["00"],
        "",
        "00-nonsense",
        CLIENT.upper(),
        CLIENT + "-more",
        CLIENT + "\n",
        "ff" + CLIENT[2:],
        CLIENT.replace("b7ad6b7169203331", "0" * 16),
        CLIENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        "x" * 100_000,
    ],
)
def test_invalid_traceparent_is_ignored(value: object) -> None:
    assert tracing.checked(value) == ""
    raw = Message("a", "hello", 1.0).to_json()
    assert "trace" not in raw
    assert Message.from_json(json.dumps({**json.loads(raw), "trace": value})) == Message("a", "hello", 1.0)


@given(st.from_regex(r"\A00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]\Z"))
def test_a_traceparent_is_kept_in_the_envelope(value: str) -> None:
    message = Message("a", "hello", 1.0, trace=tracing.checked(value))
    assert Message.from_json(message.to_json()) == message
