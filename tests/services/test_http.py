"""How every service speaks HTTP: whose requests it takes, and what it says to a wrong one."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import socket
from typing import Any

import aiohttp
import pytest
from support.fakes import Caller, FakeMap, FakeQueue, calling, every_service, facade, logging_app
from support.project import free_ports

from microq.client import in_words
from microq.config import Address
from microq.web import is_ours, own_names


async def raw(caller: Caller, method: str, path: str, **options: Any) -> tuple[aiohttp.ClientResponse, str]:
    async with caller.session.request(method, caller.address.url + path, **options) as response:
        return response, await response.text()


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:5080", True),
        ("[::1]:5080", True),
        ("LocalHost", True),
        ("box:5080", True),
        (socket.gethostname(), True),
        ("evil.example:5080", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("[x", False),
    ],
)
def test_only_addresses_and_our_own_names_are_us(host: str, ours: bool) -> None:  # noqa: FBT001 - a case
    assert is_ours(host, own_names(["Box"])) is ours


async def test_a_page_of_another_origin_changes_nothing() -> None:
    async with every_service() as services:
        for role, caller in services.items():
            here = caller.address.url
            for headers in (
                {"Origin": "http://evil.example"},
                {"Origin": "null"},
                {"Origin": "http://127.0.0.1:1"},
                {"Origin": here, "Host": "evil.example"},
                {"Host": f"evil.example:{caller.address.port}"},
            ):
                for path in ("/facade", "/facade/batch", "/dead/drop", "/log"):
                    response, text = await raw(caller, "POST", path, data='{"msg": "a", "uuid": "a"}', headers=headers)
                    assert response.status == 403, (role, path, headers)
                    assert json.loads(text)["status"] == "failure"
                    assert "Access-Control-Allow-Origin" not in response.headers


async def test_request_without_origin_or_from_us_may_send() -> None:
    async with every_service() as services:
        caller = services["facade"]
        port = caller.address.port
        for headers in (
            {},
            {"Origin": caller.address.url},
            {"Host": f"localhost:{port}"},
            {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"},
            {"Host": f"[::1]:{port}"},
        ):
            response, text = await raw(caller, "POST", "/facade", data='{"msg": "a"}', headers=headers)
            assert response.status == 200, (headers, text)


async def test_all_may_read_except_foreign_pages() -> None:
    async with every_service() as services:
        for caller in services.values():
            response, _ = await raw(caller, "GET", "/healthz", headers={"Origin": "http://evil.example"})
            assert response.status == 200
            assert not [name for name in response.headers if name.startswith("Access-Control-")]
            rebound, text = await raw(caller, "GET", "/healthz", headers={"Host": "evil.example"})
            assert (rebound.status, "localhost" in text) == (403, True)


async def answer_to(caller: Caller, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(caller.address.host, caller.address.port)
    writer.write(request)
    said = await reader.read()
    writer.close()
    return said


async def test_an_old_client_that_names_no_host_is_served() -> None:
    async with every_service() as services:
        for caller in services.values():
            assert b" 200 OK" in await answer_to(caller, b"GET /healthz HTTP/1.0\r\n\r\n")


async def test_an_unknown_path_is_answered_with_those_that_there_are() -> None:
    own = {
        "facade": ("POST /facade", "GET /facade/{uuid}", "POST /dead/replay"),
        "logging": ("POST /log", "GET /log", "DELETE /log"),
        "messages": ("GET /messages", "GET /arrivals"),
        "config": ("GET /config/{name}",),
    }
    async with every_service() as services:
        for role, caller in services.items():
            response, text = await raw(caller, "GET", "/nowhere%0a")
            assert (response.status, text.count("\n")) == (404, 1)
            for call in (*own[role], "GET /healthz", "GET /health", "GET /readyz", "GET /metrics", "GET /openapi.json"):
                assert call in json.loads(text)["message"], call


async def test_a_wrong_method_is_answered_with_those_that_are_right() -> None:
    right = {"facade": "/facade", "logging": "/log", "messages": "/messages", "config": "/config/facade-service"}
    async with every_service() as services:
        for role, caller in services.items():
            for path in (right[role], "/healthz"):
                response, text = await raw(caller, "PUT", path)
                allowed = response.headers["Allow"].split(", ")
                assert (response.status, "GET" in allowed, "HEAD" in allowed) == (405, True, True)
                assert response.headers["Allow"] in json.loads(text)["message"]
            assert (await raw(caller, "HEAD", "/healthz"))[0].status == 200


async def test_every_answer_ends_its_line() -> None:
    paths = {
        "facade": ("/facade", "/facade?full=true", "/facade/id", "/queue", "/dead", "/redelivered"),
        "logging": ("/log",),
        "messages": ("/messages", "/arrivals"),
        "config": ("/config/facade-service", "/config/nothing"),
    }
    async with every_service() as services:
        for role, caller in services.items():
            if role == "facade":
                assert (await raw(caller, "POST", "/facade", json={"msg": "a"}))[1].endswith("}\n")
            for path in (*paths[role], "/healthz", "/readyz", "/metrics", "/openapi.json", "/nowhere", "/facade?x=1"):
                _, text = await raw(caller, "GET", path)
                assert text.endswith("\n"), (role, path)
                assert path == "/metrics" or text.count("\n") == 1, (role, path)
            assert (await answer_to(caller, b"no request\r\n\r\n")).endswith(b"}\n")


async def test_a_long_list_ends_its_line_once() -> None:
    queue, log = FakeQueue(), FakeMap()
    async with calling(logging_app(log)) as logging, facade(queue, [logging.address]) as front:
        lines = "".join(json.dumps({"msg": f"{number} " + "x" * 500}) + "\n" for number in range(400))
        await raw(front, "POST", "/facade/batch", data=lines)
        for caller, path in ((logging, "/log"), (front, "/facade")):
            _, text = await raw(caller, "GET", path)
            assert len(text) > 200_000
            assert (text.endswith("\n"), text.count("\n")) == (True, 1)
            json.loads(text)


@pytest.mark.parametrize("path", ["/facade", "/facade/batch", "/dead/drop"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "br"},
        {"Content-Encoding": "zstd"},
        {"Content-Encoding": "rot13"},
        {"Content-Encoding": "gzip, gzip"},
        {"Content-Type": "application/json; charset=klingon"},
        {"Content-Type": "text/plain; charset=iso-8859-1"},
        {"Content-Type": "application/json; charset=base64"},
    ],
)
async def test_an_encoding_that_is_not_supported_is_said(path: str, headers: dict[str, str]) -> None:
    async with every_service() as services:
        caller = services["facade"]
        given = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{given}Content-Length: 12\r\n\r\n"
        said = await answer_to(caller, head.encode() + b'{"msg": "a"}')
        assert b" 415 " in said.partition(b"\r")[0], said
        assert b"is not supported; send" in said
        assert ("Content-Encoding" in headers) is (b"Accept-Encoding: identity, gzip, deflate" in said)


async def test_a_compressed_body_in_utf_8_is_taken() -> None:
    async with every_service() as services:
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json; charset=UTF8"}
        body = gzip.compress('{"msg": "ä"}'.encode())
        response, text = await raw(services["facade"], "POST", "/facade", data=body, headers=headers)
        assert response.status == 200, text


INTERNALS = ("NoneType", "Value error", "dict", "int", "Error", "Exception", "Traceback", "None")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ('{"msg": null}', "null"),
        ('{"msg": 1}', "a number"),
        ('{"msg": 1.5}', "a number"),
        ('{"msg": true}', "true"),
        ('{"msg": ["a"]}', "a list"),
        ('{"msg": {}}', "an object"),
        ('{"message": null}', '"message"'),
        ('{"msg": "a", "uuid": null}', "null"),
        ('{"uuid": "a"}', '"msg" is missing'),
        ('{"msg": ""}', "empty"),
        ('{"msg": "\\ud800"}', "surrogate"),
        ("{msg: hi}", "not JSON"),
        ("[1]", "/facade/batch"),
        ("", "empty"),
        (" \n", "empty"),
    ],
)
async def test_what_is_wrong_with_a_body_is_said_in_words_of_json(body: str, word: str) -> None:
    async with every_service() as services:
        for role, path in (("facade", "/facade"), ("facade", "/facade/batch"), ("logging", "/log")):
            if not body.strip() and path != "/facade":
                continue
            response, text = await raw(services[role], "POST", path, data=body)
            said = json.loads(text)["message"]
            assert json.loads(text).get("code", response.status) == 400
            assert not [internal for internal in INTERNALS if internal in said], said
            assert path != "/facade" or word in said, said
        assert not (await services["facade"].get("/facade"))[1]["logs"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), "connection refused"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "connection reset by peer"),
        (aiohttp.ServerDisconnectedError(), "it closed the connection"),
        (aiohttp.ClientPayloadError("x"), "its answer was cut off"),
        (aiohttp.ServerTimeoutError(), "silent"),
        (TimeoutError(), "silent"),
        (json.JSONDecodeError("x", "", 0), "not an answer of microq"),
        (aiohttp.ClientError(), "the connection broke"),
    ],
)
def test_why_there_is_no_answer_is_said_in_words(error: Exception, words: str) -> None:
    assert in_words(error) == words


async def test_unavailable_service_is_described_without_class_names() -> None:
    async with facade(FakeQueue(), [Address("127.0.0.1", free_ports(1)[0])]) as client:
        status, told = await client.post({"msg": "a"})
        assert status == 503
        assert "cannot be reached (connection refused)" in told["message"]
        assert not [internal for internal in INTERNALS if internal in told["message"]]
