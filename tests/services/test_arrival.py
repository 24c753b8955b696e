"""What has arrived, of services that are real over HTTP: counted by instance, and what is missing named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support.fakes import FakeQueue
from support.inprocess import InProcess, StuckQueue, in_process

from microq.client import FacadeClient, open_session
from microq.config import Config, Queue
from microq.errors import QueueUnavailableError
from microq.fleet import Role
from microq.message import Message
from microq.terminal.messages import arrived
from microq.workflows import messages as arrivals
from microq.workflows.messages import Arrival, arrival

NOW = Queue(visibility_timeout=1)


async def send(system: InProcess, count: int) -> None:
    async with open_session() as session:
        client = FacadeClient(session, system.config.service_ips.facade_service)
        for number in range(1, count + 1):
            assert (await client.send(f"msg{number}")).outcome == "acknowledged"


async def look(config: Config) -> Arrival:
    async with open_session() as session:
        return await arrival(session, replace(config, queue=NOW))


async def left(config: Config) -> int | None:
    async with open_session() as session:
        return await arrivals.waiting(session, config)


def shown(found: Arrival) -> str:
    screen = Console(width=200)
    with screen.capture() as capture:
        screen.print(arrived(found))
    return capture.get()


async def test_all_that_arrived_is_counted_by_instance(tmp_path: Path) -> None:
    async with in_process(tmp_path) as system:
        await send(system, 20)
        found = await look(system.config)
        assert (found.logged, found.arrived, found.whole) == (20, 20, True)
        assert sum(found.by.values()) == 20
        assert list(found.by) == [
            f"messages-{address.port}" for address in sorted(system.config.service_ips.messages_service)
        ]
        assert shown(found).startswith("20 of 20 arrived: messages-")
        assert await left(system.config) is None


async def test_what_waits_in_the_queue_is_missing_and_said(tmp_path: Path) -> None:
    async with in_process(tmp_path, queue=StuckQueue()) as system:
        await send(system, 3)
        found = await look(system.config)
        assert ([m.text for m in found.missing], found.waiting) == (["msg1", "msg2", "msg3"], 3)
        assert "0 of 3 arrived" in shown(found)
        assert "3 missing: msg1, msg2, msg3" in shown(found)
        assert "the queue holds 3" in shown(found)


async def test_waiting_messages_are_shown_with_consumers_off(tmp_path: Path) -> None:
    async with in_process(tmp_path) as system:
        await system.stop([Role.MESSAGES])
        await send(system, 4)
        assert await left(system.config) == 4
        found = await look(system.config)
        assert (dict(found.by), len(found.away), found.whole) == ({}, 2, False)
        assert "no messages-service answers" in shown(found)
        await system.start([Role.MESSAGES])
        assert (await look(system.config)).whole


async def test_size_of_a_queue_busy_for_a_moment_is_found(tmp_path: Path) -> None:
    class BusyAtFirst(FakeQueue):
        asked = 0

        async def size(self) -> int:
            self.asked += 1
            if self.asked == 1:
                raise QueueUnavailableError("busy")
            return await super().size()

    queue = BusyAtFirst()
    async with in_process(tmp_path, queue=queue) as system:
        await system.stop([Role.MESSAGES])
        await send(system, 2)
        queue.asked = 0
        assert await left(system.config) == 2
        assert queue.asked > 1


async def test_what_an_instance_that_is_away_has_is_not_known(tmp_path: Path) -> None:
    async with in_process(tmp_path) as system:
        await send(system, 30)
        assert (await look(system.config)).whole
        gone = f"messages-{system.config.service_ips.messages_service[0].port}"
        await system.stop([gone])
        found = await look(system.config)
        assert (found.away, found.logged) == ([gone], 30)
        assert found.arrived + len(found.missing) == 30
        assert f"{gone} did not answer" in shown(found)


def test_one_that_is_shown_twice_is_no_success() -> None:
    twice = Arrival(2, {"a": 2, "b": 1}, [], [Message("1", "msg1")], [], [], 0)
    assert (twice.arrived, twice.whole) == (2, False)
    assert "1 shown twice: msg1" in shown(twice)


@pytest.mark.parametrize("count", [0, 1])
async def test_a_queue_that_loses_one_is_found_out(count: int, tmp_path: Path) -> None:
    class Losing(FakeQueue):
        async def put(self, messages: list[Message]) -> None:  # type: ignore[override]  # it takes fewer
            await super().put([m for m in messages if m.text != f"msg{7 * count}"])

    async with in_process(tmp_path, "[queue]\nmax-deliveries = 1\nvisibility-timeout = 3600\n", queue=Losing()) as it:
        await send(it, 10)
        found = await look(it.config)
        assert [m.text for m in found.missing] == ["msg7"] * count


def test_what_nobody_tells_of_the_queue_is_no_number() -> None:
    told = shown(Arrival(1, {}, [Message("1", "msg1")], [], ["messages-5001"], [], None))
    assert "the size of the queue is unknown" in told
