"""Malformed requests to the real services: none of them ends, complains, or grows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.commands import forget_unsent
from support.malformed import Places, drawn, say_all, undocumented
from support.project import Project

from microq.client import get_json, open_session
from microq.config import Address
from microq.errors import NotRunningError
from microq.fleet import Role

SERVICES = {Role.FACADE.value, Role.LOGGING.value, Role.MESSAGES.value, Role.CONFIG.value}

PATIENCE = 0.1
"""Seconds in which a real facade has answered."""

MOST_GROWTH = 5 << 20
"""Bytes that a service may have grown by, of which the messages among the nonsense are a part."""

ROUNDS = 6


def status(system: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(system.microq("status", "--json").stdout)
    return found


def services(view: dict[str, Any]) -> dict[str, psutil.Process]:
    return {p["name"]: psutil.Process(p["pid"]) for p in view["processes"] if p["role"] in SERVICES}


def logs(view: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for file in sorted(Path(view["folder"], "logs").glob("*.log")):
        yield file.stem, file.read_text(encoding="utf-8")


async def shower(places: Places, requests: Sequence[tuple[str, bytes]]) -> None:
    assert not undocumented(await say_all(places, requests, PATIENCE))


async def read_all(address: Address) -> None:
    async with open_session() as session:
        for path in ("/log", "/messages"):
            with contextlib.suppress(NotRunningError):
                await get_json(session, address, path)


@pytest.mark.timeout(300)
async def test_malformed_requests_do_not_change_the_system(system: Project) -> None:
    ips = system.config.service_ips
    places = {
        "facade": ips.facade_service,
        "logging": ips.logging_service[0],
        "messages": ips.messages_service[0],
        "config": ips.config_service,
    }
    # Some thousand odd requests fill the caches of the libraries; from then on 20,000 more made no difference.
    await shower(places, drawn(1000, number=1) * 4)
    # So does the first reading of everything that other tests left, in each that may be the one to be asked.
    for address in (*ips.logging_service, *ips.messages_service):
        await read_all(address)
    before = services(status(system))
    # What leaks grows in each round; what the allocator keeps after several large answers at once does not.
    for number in range(2, 2 + ROUNDS):
        warm = {name: process.memory_info().rss for name, process in before.items()}
        await shower(places, drawn(2000, number))
        view = status(system)
        assert {name: p.pid for name, p in services(view).items()} == {name: p.pid for name, p in before.items()}
        growth = {name: process.memory_info().rss - warm[name] for name, process in before.items()}
        print("growth in KiB:", {name: size >> 10 for name, size in growth.items()})  # noqa: T201 - a figure to keep
        if max(growth.values()) < MOST_GROWTH:
            break
    else:
        pytest.fail(f"memory grew in each of {ROUNDS} rounds, at last by {growth}")
    forget_unsent(system)
    for name, text in logs(view):
        assert "Traceback" not in text, name
        assert all(line.replace("\t", "").isprintable() for line in text.split("\n")), name
    assert system.microq("send", "3", "--prefix", "after the shower").returncode == 0
