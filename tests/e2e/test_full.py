"""A real system that is full: what cannot be held waits, what cannot wait is refused, nothing accepted is lost."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from support.commands import ask, command, until
from support.project import Project, free_ports, make_project

from microq.config import Address

pytestmark = pytest.mark.usefixtures("engine")

HELD, WAITING = 20, 10
"""What each of two messages-services may hold, and how many messages the queue may."""

VISIBLE = 4
"""The visibility timeout, in seconds: longer than a consumer on a busy machine takes to store what it has received."""

EXTRA = f"[limits]\nmax-held = {HELD}\n[queue]\nmax-size = {WAITING}\nvisibility-timeout = {VISIBLE}\n"


def accepted(project: Project, message_id: str) -> int:
    """Send a message; return the HTTP status of the answer."""
    body = json.dumps({"msg": f"text of {message_id}", "uuid": message_id}).encode()
    return ask(project.config.service_ips.facade_service, "POST", "/facade", body)[0]


def held(address: Address) -> dict[str, Any]:
    found: dict[str, Any] = ask(address, "GET", "/healthz")[1]
    return found


def test_full_system_refuses_messages_and_loses_none(tmp_path: Path) -> None:
    project = make_project(tmp_path, others=1, extra=EXTRA)
    up = project.microq("up", "-d")
    assert up.returncode == 0, up.stderr
    try:
        consumers = project.config.service_ips.messages_service
        most = HELD * len(consumers) + WAITING
        sent = [f"id-{n}" for n in range(most)]
        for message_id in sent:
            # It may be refused at first: the queue is short, and the consumers are not full yet.
            until(lambda message_id=message_id: accepted(project, message_id) == 200)  # type: ignore[misc]
        assert accepted(project, "one-too-many") == 503
        assert [(each["held"], each["full"]) for each in map(held, consumers)] == [(HELD, True)] * len(consumers)
        # A service that is busy for a moment is unknown in one status.
        until(lambda: "every messages-service is full" in project.microq("status").stdout)
        time.sleep(VISIBLE + 1)  # what waits in the queue is not redelivered, and nothing tells when it would have been

        (port,) = free_ports(1)
        roomy = Address("127.0.0.1", port)
        with command(project, "messages", "--port", str(port), "--set", "limits.max-held=1000") as more:
            more.says("is ready")
            until(lambda: bool(held(roomy)["held"] == WAITING))
            until(lambda: accepted(project, "one-too-many") == 200)
            until(lambda: bool(held(roomy)["held"] == WAITING + 1))
            shown = [
                message["uuid"]
                for place in (*consumers, roomy)
                for message in ask(place, "GET", "/messages?full=true")[1]
            ]
            facade = project.config.service_ips.facade_service
            until(lambda: bool(ask(facade, "GET", "/queue")[1]["size"] == 0))  # None while the servers are busy
            queue = ask(facade, "GET", "/queue")[1]
            more.interrupt()
            assert more.ended() == 0
        assert sorted(shown) == sorted([*sent, "one-too-many"])
        assert (queue["redelivered"], queue["dead"]) == (0, 0)
    finally:
        assert project.microq("down").returncode == 0
