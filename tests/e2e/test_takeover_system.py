"""A real messages-service that is killed or paused: what it stored is said to be hidden, then shown by the other."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.commands import ask, until
from support.project import Project, make_project

from microq.store import open_store

pytestmark = pytest.mark.usefixtures("engine")

AFTER = 8
"""Seconds until what a silent one stored is taken over: more than it takes to say that it is silent."""

MANY = 60


def shown(project: Project) -> list[str]:
    """What the messages-services that answer show together; one that must not show anything now is no one."""
    found: list[str] = []
    for address in project.config.service_ips.messages_service:
        try:
            status, body = ask(address, "GET", "/messages")
        except OSError:
            continue
        found += body if status == 200 else []
    return found


def held(project: Project) -> list[int]:
    return [ask(address, "GET", "/healthz")[1]["held"] for address in project.config.service_ips.messages_service]


def queue(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = ask(project.config.service_ips.facade_service, "GET", "/queue")[1]
    return found


async def noted(project: Project, name: str) -> int:
    """How many messages a messages-service has noted in its lease."""
    async with open_store(project.config, "the test") as store:
        lease = await store.leases.get(name)
    return lease.held if lease else 0


def test_how_much_a_dead_one_hides_is_said(system: Project) -> None:
    name = f"messages-{system.config.service_ips.messages_service[0].port}"
    before = sum(held(system))
    assert system.microq("send", str(MANY), "--prefix", "hidden").returncode == 0
    until(lambda: sum(held(system)) >= before + MANY)
    # What came after the last renewal of its lease is not counted.
    until(lambda: asyncio.run(noted(system, name)) == held(system)[0])
    share = held(system)[0]
    assert share > 0
    try:
        assert system.microq("kill", name).returncode == 0
        # What the facade cannot read for a moment is unknown then.
        until(lambda: queue(system)["hidden"] == {name: share})
        until(lambda: f"{name} is silent: about" in system.microq("status").stdout)
        until(lambda: f"{name} is silent: about" in system.microq("read", "-n", "1").stderr)
        until(lambda: name in json.loads(system.microq("read", "-n", "1", "--json").stdout)["hidden"])
    finally:
        assert system.microq("start", name).returncode == 0
    until(lambda: queue(system)["hidden"] == {})


def test_messages_of_dead_service_are_shown_once_by_other(tmp_path: Path) -> None:
    project = make_project(tmp_path, others=1, extra=f"[queue]\ntake-over-after = {AFTER}\n")
    up = project.microq("up", "-d")
    assert up.returncode == 0, up.stderr
    try:
        first, second = (f"messages-{each.port}" for each in project.config.service_ips.messages_service)
        texts = [f"kept{number}" for number in range(1, MANY + 1)]
        assert project.microq("send", str(MANY), "--prefix", "kept", "--json").returncode == 0
        until(lambda: sum(held(project)) == MANY)
        share = held(project)[0]
        assert 0 < share < MANY

        assert project.microq("kill", first).returncode == 0
        until(lambda: Counter(shown(project)) == Counter(texts), 60)
        until(lambda: queue(project)["hidden"] == {})
        assert project.microq("start", first).returncode == 0
        assert Counter(shown(project)) == Counter(texts)
        assert held(project) == [0, MANY]

        # The one that has it all is paused, taken for dead, and wakes up.
        assert project.microq("pause", second).returncode == 0
        until(lambda: ask(project.config.service_ips.messages_service[0], "GET", "/healthz")[1]["held"] == MANY, 60)
        assert project.microq("resume", second).returncode == 0
        for _ in range(20):
            assert Counter(shown(project)) == Counter(texts)
        until(lambda: held(project) == [MANY, 0], 60)
        assert Counter(shown(project)) == Counter(texts)
    finally:
        assert project.microq("down").returncode == 0
