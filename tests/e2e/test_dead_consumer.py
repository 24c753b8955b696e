"""The redelivery on a real system: a consumer is killed with messages in its hands, and poison blocks nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.commands import observed, until
from support.project import Project, make_project

from microq.backends.hazelcast import client as hz
from microq.client import open_session, read_messages
from microq.message import Message
from microq.supervisor import control
from microq.supervisor.control import ControlClient

pytestmark = pytest.mark.usefixtures("engine")

TIMEOUT = 3
"""The visibility timeout, in seconds."""

MANY = 100
"""Messages that two hesitant consumers take some seconds for: until then they hold some."""

SLACK = 10
"""More than the 2 s that are promised once there are consumers: other tests may keep this machine busy."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Iterator[Project]:
    """A system whose consumers hesitate between the queue and the store."""
    extra = f"[queue]\nvisibility-timeout = {TIMEOUT}\n"
    project = make_project(tmp_path_factory.mktemp("redelivery"), others=1, extra=extra)
    started = project.microq("up", "-d", "--no-messages")
    assert started.returncode == 0, started.stderr

    async def hesitate(operator: ControlClient) -> None:
        await operator.sabotage("messages", "hesitant")
        await operator.start(["messages"])

    operate(project, hesitate)
    yield project
    assert project.microq("down").returncode == 0
    assert not project.alive()


def operate(project: Project, act: Callable[[ControlClient], Any]) -> Any:
    async def connected() -> Any:
        async with control.connect(project.config) as operator:
            return await act(operator)

    return asyncio.run(connected())


def stored_at(project: Project) -> float:
    """When the last message was stored, in seconds since the epoch."""

    async def ask() -> list[Message]:
        async with open_session() as session:
            places = project.config.service_ips.messages_service
            return [m for place in places for m in await read_messages(session, place, "/messages")]

    return max(message.at for message in asyncio.run(ask()))


def read(project: Project) -> list[str]:
    done = project.microq("read", "-n", "12", "--json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["messages"])


def queue(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = observed(project)["queue"]
    return found


def test_what_a_killed_consumer_held_arrives_once_and_is_counted(running: Project) -> None:
    texts = [f"held{number}" for number in range(1, MANY + 1)]
    sent = running.microq("send", str(MANY), "--prefix", "held", "--json")
    assert sent.returncode == 0, sent.stderr

    async def kill(operator: ControlClient) -> float:
        killed = time.time()
        await operator.kill(["messages"])
        return killed

    killed = operate(running, kill)
    left = queue(running)
    assert left["size"] < MANY, "the consumers held nothing"
    assert left["pending"] > 0

    async def start(operator: ControlClient) -> None:
        await operator.sabotage("messages", "")
        await operator.start(["messages"])

    operate(running, start)
    started = time.time()
    until(lambda: queue(running)["pending"] == 0, 60)
    shown = read(running)
    print(f"all stored {stored_at(running) - killed:.1f} s after the kill")  # noqa: T201 - the figure of this test
    seconds = stored_at(running) - started
    assert Counter(shown) == Counter(texts)
    assert seconds < TIMEOUT + SLACK
    after = queue(running)
    assert 0 < after["redelivered"] <= MANY
    assert after["dead"] == 0


async def test_poison_is_a_dead_letter_and_later_messages_are_shown(running: Project) -> None:
    async with hz.connect(running.config, "a stranger") as cluster:
        proxy = await cluster.queue(running.config.queue.name)
        await proxy.offer("no envelope of ours \x1b[31m")
        await proxy.offer({"pickled": True})
    assert running.microq("send", "--text", "behind the poison").returncode == 0
    until(lambda: "behind the poison" in read(running))
    until(lambda: queue(running)["dead"] == 2)
    listed = running.microq("dead", "list")
    assert r'"no envelope of ours \x1b[31m"' in listed.stdout
    assert "an item of type -120, not text" in listed.stdout
    assert listed.stdout.count("cannot be replayed") == 2
    refused = running.microq("dead", "replay", json.loads(running.microq("dead", "list", "--json").stdout)[0]["uuid"])
    assert refused.returncode == 2
    dropped = running.microq("dead", "drop", "all")
    assert (dropped.returncode, dropped.stdout) == (0, "Dropped 2 dead letters.\n")
    assert running.microq("dead", "list").stdout == "There are no dead letters.\n"
