"""Real members and brokers at the end of their memory: they refuse before anything is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from support.commands import ask, until
from support.project import Project, make_project

from microq.backends import put_raw
from microq.client import open_session
from microq.errors import DeadlineError, QueueError
from microq.supervisor import control

pytestmark = pytest.mark.usefixtures("engine")

LARGE, SMALL = 200_000, 100

MOST = 200_000
"""Messages after which a system with little memory must have refused one."""


class System:
    """A system that is up, and what it has acknowledged."""

    def __init__(self, project: Project) -> None:
        self.project, self.accepted = project, set[str]()
        self._uncertain = set[str]()
        self._facade = project.config.service_ips.facade_service

    def fill(self, size: int, most: int = MOST) -> str:
        """Send messages of one size until one is refused for lack of memory, and return the reason; empty if none was.

        One that servers or services are too busy for at that moment is refused too, and its turn is over.
        """
        return asyncio.run(self._fill(size, most))

    async def _fill(self, size: int, most: int) -> str:
        async with open_session() as session:
            step = max(1, 500_000 // size)
            for number in range(0, most, step):
                ids = [f"{size}-{len(self.accepted)}-{n}" for n in range(number, min(number + step, most))]
                lines = "".join(json.dumps({"msg": i.ljust(size, "."), "uuid": i}) + "\n" for i in ids)
                async with session.post(f"{self._facade.url}/facade/batch", data=BytesIO(lines.encode())) as response:
                    answers = [json.loads(line) for line in (await response.read()).splitlines()]
                self.accepted |= {each["uuid"] for each in answers if each["code"] == 200}
                # A member that collects its garbage may confirm too late.
                self._uncertain |= {each["uuid"] for each in answers if each["code"] == 504}
                assert {each["code"] for each in answers} <= {200, 503, 504}
                for each in answers:
                    if each["code"] == 503 and "memory" in each["message"]:
                        return str(each["message"])
        return ""

    def kill_the_owner(self) -> str:
        """Kill who holds the queue's primary, of Kafka's brokers the one that leads most."""

        async def kill() -> str:
            async with control.connect(self.project.config) as operator:
                while (owner := (await operator.snapshot()).owner) is None:  # noqa: ASYNC110 - in a failover nobody is
                    await asyncio.sleep(0.1)
                await operator.kill([owner])
                return owner

        return asyncio.run(kill())

    def _all(self, role: str, path: str) -> list[str]:
        places = getattr(self.project.config.service_ips, role)
        return [message["uuid"] for place in places for message in ask(place, "GET", f"{path}?full=true")[1]]

    def loses_nothing(self) -> None:
        """Wait until the queue is empty; see everything acknowledged once, and in the log, and nothing refused."""

        def pending() -> dict[str, Any]:
            found: dict[str, Any] = ask(self._facade, "GET", "/queue")[1]
            return found

        until(lambda: (pending()["size"], pending()["pending"]) == (0, 0), 120)
        shown = self._all("messages_service", "/messages")
        assert len(shown) == len(set(shown))
        assert self.accepted <= set(shown) <= self.accepted | self._uncertain
        assert set(shown) <= set(self._all("logging_service", "/log")) <= self.accepted | self._uncertain


@pytest.fixture(params=["hazelcast", "kafka"])
def little(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[System]:
    """A system with little memory, its consumers off."""
    if request.param == "kafka":
        request.getfixturevalue("kafka_engine")
    extra = f'heap = "40m"\n[queue]\nbackend = "{request.param}"\n[limits]\nmax-body = 262144\n'
    project = make_project(tmp_path, others=3, extra=extra)
    started = project.microq("up", "-d", "--no-messages")
    assert started.returncode == 0, started.stderr
    yield System(project)
    assert project.microq("down").returncode == 0


def test_full_memory_refuses_and_loses_nothing_acknowledged(little: System) -> None:
    # Consumers off.
    assert little.fill(LARGE)
    assert little.fill(SMALL)
    killed = little.kill_the_owner()
    assert little.project.microq("start", "messages").returncode == 0
    little.loses_nothing()
    # What waited has room as what is held, and there is room for more.
    before = len(little.accepted)
    until(lambda: little.fill(LARGE, 3) == "")
    assert len(little.accepted) > before
    assert little.project.microq("start", killed).returncode == 0
    # Consumers on: what is held stays, until there is no room for more.
    assert "memory is" in little.fill(SMALL)
    assert "memory is" in little.fill(LARGE)
    little.kill_the_owner()
    little.loses_nothing()
    states = json.loads(little.project.microq("status", "--json").stdout)["processes"]
    assert [each["name"] for each in states if each["exit_status"] not in (None, -9)] == []


def test_a_member_that_ran_out_of_memory_is_exited_and_says_so(tmp_path: Path) -> None:
    project = make_project(tmp_path, messages=1, others=1, extra='heap = "32m"\n[queue]\nbackup-count = 0\n')
    up = project.microq("up", "-d", "--no-messages")
    assert up.returncode == 0, up.stderr
    try:
        # Past the facade, which would refuse them.
        with pytest.raises((QueueError, DeadlineError)):
            asyncio.run(put_raw(project.config, ["x" * 500_000] * 100))

        def states() -> dict[str, tuple[str, int | None]]:
            found = json.loads(project.microq("status", "--json").stdout)["processes"]
            return {each["role"]: (each["state"], each["exit_status"]) for each in found}

        until(lambda: states()["queue"] == ("exited", 3))
        assert "✗ exited (out of memory)" in project.microq("status").stdout
    finally:
        assert project.microq("down").returncode == 0
