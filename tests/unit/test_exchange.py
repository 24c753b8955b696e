"""Exchanges with services of other makes: what is sent, what comes back, a line for each thing that does not fit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from support.project import make_project

from microq.client import one_by_one, open_session
from microq.config import Config
from microq.errors import NotRunningError, UnreadableError, UsageError
from microq.exchange import Exchanges, mentioned
from microq.fleet import Role, addresses
from microq.message import Outcome, Receipt
from microq.wire import READY, Call, Wire
from microq.workflows import messages
from microq.workflows.wire import try_wire


@dataclass
class Others:
    """Services of another make in one process: the facade, a logging-service and two messages-services."""

    config: Config
    logs: list[str] = field(default_factory=list)
    shown: list[list[str]] = field(default_factory=lambda: [[], []])
    bodies: list[str] = field(default_factory=list)
    status: int = 200
    answer: Any = field(default_factory=lambda: {"status": "success"})
    copies: int = 1
    joined: bool = False
    kind: str = "text/plain"

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Accept a message whose text is the body."""
        text = await request.text()
        self.bodies.append(text)
        if self.status == 200:
            self.logs.append(text)
            for each in self.shown[: self.copies]:
                each.append(text)
        return web.json_response(self.answer, status=self.status)

    async def read(self, _: web.Request) -> web.StreamResponse:
        if self.joined:
            text = f"{', '.join(self.logs)}; messages: {''.join(self.shown[0])}"
            return web.Response(body=text.encode(), headers={"Content-Type": self.kind})
        return web.json_response({"logs": self.logs, "message": self.shown[0]})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Config]:
        ips = self.config.service_ips
        routes = {ips.facade_service: [web.post("/send", self.send), web.get("/", self.read)]}
        instances = [(each, self.logs) for each in ips.logging_service]
        instances += zip(ips.messages_service, self.shown, strict=True)
        routes |= {each: [web.get("/", showing(texts))] for each, texts in instances}
        runners = []
        try:
            for address, listed in routes.items():
                app = web.Application()
                app.add_routes(listed)
                runners.append(web.AppRunner(app))
                await runners[-1].setup()
                await web.TCPSite(runners[-1], address.host, address.port).start()
            yield self.config
        finally:
            for runner in runners:
                await runner.cleanup()


def showing(texts: list[str]) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.json_response(texts)

    return handler


PATHS = Wire(
    content_type="text/plain",
    body="{text}",
    send=Call("POST", "/send"),
    read=Call("GET", "/"),
    logging=Call("GET", "/"),
    messages=Call("GET", "/"),
)


def others(folder: Path, **wire: Any) -> Others:
    config = make_project(folder, messages=2, others=1).config
    return Others(replace(config, wire=replace(PATHS, **wire)))


async def test_message_goes_through_every_call(tmp_path: Path) -> None:
    theirs = others(tmp_path)
    async with theirs.running() as config:
        tried = await try_wire(config, "hello")
    assert tried.problems == ()
    sent, logging, first, second, facade = tried.exchanges
    assert sent.receipt
    assert sent.receipt.outcome is Outcome.ACKNOWLEDGED
    url = config.service_ips.facade_service.url
    assert sent.request == f"POST {url}/send\nContent-Type: text/plain\n\nhello"
    assert (sent.status, sent.answer) == (200, '{"status": "success"}')
    assert (logging.texts, {first.texts, second.texts}) == (("hello",), {("hello",), ()})  # either may take it
    assert (facade.logs, facade.messages) == (("hello",), ("hello",))
    assert [each.what.split("-")[0] for each in tried.exchanges] == [
        "send",
        "read logging",
        "read messages",
        "read messages",
        "read facade",
    ]


@pytest.mark.parametrize("kind", ["text/plain", "text/html; charset=utf-8", "text/plain; charset=none-such"])
async def test_joined_texts_of_a_facade_are_read(tmp_path: Path, kind: str) -> None:
    theirs = others(tmp_path, read_logs="~^(.*?);", read_messages="~messages: (.*)")
    theirs.joined, theirs.kind = True, kind
    async with theirs.running() as config:
        assert (await try_wire(config)).problems == ()


@pytest.mark.parametrize(
    ("wire", "change", "problems"),
    [
        ({"send": Call("POST", "/facade")}, {}, ["send: expected the status 2xx ([wire] acknowledged), came 404"]),
        ({}, {"status": 500}, ["send: expected the status 2xx ([wire] acknowledged), came 500"]),
        ({"acknowledged_text": "ok"}, {}, ["send: expected an answer that contains 'ok' ([wire] acknowledged-text)"]),
        ({"read_logs": "log"}, {}, ["[wire] read-logs: expected 'log' ('log'), came an object with 'logs', 'message'"]),
        ({"read_messages": "-"}, {}, ['[wire] read-messages: read-messages is "-", so this cannot be seen']),
        ({"messages": Call()}, {}, ["[wire] messages is empty, so this cannot be seen"] * 2),
        ({"logging": Call("GET", "/log")}, {}, ["expected the status 2xx, came 404"]),
        ({}, {"copies": 2}, ["once in all messages-services together, came 2 times"]),
        (
            {},
            {"copies": 0},
            ["messages-services together, came 0 times", "among the messages of the facade"],
        ),
        ({"send": Call()}, {}, ["send: [wire] send is empty"]),
    ],
)
async def test_each_mistake_gets_its_line(
    tmp_path: Path, wire: dict[str, Any], change: dict[str, Any], problems: list[str]
) -> None:
    theirs = replace(others(tmp_path, **wire), **change)
    async with theirs.running() as config:
        tried = await try_wire(config, "hello", 0.1)
    assert len(tried.problems) == len(problems), tried.problems
    for line, problem in zip(tried.problems, problems, strict=True):
        assert problem in line


async def test_logging_services_that_share_no_log_are_named(tmp_path: Path) -> None:
    theirs = others(tmp_path)
    theirs.shown[1] = theirs.logs  # both messages-services show something else
    ips = replace(theirs.config.service_ips, logging_service=theirs.config.service_ips.messages_service)
    config = replace(
        theirs.config, service_ips=replace(ips, messages_service=theirs.config.service_ips.logging_service)
    )
    async with theirs.running():
        theirs.copies = 0
        tried = await try_wire(config, "hello", 0.1)
        shared = replace(config, wire=replace(config.wire, shared_log=False))
        again = await try_wire(shared, "again", 0.1)
    lines = [line for line in tried.problems if "in every logging-service" in line]
    assert len(lines) == 1
    assert "write shared-log = false" in lines[0]
    assert not [line for line in again.problems if "logging-service" in line]


async def test_services_that_do_not_answer_are_said(tmp_path: Path) -> None:
    config = others(tmp_path).config
    tried = await try_wire(config, "hello", 0.1)
    assert len(tried.problems) == 5
    assert all("expected an answer, but nothing listens at 127.0.0.1:" in line for line in tried.problems)
    assert tried.exchanges[0].receipt
    assert tried.exchanges[0].receipt.outcome is Outcome.REJECTED


async def test_answer_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    theirs = others(tmp_path)
    theirs.logs.append("x" * 2000)
    async with theirs.running() as config, open_session() as session:
        exchanges = Exchanges(session, config, 1000)
        found = await exchanges.read(exchanges.names[0])
    assert found.texts is None
    assert found.problem == "expected at most 1000 bytes, came more"


async def test_texts_are_sent_and_read_as_messages_are(tmp_path: Path) -> None:
    theirs = others(tmp_path)
    heard: list[Receipt] = []
    async with theirs.running() as config:
        sent = await messages.send(config, one_by_one(f"msg{n}" for n in range(20)), 4, heard.append)
        (got,) = [each async for each in messages.read(config, 1, None, None)]
        with pytest.raises(UsageError, match="--check needs"):
            await messages.check(config)
        with pytest.raises(UsageError, match="no --limit"):
            await anext(messages.read(config, 1, 5, None))
        blind = replace(config, wire=replace(config.wire, read_logs="log"))
        with pytest.raises(UnreadableError, match="`microq wire` shows each call"):
            await anext(messages.read(blind, 1, None, None))
    assert [receipt.text for receipt in heard] == [f"msg{n}" for n in range(20)]
    assert sent.tally.outcomes == {Outcome.ACKNOWLEDGED: 20}
    assert sorted(message.text for message in got.messages) == sorted(theirs.bodies)
    assert (got.logging_service, got.messages_service) == (None, None)
    with pytest.raises(NotRunningError, match="the facade does not answer"):
        await messages.send(config, one_by_one(["a"]), 1)


def test_log_names_its_texts_in_order(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("took msg2-ab and msg1-ab\nstored msg2-ab\n", encoding="utf-8")
    assert mentioned(log, ["msg1-ab", "msg2-ab", "msg3-ab"]) == ["msg2-ab", "msg1-ab"]
    assert mentioned(tmp_path / "none.log", ["msg1-ab"]) == []


def test_services_of_ours_have_the_ready_wire() -> None:
    config = Config("the test", Path())
    assert config.wire == READY["microq"]
    assert len(addresses(config, Role.LOGGING)) == 3
