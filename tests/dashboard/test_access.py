"""Who may do what on the page: a foreign page gets nothing, whoever has no token changes nothing."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.operators import FakeOperator
from support.project import free_ports

from microq.client import open_session
from microq.config import Address, Config, Dashboard
from microq.dashboard.access import HEADER, token_of
from microq.dashboard.server import show_system


@asynccontextmanager
async def shown(folder: Path) -> AsyncIterator[tuple[FakeOperator, Config, aiohttp.ClientSession]]:
    address = Address("127.0.0.1", free_ports(1)[0])
    config = replace(Config("the test", folder), dashboard=Dashboard(address))
    operator = FakeOperator()
    async with show_system(config, operator, folder), open_session() as session:
        yield operator, config, session


async def ask(session: aiohttp.ClientSession, method: str, url: str, body: Any = None, **headers: str) -> int:
    async with session.request(method, url, json=body, headers=headers) as response:
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        assert isinstance(await response.json(), dict)
        return response.status


async def test_a_foreign_host_or_origin_is_refused_even_to_read(tmp_path: Path) -> None:
    async with shown(tmp_path) as (_, config, session):
        url = f"{config.dashboard.address.url}/api/state"
        assert await ask(session, "GET", url) == 200
        assert await ask(session, "GET", url, Origin=config.dashboard.address.url) == 200
        for headers in (
            {"Host": "evil.example"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": f"http://{config.dashboard.address.host}:1"},
            {"Origin": "http://[x"},
        ):
            assert await ask(session, "GET", url, **headers) == 403, headers


async def test_request_without_token_changes_nothing(tmp_path: Path) -> None:
    async with shown(tmp_path) as (operator, config, session):
        url = f"{config.dashboard.address.url}/api/process"
        stop = {"verb": "stop", "names": ["messages-5001"]}
        for given in ({}, {HEADER: ""}, {HEADER: "wrong"}, {HEADER: token_of(config)[:-1]}):
            assert await ask(session, "POST", url, stop, **given) == 403
        assert not operator.asked
        assert await ask(session, "POST", url, stop, **{HEADER: token_of(config)}) == 200
        assert operator.asked == [("stop", ["messages-5001"])]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"verb": "stop"},
        {"verb": "stop", "names": []},
        {"verb": "stop", "names": "all"},
        {"verb": "shut_down", "names": ["all"]},
        {"verb": "stop", "names": ["nobody"]},
    ],
)
async def test_what_makes_no_sense_is_said_and_not_done(tmp_path: Path, body: Any) -> None:
    async with shown(tmp_path) as (operator, config, session):
        url = f"{config.dashboard.address.url}/api/process"
        assert await ask(session, "POST", url, body, **{HEADER: token_of(config)}) == 400
        assert operator.asked in ([], [("stop", ["nobody"])])


def test_the_token_is_made_once_for_this_user_alone(tmp_path: Path) -> None:
    config = Config("the test", tmp_path)
    token = token_of(config)
    assert len(token) > 20
    assert token_of(config) == token
    file = config.folder / "token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("", encoding="ascii")
    assert len(token_of(config)) > 20


@pytest.mark.parametrize(
    ("method", "path", "status", "word"),
    [
        ("GET", "/nowhere", 404, "GET /api/state"),
        ("PUT", "/api/send", 405, "POST"),
        ("POST", "/api/state", 405, "GET, HEAD"),
    ],
)
async def test_a_wrong_call_is_answered_with_the_right_ones(
    tmp_path: Path, method: str, path: str, status: int, word: str
) -> None:
    async with (
        shown(tmp_path) as (_, config, session),
        session.request(method, config.dashboard.address.url + path) as response,
    ):
        text = await response.text()
        assert (response.status, text.endswith("}\n")) == (status, True)
        assert word in json.loads(text)["message"]
        assert status != 405 or word in response.headers["Allow"]


@pytest.mark.parametrize("body", [b"\xff", b"[" * 100_000, b"{", b""])
async def test_a_body_that_is_no_json_is_said(tmp_path: Path, body: bytes) -> None:
    async with shown(tmp_path) as (_, config, session):
        headers = {HEADER: token_of(config), "Content-Type": "application/json; charset=klingon"}
        url = config.dashboard.address.url + "/api/process"
        async with session.post(url, data=body, headers=headers) as response:
            assert (response.status, await response.json()) == (400, {"message": "the body is not JSON"})
